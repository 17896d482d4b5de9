"""What is logged and counted of health."""

from __future__ import annotations

import logging
import signal
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from asgi_obs.health import CheckResult, HealthRegistry
from asgi_obs.health.metrics import HealthMetrics

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO, "asgi_obs")
    monkeypatch.setattr("asgi_obs.errors._last_logged", {})


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def answering(*answers: Any, **options: Any) -> tuple[HealthRegistry, CollectorRegistry]:
    """A registry with one check that gives these answers, and its metrics."""
    health, metrics = HealthRegistry(), CollectorRegistry()
    left = iter(answers)
    health.add("database", lambda: next(left), **options)
    health.export(metrics, "shop")
    return health, metrics


def transitions(metrics: CollectorRegistry) -> dict[str, float | None]:
    name = "health_check_transitions_total"
    return {
        status: metrics.get_sample_value(name, {"check": "database", "status": status})
        for status in ("healthy", "degraded", "unhealthy")
    }


def readiness(metrics: CollectorRegistry) -> tuple[float | None, float | None]:
    name = "readiness_transitions_total"
    ready, not_ready = (metrics.get_sample_value(name, {"status": status}) for status in ("ready", "not_ready"))
    return ready, not_ready


async def test_a_change_of_a_check_is_logged_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    health, metrics = answering(True, CheckResult.unhealthy("down", "port 5432"), False, True)
    await health.run()
    assert transitions(metrics) == {"healthy": 0.0, "degraded": 0.0, "unhealthy": 0.0}
    for _ in range(3):
        await health.run()
    assert lines(caplog) == [
        ("WARNING", "health check database is unhealthy, was healthy: down: port 5432"),
        ("INFO", "health check database is healthy, was unhealthy: ok"),
    ]
    assert transitions(metrics) == {"healthy": 1.0, "degraded": 0.0, "unhealthy": 1.0}


async def test_what_a_threshold_holds_back_is_no_change(caplog: pytest.LogCaptureFixture) -> None:
    health, metrics = answering(True, False, True, False, False, failures=2)
    for _ in range(4):
        await health.run()
    assert lines(caplog) == []
    await health.run()
    assert lines(caplog) == [("WARNING", "health check database is unhealthy, was healthy: check failed")]
    assert transitions(metrics)["unhealthy"] == 1.0


async def test_a_change_of_readiness_is_logged_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    health, metrics = answering(True, False, False, True, ttl=0.0)
    assert readiness(metrics) == (0.0, 0.0)
    for _ in range(4):
        await health.ready()
    assert [line for line in lines(caplog) if "readiness" in line[1]] == [
        ("WARNING", "readiness is not_ready, was ready: unhealthy: database"),
        ("INFO", "readiness is ready, was not_ready"),
    ]
    assert readiness(metrics) == (1.0, 1.0)


async def test_a_service_that_begins_as_starting_says_so(caplog: pytest.LogCaptureFixture) -> None:
    health, metrics = answering(True)
    health.set_not_ready("loading the model", state="starting")
    await health.ready()
    await health.ready()
    health.set_ready()
    await health.ready()
    assert lines(caplog) == [
        ("INFO", "readiness is not_ready, was ready: starting: loading the model"),
        ("INFO", "readiness is ready, was not_ready"),
    ]
    assert readiness(metrics) == (1.0, 1.0)


async def test_another_reason_is_not_another_answer(caplog: pytest.LogCaptureFixture) -> None:
    health, metrics = answering(False)
    await health.ready()
    caplog.clear()
    health.set_not_ready("shutting down")
    await health.ready()
    assert lines(caplog) == []
    assert readiness(metrics) == (0.0, 1.0)


async def test_a_signal_handler_logs_nothing_and_the_next_probe_does(caplog: pytest.LogCaptureFixture) -> None:
    health, _ = answering()
    before = signal.signal(signal.SIGUSR2, lambda *_: health.set_not_ready("SIGUSR2"))
    try:
        signal.raise_signal(signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert (health.readiness.reason, lines(caplog)) == ("SIGUSR2", [])
    await health.ready()
    assert lines(caplog) == [("INFO", "readiness is not_ready, was ready: draining: SIGUSR2")]


async def test_a_metric_that_fails_does_not_fail_the_probe(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: HealthMetrics, *args: object) -> None:
        raise RuntimeError("no space for metrics")

    health, metrics = answering(True)
    monkeypatch.setattr(HealthMetrics, "record_run", fail)
    assert (await health.run()).status == "healthy"
    assert lines(caplog) == [("ERROR", "HealthRegistry.metrics failed; requests are not affected")]
    assert metrics.get_sample_value("health_status", {"service": "shop"}) == 1.0


async def test_a_log_that_fails_does_not_fail_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def fail(record: logging.LogRecord) -> bool:
        seen.append(record.getMessage())
        raise RuntimeError("no space for logs")

    health, _ = answering(False)
    logger = logging.getLogger("asgi_obs")
    logger.addFilter(fail)
    try:
        assert not (await health.ready()).ready
    finally:
        logger.removeFilter(fail)
    assert [line.split(" ", 1)[0] for line in seen] == ["health", "HealthRegistry.log", "readiness"]
