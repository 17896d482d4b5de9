"""The checks of a service, run together."""

from __future__ import annotations

import asyncio
import logging
import threading

import anyio
import anyio.lowlevel
import pytest
from prometheus_client import CollectorRegistry, Gauge

from asgi_obs.errors import ConfigurationError
from asgi_obs.health import CheckResult, HealthRegistry
from asgi_obs.health.metrics import HealthMetrics
from asgi_obs.health.registry import READINESS

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


def healthy() -> bool:
    return True


def failing() -> bool:
    return False


async def slow() -> CheckResult:
    return CheckResult.degraded("slow")


async def test_a_service_without_checks_is_healthy() -> None:
    report = await HealthRegistry().run()
    assert (report.status, report.checks) == ("healthy", {})


@pytest.mark.parametrize(
    ("check", "critical", "status"),
    [
        (healthy, True, "healthy"),
        (failing, True, "unhealthy"),
        (failing, False, "degraded"),
        (slow, True, "degraded"),
    ],
)
async def test_the_report_has_the_status_of_the_service(check, critical, status) -> None:
    health = HealthRegistry()
    health.add("fine", healthy)
    health.add("other", check, critical=critical)
    assert (await health.run()).status == status


async def test_checks_are_reported_in_the_order_they_were_added() -> None:
    health = HealthRegistry()
    for name in ("zebra", "ape", "lion"):
        health.add(name, slow)
    assert list((await health.run()).checks) == ["zebra", "ape", "lion"]


async def test_checks_run_at_the_same_time() -> None:
    health = HealthRegistry()
    here, there = anyio.Event(), anyio.Event()

    @health.check("a")
    async def first() -> None:
        here.set()
        await there.wait()

    @health.check("b")
    async def second() -> None:
        there.set()
        await here.wait()

    assert (await health.run()).status == "healthy"


async def test_sync_checks_run_at_the_same_time() -> None:
    health = HealthRegistry()
    both = threading.Barrier(2, timeout=10)
    health.add("a", lambda: both.wait() >= 0)
    health.add("b", lambda: both.wait() >= 0)
    assert (await health.run()).status == "healthy"


async def test_a_check_that_hangs_does_not_keep_the_others_from_answering() -> None:
    health = HealthRegistry()
    health.add("hangs", anyio.sleep_forever, timeout=0.01)
    health.add("raises", lambda: 1 // 0)
    health.add("fine", healthy)
    report = await health.run()
    assert [result.status for result in report.checks.values()] == ["unhealthy", "unhealthy", "healthy"]


async def test_readiness_asks_its_own_checks_only() -> None:
    health = HealthRegistry()
    calls = []
    health.add("database", healthy)
    health.add("statistics", lambda: calls.append(1), readiness=False)
    assert list((await health.run(READINESS)).checks) == ["database"]
    assert calls == []
    assert list((await health.run()).checks) == ["database", "statistics"]


async def test_a_hundred_probes_at_once_run_a_check_with_a_ttl_once() -> None:
    health = HealthRegistry()
    calls = []
    reports = []

    @health.check("database", ttl=60.0)
    async def database() -> None:
        calls.append(1)
        await anyio.lowlevel.checkpoint()

    async def probe() -> None:
        reports.append(await health.run())

    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(probe)
    assert [report.status for report in reports] == ["healthy"] * 100
    assert len(calls) == 1


async def test_a_cancelled_probe_is_cancelled_and_the_other_one_answered() -> None:
    health = HealthRegistry()
    began, may_end = anyio.Event(), anyio.Event()
    reports = []
    impatient = anyio.CancelScope()

    @health.check("database")
    async def database() -> None:
        began.set()
        await may_end.wait()

    async def first() -> None:
        with impatient:
            await health.run()

    async def second() -> None:
        reports.append(await health.run())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first)
        await began.wait()
        tasks.start_soon(second)
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        impatient.cancel()
        may_end.set()
    assert impatient.cancelled_caught
    assert [report.status for report in reports] == ["healthy"]


def test_a_task_that_is_cancelled_while_it_probes_stays_cancelled() -> None:
    async def main() -> asyncio.Task[object]:
        health = HealthRegistry()
        began = asyncio.Event()

        async def hang() -> None:
            began.set()
            await asyncio.Event().wait()

        health.add("hangs", hang)
        task = asyncio.create_task(health.run())
        await began.wait()
        task.cancel()
        await asyncio.wait([task])
        return task

    assert asyncio.run(main()).cancelled()


def test_a_check_that_is_cancelled_by_what_it_waits_for_is_unhealthy() -> None:
    async def main() -> None:
        health = HealthRegistry()

        async def waits() -> None:
            other = asyncio.create_task(asyncio.Event().wait())
            other.cancel()
            await other

        health.add("waits", waits)
        health.add("fine", healthy)
        report = await health.run()
        assert report.checks["waits"].message == "the check was cancelled"
        assert report.checks["fine"].status == "healthy"

    asyncio.run(main())


def test_the_decorated_function_stays_as_it_is() -> None:
    health = HealthRegistry()

    def check() -> bool:
        raise AssertionError  # pragma: no cover - never called

    assert health.check("database")(check) is check


