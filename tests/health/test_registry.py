"""The checks of a service, run together."""

from __future__ import annotations

import asyncio
import os
import threading
import warnings

import anyio
import anyio.lowlevel
import pytest
from prometheus_client import CollectorRegistry, Gauge

from asgi_obs.errors import ConfigurationError
from asgi_obs.health import CheckResult, HealthRegistry
from asgi_obs.health.registry import READINESS
from asgi_obs.health.state import READY, Readiness

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


async def test_checks_that_hang_leave_room_for_the_others() -> None:
    health = HealthRegistry()
    may_end = threading.Event()
    threads = []

    def hang() -> None:
        threads.append(threading.current_thread())
        may_end.wait(20)

    for number in range(20):
        health.add(f"hangs{number}", lambda: hang(), critical=False, timeout=0.1)
    health.add("fine", healthy)
    for _ in range(2):
        report = await health.run()
        assert (report.status, report.checks["fine"].message) == ("degraded", "ok")
    may_end.set()
    for thread in threads:
        thread.join(10)
    assert len(threads) == 20


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


def test_the_options_of_a_check_are_checked() -> None:
    with pytest.raises(ConfigurationError, match="timeout="):
        HealthRegistry().add("database", healthy, timeout=0)


@pytest.mark.parametrize("deadline", [0, -1, float("inf"), float("nan"), True, "5", None])
def test_a_deadline_is_a_time(deadline) -> None:
    with pytest.raises(ConfigurationError, match="deadline="):
        HealthRegistry(deadline=deadline)


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


def test_nobody_makes_a_service_ready_that_is_drained() -> None:
    health = HealthRegistry()
    health.set_not_ready("loading", state="starting")
    health.drain("SIGTERM")
    drained = Readiness("draining", "SIGTERM")
    assert health.readiness == drained
    health.set_ready()
    assert health.readiness == drained
    health.set_not_ready("loading again", state="starting")
    assert health.readiness == drained


def test_what_was_asked_of_a_service_while_it_was_drained_holds_afterwards() -> None:
    health = HealthRegistry()
    health.undrain()
    assert health.readiness == READY
    health.set_not_ready("loading", state="starting")
    health.drain("SIGTERM")
    health.undrain()
    assert health.readiness == Readiness("starting", "loading")
    health.drain("SIGTERM")
    health.set_ready()
    health.undrain()
    assert health.readiness == READY


def test_a_service_is_drained_for_a_reason() -> None:
    with pytest.raises(ConfigurationError, match="reason="):
        HealthRegistry().drain("")


async def test_a_service_that_is_drained_is_not_ready() -> None:
    health = HealthRegistry()
    health.drain("SIGTERM")
    answer = await health.ready()
    assert (answer.ready, answer.state, answer.reason) == (False, "draining", "SIGTERM")


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


def status_in(metrics: CollectorRegistry) -> float | None:
    return metrics.get_sample_value("health_status", {"service": "shop"})


async def test_before_any_check_has_run_the_service_counts_as_healthy() -> None:
    metrics = CollectorRegistry()
    health = HealthRegistry()
    health.add("database", failing, period=60.0, initial="unhealthy")
    health.export(metrics, "shop")
    assert status_in(metrics) == 1.0
    await health.run()
    assert status_in(metrics) == 0.0


async def test_metrics_that_come_later_show_what_is_known() -> None:
    metrics = CollectorRegistry()
    health = HealthRegistry()
    health.add("cache", failing, critical=False)
    await health.run()
    health.export(metrics, "shop")
    assert status_in(metrics) == 0.5


