"""What the tests of the metrics share."""

from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest


@pytest.fixture(params=["hot", "prometheus_client"])
def registry(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CollectorRegistry:
    """A registry for each test, filled with the lock-free metrics and with those of `prometheus_client`."""
    if request.param == "prometheus_client":
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    return CollectorRegistry()


@pytest.fixture
def samples(registry: CollectorRegistry) -> Callable[..., dict[str, float]]:
    """Called with some prefixes: the lines that begin with one, without creation times and buckets."""

    def read(*prefixes: str) -> dict[str, float]:
        lines = [line for line in generate_latest(registry).decode().splitlines() if line.startswith(prefixes)]
        pairs = [line.rsplit(" ", 1) for line in lines if "_created" not in line and "_bucket" not in line]
        return {series: float(value) for series, value in pairs}

    return read
