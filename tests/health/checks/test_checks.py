"""The ready-made checks as a package."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from asgi_obs.health import checks

OPTIONAL = {"httpx", "redis", "sqlalchemy"}


def test_importing_them_loads_no_optional_dependency() -> None:
    program = "import asgi_obs.health.checks, sys; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & OPTIONAL == set()


@pytest.mark.parametrize("name", checks.__all__)
def test_local_are_those_that_the_table_of_the_package_says(name: str) -> None:
    (row,) = (line for line in (checks.__doc__ or "").splitlines() if line.startswith(f"{name} "))
    assert getattr(getattr(checks, name), "local", False) is row.endswith("yes")


@pytest.mark.parametrize("name", checks.__all__)
def test_all_options_are_keyword_only(name: str) -> None:
    parameters = inspect.signature(getattr(checks, name)).parameters.values()
    optional = {
        each.name for each in parameters if each.default is not each.empty and each.kind is not each.KEYWORD_ONLY
    }
    assert optional <= {"path", "port"}  # which are what is asked, as are those without a default