async def test_the_service_status_is_that_of_what_is_shown() -> None:
    metrics = CollectorRegistry()
    health = HealthRegistry()
    health.export(metrics, "shop")
    health.add("database", failing, ttl=60.0)
    answers = iter([True, False, False])
    health.add("cache", lambda: next(answers), failures=2)
    health.group("caches", ["cache"])
    await health.run("caches")
    assert status_in(metrics) == 1.0
    await health.run("caches")
    assert (status_in(metrics), metrics.get_sample_value("health_check_status", {"check": "cache"})) == (1.0, 1.0)
    await health.run()
    assert (status_in(metrics), metrics.get_sample_value("health_check_status", {"check": "cache"})) == (0.0, 0.0)


async def test_a_check_without_an_answer_at_the_deadline_is_unhealthy_and_goes_on() -> None:
    health = HealthRegistry(deadline=0.05)
    may_end = anyio.Event()
    health.add("slow", may_end.wait)
    health.add("fine", healthy)
    report = await health.run()
    assert report.checks["slow"] == CheckResult(
        "unhealthy", "no answer within the deadline of 0.05 s", None, duration_ms=50.0
    )
    assert report.checks["fine"].status == "healthy"
    may_end.set()
    assert (await health.run()).status == "healthy"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_run_that_somebody_cancels_is_unhealthy() -> None:
    health = HealthRegistry()
    began = anyio.Event()

    async def hang() -> None:
        began.set()
        await anyio.sleep_forever()

    health.add("hangs", hang)
    before = asyncio.all_tasks()
    probe = asyncio.create_task(health.run())
    await began.wait()
    for task in asyncio.all_tasks() - before - {probe}:
        task.cancel()
    result = (await probe).checks["hangs"]
    assert (result.status, result.detail) == ("unhealthy", "the run was cancelled")


async def test_it_is_ready_when_it_wants_requests_and_its_checks_are_healthy() -> None:
    health = HealthRegistry()
    health.add("database", healthy)
    health.add("statistics", failing, readiness=False)
    answer = await health.ready()
    assert (answer.ready, answer.status, answer.state, answer.reason) == (True, "healthy", "ready", None)
    assert list(answer.checks) == ["database"]


async def test_it_is_ready_when_degraded() -> None:
    health = HealthRegistry()
    health.add("cache", failing, critical=False)
    answer = await health.ready()
    assert (answer.ready, answer.status) == (True, "degraded")


async def test_it_is_not_ready_when_a_critical_check_is_unhealthy() -> None:
    health = HealthRegistry()
    health.add("database", failing)
    health.add("queue", failing)
    health.add("cache", failing, critical=False)
    health.add("slow", slow)
    answer = await health.ready()
    assert (answer.ready, answer.status, answer.state) == (False, "unhealthy", "ready")
    assert answer.reason == "unhealthy: database, queue"


async def test_while_it_wants_no_requests_no_check_is_asked() -> None:
    health = HealthRegistry()
    calls = []
    health.add("database", lambda: calls.append(1))
    health.set_not_ready("loading", state="starting")
    answer = await health.ready()
    assert (answer.ready, answer.status, answer.state, answer.reason) == (False, "unhealthy", "starting", "loading")
    assert (answer.checks, calls) == ({}, [])


async def test_a_service_that_begins_to_leave_while_its_checks_run_is_not_ready() -> None:
    health = HealthRegistry()

    @health.check("database")
    async def database() -> None:
        health.set_not_ready("shutting down")

    answer = await health.ready()
    assert (answer.ready, answer.state, answer.reason) == (False, "draining", "shutting down")


class Local:
    """A check of this process alone, which counts its calls."""

    local = True

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.calls = 0
        self.thread = 0

    def __call__(self) -> object:
        self.calls += 1
        self.thread = threading.get_ident()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


def test_a_process_without_checks_of_liveness_is_alive() -> None:
    health = HealthRegistry()
    health.add("database", failing)
    assert (health.live().status, health.live().checks) == ("healthy", {})