async def test_the_decorator_passes_its_options_on() -> None:
    health = HealthRegistry()
    calls = []

    @health.check("database", critical=False, readiness=False, timeout=0.01, ttl=60.0)
    async def database() -> None:
        calls.append(1)
        await anyio.sleep_forever()

    report = await health.run()
    assert (report.status, report.checks["database"].message) == ("degraded", "no answer within 0.01 s")
    assert (await health.run(READINESS)).checks == {}
    await health.run()
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "x" * 101, None, 'a"b\n', "a\n"])
def test_a_name_that_cannot_be_one_is_refused(name) -> None:
    with pytest.raises(ConfigurationError, match="name="):
        HealthRegistry().add(name, healthy)


def test_a_name_is_given_once() -> None:
    health = HealthRegistry()
    health.add("database", healthy)
    with pytest.raises(ConfigurationError, match="a name that no other check has"):
        health.add("database", healthy)


def test_a_check_must_be_callable() -> None:
    with pytest.raises(ConfigurationError, match="check="):
        HealthRegistry().add("database", True)  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), True, "5", None])
def test_a_timeout_is_a_time(timeout) -> None:
    with pytest.raises(ConfigurationError, match="timeout="):
        HealthRegistry().add("database", healthy, timeout=timeout)


@pytest.mark.parametrize("ttl", [-0.1, float("inf"), float("nan"), False, "5", None])
def test_a_ttl_is_a_time(ttl) -> None:
    with pytest.raises(ConfigurationError, match="ttl="):
        HealthRegistry().add("database", healthy, ttl=ttl)


def test_a_service_is_ready_from_the_beginning() -> None:
    assert HealthRegistry().readiness.state == "ready"


def test_a_service_can_leave_and_come_back() -> None:
    health = HealthRegistry()
    health.set_not_ready("shutting down")
    assert (health.readiness.state, health.readiness.reason) == ("draining", "shutting down")
    health.set_not_ready("loading", state="starting")
    assert (health.readiness.state, health.readiness.reason) == ("starting", "loading")
    health.set_ready()
    assert (health.readiness.state, health.readiness.reason) == ("ready", None)


async def test_a_change_of_a_check_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "asgi_obs")
    health = HealthRegistry()
    answers = iter([True, CheckResult.unhealthy("down", "port 5432"), False, True])
    health.add("database", lambda: next(answers))
    for _ in range(4):
        await health.run()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "health check database is unhealthy, was healthy: down: port 5432"),
        ("INFO", "health check database is healthy, was unhealthy: ok"),
    ]


async def test_the_health_metrics_say_what_the_checks_found() -> None:
    metrics = CollectorRegistry()
    health = HealthRegistry()
    answers = iter([True, False, False])
    critical = iter([True, True, False])
    health.add("cache", lambda: next(answers), critical=False)
    health.add("database", lambda: next(critical))
    health.export(metrics, "shop")
    seen = []
    for _ in range(3):
        await health.run()
        seen.append(
            (
                metrics.get_sample_value("health_status", {"service": "shop"}),
                metrics.get_sample_value("health_check_status", {"check": "cache"}),
                metrics.get_sample_value("health_check_status", {"check": "database"}),
                metrics.get_sample_value("health_check_duration_seconds_count", {"check": "database"}),
            )
        )
    assert seen == [(1.0, 1.0, 1.0, 1.0), (0.5, 0.0, 1.0, 2.0), (0.0, 0.0, 0.0, 3.0)]


async def test_a_probe_of_some_checks_leaves_the_others_in_the_service_status() -> None:
    metrics = CollectorRegistry()
    health = HealthRegistry()
    health.export(metrics, "shop")
    health.add("database", healthy)
    health.add("statistics", failing, readiness=False)
    await health.run()
    await health.run(READINESS)
    assert metrics.get_sample_value("health_status", {"service": "shop"}) == 0.0


async def test_two_metrics_registries_are_both_served_and_each_once() -> None:
    first, second = CollectorRegistry(), CollectorRegistry()
    health = HealthRegistry()
    health.add("database", healthy)
    for metrics in (first, second, first):
        health.export(metrics, "shop")
    await health.run()
    for metrics in (first, second):
        assert metrics.get_sample_value("health_check_duration_seconds_count", {"check": "database"}) == 1.0


def test_a_foreign_metric_of_our_name_is_said_at_start_up() -> None:
    metrics = CollectorRegistry()
    Gauge("health_status", "of another library", registry=metrics)
    with pytest.raises(ConfigurationError):
        HealthRegistry().export(metrics, "shop")


async def test_a_metric_that_fails_does_not_fail_the_probe(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: HealthMetrics, *args: object) -> None:
        raise RuntimeError("no space for metrics")

    monkeypatch.setattr(HealthMetrics, "record", fail)
    monkeypatch.setattr("asgi_obs.errors._last_logged", {})
    health = HealthRegistry()
    health.export(CollectorRegistry(), "shop")
    health.add("database", healthy)
    assert (await health.run()).status == "healthy"
    assert "HealthRegistry.metrics failed" in caplog.text
