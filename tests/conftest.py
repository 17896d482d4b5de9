"""What every test gets."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Behind everything else: the installed asgi_obs is tested, `tests` and `examples` are found here.
sys.path.append(str(ROOT))

pytest_plugins = ["tests.postgres"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