def test_liveness_asks_its_own_checks_on_the_spot() -> None:
    health = HealthRegistry()
    heartbeat = Local(True, False, OSError("no"))
    health.add("heartbeat", heartbeat, liveness=True)
    health.add("database", failing)
    reports = [health.live() for _ in range(3)]
    assert [report.status for report in reports] == ["healthy", "unhealthy", "unhealthy"]
    assert [list(report.checks) for report in reports] == [["heartbeat"]] * 3
    assert reports[2].checks["heartbeat"].message == "OSError"
    assert heartbeat.thread == threading.get_ident()


def test_a_check_of_liveness_has_thresholds_and_a_ttl_too() -> None:
    now = [0.0]
    health = HealthRegistry(clock=lambda: now[0])
    heartbeat = Local(True, False)
    health.add("heartbeat", heartbeat, liveness=True, failures=2, ttl=10.0)
    seen = []
    for now[0] in (0.0, 5.0, 10.0, 20.0):
        seen.append(health.live().status)
    assert (seen, heartbeat.calls) == (["healthy", "healthy", "healthy", "unhealthy"], 3)


async def test_liveness_answers_while_checks_hang_and_raise_and_leaves_nothing_behind() -> None:
    class BrokenError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    async def broken() -> None:
        raise BrokenError

    may_end = threading.Event()
    threads = []

    def hang() -> None:
        threads.append(threading.current_thread())
        may_end.wait(20)

    health = HealthRegistry()
    health.add("hangs", hang, timeout=0.3)
    health.add("sleeps", anyio.sleep_forever, timeout=0.3)
    health.add("broken", broken)
    health.add("heartbeat", Local(True), liveness=True)
    reports, alive = [], []

    async def probe() -> None:
        reports.append(await health.run())

    async def live() -> None:
        alive.append(health.live().status)

    async with anyio.create_task_group() as tasks:
        for _ in range(200):
            tasks.start_soon(probe)
            for _ in range(5):
                tasks.start_soon(live)
    assert alive == ["healthy"] * 1000
    assert {report.status for report in reports} == {"unhealthy"}
    assert reports[0].checks["broken"].message.endswith("BrokenError")
    may_end.set()
    for thread in threads:
        thread.join(10)
    assert [thread.is_alive() for thread in threads] == [False]


async def test_the_background_runs_the_checks_with_a_period_only() -> None:
    health = HealthRegistry()
    calls = []
    called = anyio.Event()

    @health.check("database", period=60.0)
    async def database() -> None:
        calls.append("database")
        called.set()

    health.add("cache", lambda: calls.append("cache"))
    health.start()
    health.start()
    with anyio.fail_after(10):
        await called.wait()
    await health.run()
    await health.run()
    assert calls == ["database", "cache", "cache"]
    health.stop()
    await health.run()
    assert calls[3:] in (["database", "cache"], ["cache", "database"])


def test_without_checks_in_the_background_no_event_loop_is_needed() -> None:
    health = HealthRegistry()
    health.add("database", healthy)
    health.start()
    health.stop()
    health.add("cache", healthy, period=1.0)
    with pytest.raises(RuntimeError):
        health.start()


def test_one_registry_serves_several_event_loops_one_after_the_other_and_at_once() -> None:
    health = HealthRegistry()
    health.add("database", healthy, period=60.0)
    health.add("cache", slow)
    statuses = []

    def serve() -> None:
        async def main() -> None:
            health.start()
            statuses.append((await health.ready()).status)

        asyncio.run(main())

    for _ in range(2):
        threads = [threading.Thread(target=serve) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert statuses == ["degraded"] * 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_registry_that_was_used_before_a_fork_is_usable_behind_it() -> None:
    may_end = threading.Event()
    health = HealthRegistry()
    health.add("hangs", lambda: may_end.wait(20), timeout=0.05)
    assert asyncio.run(health.run()).status == "unhealthy"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on: there are threads
        child = os.fork()
    if child == 0:  # pragma: no cover - in the child, where nothing is measured
        may_end.set()
        os._exit(0 if asyncio.run(health.run()).status == "healthy" else 1)
    may_end.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
