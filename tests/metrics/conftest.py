"""What the tests of the metrics share."""

from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from asgi_obs import OperationMetrics, errors


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


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The places whose errors have been reported."""
    places: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [places.append])
    return places


@pytest.fixture
def ops(registry: CollectorRegistry) -> OperationMetrics:
    return OperationMetrics("memory_service", registry=registry)


@pytest.fixture
def totals(registry: CollectorRegistry) -> Callable[..., tuple[float, float, float, float]]:
    """Called with an operation: how many have ended, were timed, have failed, and are in progress."""

    def read(operation: str = "store_input") -> tuple[float, float, float, float]:
        names = (
            "operations_total",
            "operation_duration_seconds_count",
            "operation_errors_total",
            "operations_in_progress",
        )
        samples = [sample for family in registry.collect() for sample in family.samples]
        ended, timed, failed, running = (
            sum(
                sample.value
                for sample in samples
                if sample.name == f"memory_service_{name}" and sample.labels["operation"] == operation
            )
            for name in names
        )
        return ended, timed, failed, running

    return read
