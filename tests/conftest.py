"""What every test gets."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgi_obs.metrics.catalogue import CATALOGUE, SHIPPED

ROOT = Path(__file__).parents[1]

# Behind everything else: the installed asgi_obs is tested, `tests` and `examples` are found here.
sys.path.append(str(ROOT))

pytest_plugins = ["tests.postgres"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def only_shipped() -> Iterator[None]:
    """A catalogue without what other tests have declared; nor will it have what this one declares."""
    before = dict(CATALOGUE)
    CATALOGUE.clear()
    CATALOGUE.update(SHIPPED)
    yield
    CATALOGUE.clear()
    CATALOGUE.update(before)
