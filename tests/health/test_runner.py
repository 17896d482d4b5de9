"""One check: called in the right place, in time, once for all who ask."""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import threading
import weakref
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from asgi_obs.errors import ConfigurationError
from asgi_obs.health.options import CheckOptions
from asgi_obs.health.result import CheckResult
from asgi_obs.health.runner import CheckRunner

pytestmark = pytest.mark.anyio

FOREVER = 60.0


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


class Time:
    """A clock that stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Recorder:
    """What the runner says of its runs."""

    def __init__(self) -> None:
        self.seen: list[tuple[CheckResult, CheckResult, CheckResult | None]] = []

    def __call__(
        self, runner: CheckRunner, result: CheckResult, shown: CheckResult, previous: CheckResult | None
    ) -> None:
        assert runner.shown is shown
        self.seen.append((result, shown, previous))


def make(
    check: Callable[[], Any],
    *,
    clock: Callable[[], float] | None = None,
    on_run: Recorder | None = None,
    timeout: float = FOREVER,
    **options: Any,
) -> CheckRunner:
    return CheckRunner(
        "check",
        check,
        CheckOptions(timeout=timeout, **options),
        clock=clock or Time(),
        on_run=on_run or Recorder(),
    )


async def ask(runner: CheckRunner) -> CheckResult:
    return runner.present() or await runner.start().outcome()


class AsyncCallable:
    def __init__(self) -> None:
        self.thread = 0

    async def __call__(self) -> None:
        self.thread = threading.get_ident()


class Seen:
    """Functions that remember the thread they ran in."""

    def __init__(self) -> None:
        self.thread = 0

    def sync(self) -> None:
        self.thread = threading.get_ident()

    async def asynchronous(self) -> None:
        self.thread = threading.get_ident()


async def test_an_async_check_runs_in_the_event_loop() -> None:
    seen = Seen()
    await ask(make(seen.asynchronous))
    assert seen.thread == threading.get_ident()


async def test_a_partial_of_an_async_check_runs_in_the_event_loop() -> None:
    seen = Seen()
    await ask(make(functools.partial(seen.asynchronous)))
    assert seen.thread == threading.get_ident()


async def test_an_object_with_an_async_call_runs_in_the_event_loop() -> None:
    check = AsyncCallable()
    await ask(make(check))
    assert check.thread == threading.get_ident()


async def test_a_sync_check_runs_in_a_thread() -> None:
    seen = Seen()
    await ask(make(seen.sync))
    assert seen.thread not in {0, threading.get_ident()}


async def test_what_a_sync_check_returns_is_awaited_if_it_can_be() -> None:
    seen = Seen()
    result = await ask(make(lambda: seen.asynchronous()))
    assert (seen.thread, result.status) == (threading.get_ident(), "healthy")


async def test_a_result_has_the_time_that_it_took() -> None:
    async def check() -> CheckResult:
        return CheckResult("degraded", "slow", duration_ms=-1.0)

    result = await ask(make(check))
    assert (result.status, result.message) == ("degraded", "slow")
    assert result.duration_ms >= 0


async def test_raising_means_unhealthy() -> None:
    async def check() -> None:
        raise ConnectionError("postgresql://u:hunter2@db refused")

    result = await ask(make(check))
    assert (result.status, result.message) == ("unhealthy", "ConnectionError")
    assert result.detail == "postgresql://******@db refused"


async def test_an_async_check_that_hangs_is_unhealthy_and_cancelled() -> None:
    cancelled = anyio.Event()

    async def check() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    result = await ask(make(check, timeout=0.01))
    assert (result.status, result.message) == ("unhealthy", "no answer within 0.01 s")
    with anyio.fail_after(10):
        await cancelled.wait()


async def test_what_a_check_makes_of_its_cancellation_changes_nothing() -> None:
    cancelled = anyio.Event()

    async def check() -> None:
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            cancelled.set()
            raise OSError("interrupted") from error

    result = await ask(make(check, timeout=0.01))
    assert (result.status, result.message) == ("unhealthy", "no answer within 0.01 s")
    with anyio.fail_after(10):
        await cancelled.wait()


class Stubborn:
    """An async check that swallows cancellations until it may end."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancellations = 0
        self.may_end = False
        self.ended = anyio.Event()

    async def __call__(self) -> None:
        self.calls += 1
        while not self.may_end:
            try:
                await anyio.sleep(0.01)
            except anyio.get_cancelled_exc_class():
                self.cancellations += 1
        self.ended.set()


async def test_a_check_that_swallows_its_cancellation_is_unhealthy_at_its_timeout() -> None:
    recorder, check = Recorder(), Stubborn()
    assert (await ask(make(check, timeout=0.05, on_run=recorder))).message == "no answer within 0.05 s"
    assert [result.message for result, _, _ in recorder.seen] == ["no answer within 0.05 s"]
    assert not check.ended.is_set()
    check.may_end = True
    with anyio.fail_after(10):
        await check.ended.wait()


async def test_a_check_that_swallows_its_cancellation_is_not_called_again_until_it_has_returned() -> None:
    check = Stubborn()
    runner = make(check, timeout=0.05)
    await ask(runner)
    again = await ask(runner)
    assert (again.status, again.message) == ("unhealthy", "the call before has still not returned")
    check.may_end = True
    with anyio.fail_after(10):
        await check.ended.wait()
    for _ in range(10):  # its task ends
        await anyio.lowlevel.checkpoint()
    assert (await ask(runner)).status == "healthy"
    assert check.calls == 2


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_under_asyncio_a_check_is_cancelled_once() -> None:
    check = Stubborn()
    await ask(make(check, timeout=0.05))
    with anyio.move_on_after(0.05):
        await check.ended.wait()
    assert check.cancellations == 1
    check.may_end = True
    with anyio.fail_after(10):
        await check.ended.wait()


async def test_a_background_check_that_begins_to_swallow_its_cancellation_is_unhealthy() -> None:
    recorder, stubborn = Recorder(), Stubborn()
    answers = iter([anyio.lowlevel.checkpoint, stubborn])
    runner = make(lambda: next(answers)(), period=0.001, timeout=0.05, on_run=recorder)
    assert runner.refresh is not None
    runner.refresh.start()
    with anyio.fail_after(10):
        while len(recorder.seen) < 3:  # noqa: ASYNC110 - what is waited for tells nobody
            await anyio.sleep(0.001)
    assert [result.message for result, _, _ in recorder.seen[:3]] == [
        "ok",
        "no answer within 0.05 s",
        "the call before has still not returned",
    ]
    runner.refresh.stop()
    stubborn.may_end = True
    with anyio.fail_after(10):
        await stubborn.ended.wait()


class Panic(BaseException):
    """What extensions raise that think of nobody who would catch it."""


def raising(error: BaseException, good_calls: int = 0) -> Callable[[], Any]:
    sync = raising_in_thread(error, good_calls)

    async def check() -> None:
        sync()

    return check


def raising_in_thread(error: BaseException, good_calls: int = 0) -> Callable[[], Any]:
    calls = itertools.count()

    def check() -> None:
        if next(calls) >= good_calls:
            raise error

    return check


@pytest.mark.parametrize("make_check", [raising, raising_in_thread])
@pytest.mark.parametrize("error", [Panic("boom"), SystemExit("boom"), GeneratorExit("boom")])
async def test_what_is_no_exception_means_unhealthy_too(make_check, error, caplog) -> None:
    recorder = Recorder()
    result = await ask(make(make_check(error), on_run=recorder))
    assert (result.status, result.message, result.detail) == ("unhealthy", type(error).__name__, "boom")
    assert [shown for _, shown, _ in recorder.seen] == [result]
    gc.collect()  # asyncio speaks of an exception that nobody wanted when its task is gone
    assert caplog.records == []


@pytest.mark.parametrize("make_check", [raising, raising_in_thread])
async def test_a_background_check_that_begins_to_raise_no_exception_is_unhealthy(make_check, caplog) -> None:
    recorder = Recorder()
    runner = make(make_check(Panic("boom"), good_calls=1), period=0.001, on_run=recorder)
    assert runner.refresh is not None
    runner.refresh.start()
    with anyio.fail_after(10):
        while len(recorder.seen) < 3:  # noqa: ASYNC110 - what is waited for tells nobody
            await anyio.sleep(0.001)
    assert [result.message for result, _, _ in recorder.seen[:3]] == ["ok", "Panic", "Panic"]
    assert runner.refresh.is_alive
    runner.refresh.stop()
    assert caplog.records == []


async def test_in_a_thread_nobody_can_interrupt_the_server() -> None:
    assert (await ask(make(raising_in_thread(KeyboardInterrupt())))).message == "KeyboardInterrupt"


def test_an_interruption_of_the_server_goes_on() -> None:
    recorder = Recorder()

    async def main() -> None:
        await ask(make(raising(KeyboardInterrupt()), on_run=recorder))

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    gc.collect()  # asyncio speaks of the task, here and not in another test
    with pytest.raises(KeyboardInterrupt):
        make(local(raising_in_thread(KeyboardInterrupt())), liveness=True).ask()
    assert recorder.seen == []


async def test_a_sync_check_that_hangs_is_not_called_again_until_it_has_returned() -> None:
    may_end = threading.Event()
    calls = []

    def check() -> None:
        calls.append(threading.current_thread())
        may_end.wait(10)

    runner = make(check, timeout=0.5)  # enough for the thread to start
    assert (await ask(runner)).message == "no answer within 0.5 s"
    again = await ask(runner)
    assert (again.status, again.message) == ("unhealthy", "the call before has still not returned")
    assert len(calls) == 1
    may_end.set()
    calls[0].join(10)
    assert (await ask(runner)).status == "healthy"
    assert len(calls) == 2


async def test_a_run_goes_on_when_nobody_waits_any_more() -> None:
    may_end = threading.Event()
    calls = []

    def check() -> None:
        calls.append(1)
        may_end.wait(10)

    runner = make(check)
    for _ in range(3):
        with anyio.move_on_after(0.01) as scope:
            await ask(runner)
        assert scope.cancelled_caught
    may_end.set()
    assert (await ask(runner)).status == "healthy"
    assert len(calls) == 1


async def test_what_a_check_that_raised_had_in_its_hands_is_let_go() -> None:
    class Connection:
        pass

    freed, threads = [], []

    def check() -> None:
        connection = Connection()
        freed.append(weakref.ref(connection))
        threads.append(threading.current_thread())
        raise OSError("gone")

    runner = make(check)
    assert (await ask(runner)).message == "OSError"
    threads[0].join(10)
    gc.collect()
    assert freed[0]() is None
    assert runner.shown is not None


class Garbage:
    """What no check should return."""

    __bool__ = __repr__ = __eq__ = None  # type: ignore[assignment]


async def test_garbage_is_unhealthy() -> None:
    result = await ask(make(Garbage))
    assert (result.status, result.message) == (
        "unhealthy",
        "the check returned Garbage: expected CheckResult, bool or None",
    )


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_check_that_raises_a_cancellation_of_its_own_is_unhealthy() -> None:
    async def check() -> None:
        raise asyncio.CancelledError

    def sync_check() -> None:
        raise asyncio.CancelledError

    assert (await ask(make(check))).message == "the check was cancelled"
    assert (await ask(make(sync_check))).message == "the check was cancelled"


def test_a_run_that_ends_with_its_event_loop_says_nothing_of_the_check() -> None:
    recorder = Recorder()

    async def main() -> None:
        runner = make(anyio.sleep_forever, on_run=recorder)
        runner.start()
        await anyio.lowlevel.checkpoint()

    asyncio.run(main())
    assert recorder.seen == []


async def test_a_local_check_is_called_in_the_event_loop() -> None:
    seen = Seen()
    seen.sync.__func__.local = True
    try:
        await ask(make(seen.sync))
    finally:
        del seen.sync.__func__.local
    assert seen.thread == threading.get_ident()


async def test_a_result_is_good_for_its_ttl() -> None:
    time = Time()
    calls = []
    runner = make(lambda: calls.append(1), ttl=10.0, clock=time)
    first = await ask(runner)
    time.now = 9.9
    assert await ask(runner) is first
    time.now = 10.0
    await ask(runner)
    assert len(calls) == 2


async def test_without_ttl_every_asker_gets_a_new_run() -> None:
    calls = []
    runner = make(lambda: calls.append(1))
    await ask(runner)
    await ask(runner)
    assert len(calls) == 2


async def test_all_who_ask_while_it_runs_share_the_run() -> None:
    calls = []
    may_end = anyio.Event()

    async def check() -> None:
        calls.append(1)
        await may_end.wait()

    runner = make(check)
    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(ask, runner)
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        may_end.set()
    assert len(calls) == 1


async def test_a_cancelled_asker_stays_cancelled() -> None:
    recorder = Recorder()
    runner = make(anyio.sleep_forever, on_run=recorder)
    with anyio.move_on_after(0.01) as scope:
        await ask(runner)
    assert scope.cancelled_caught
    assert runner.shown is None
    assert recorder.seen == []


async def test_every_run_is_told_with_what_was_shown_before() -> None:
    recorder = Recorder()
    answers = iter([True, False, False])
    runner = make(lambda: next(answers), on_run=recorder, failures=2)
    shown = [await ask(runner) for _ in range(3)]
    assert [result.status for result in shown] == ["healthy", "healthy", "unhealthy"]
    assert [(shown, previous) for _, shown, previous in recorder.seen] == [
        (shown[0], None),
        (shown[1], shown[0]),
        (shown[2], shown[1]),
    ]
    assert [result.status for result, _, _ in recorder.seen] == ["healthy", "unhealthy", "unhealthy"]


def local(check: Callable[[], Any]) -> Callable[[], Any]:
    check.local = True  # type: ignore[attr-defined]
    return check


def test_a_local_check_is_asked_on_the_spot_without_an_event_loop() -> None:
    seen = Seen()
    assert make(local(lambda: seen.sync()), liveness=True).ask().status == "healthy"
    assert seen.thread == threading.get_ident()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("no"), "OSError"),
        (SystemExit(3), "SystemExit"),
        (Panic(), "Panic"),
        (GeneratorExit(), "GeneratorExit"),
        (asyncio.CancelledError(), "the check was cancelled"),
    ],
)
def test_a_local_check_that_raises_is_unhealthy(error, message) -> None:
    def check() -> None:
        raise error

    assert make(local(check), liveness=True).ask().message == message


async def coroutine_check() -> None:
    raise AssertionError  # pragma: no cover - never called


@pytest.mark.parametrize("check", [lambda: None, local(coroutine_check), functools.partial(local(coroutine_check))])
def test_liveness_takes_local_checks_only(check) -> None:
    with pytest.raises(ConfigurationError, match=r"liveness=True .* local = True"):
        make(check, liveness=True)


async def test_with_an_initial_status_that_is_shown_until_the_first_run() -> None:
    runner = make(lambda: None, period=FOREVER, initial="degraded")
    assert (runner.shown, runner.has_run) == (CheckResult.degraded("not run yet"), False)
    # Nobody has started the background: whoever asks gets a run.
    assert (await ask(runner)).status == "healthy"
    assert runner.has_run


async def test_who_asks_gets_the_latest_result_of_the_background() -> None:
    calls = []
    runner = make(lambda: calls.append(1), period=FOREVER, initial="degraded")
    assert runner.refresh is not None
    runner.refresh.start()
    assert (await ask(runner)).message == "not run yet"
    with anyio.fail_after(10):
        while not runner.has_run:  # noqa: ASYNC110 - what is waited for tells nobody
            await anyio.sleep(0.001)
    assert [(await ask(runner)).status for _ in range(3)] == ["healthy"] * 3
    assert len(calls) == 1


async def test_without_an_initial_status_the_first_asker_waits_for_the_first_run() -> None:
    calls = []
    runner = make(lambda: calls.append(1), period=FOREVER)
    assert runner.refresh is not None
    runner.refresh.start()
    assert (await ask(runner)).status == "healthy"
    assert len(calls) == 1
    runner.refresh.stop()
    await ask(runner)
    assert len(calls) == 2


def test_one_sync_check_is_not_called_twice_at_once_by_two_event_loops() -> None:
    both, may_end = threading.Barrier(3, timeout=10), threading.Event()
    calls, results = [], []

    def check() -> bool:
        calls.append(1)
        return may_end.wait(10)

    runner = make(check)

    def serve() -> None:
        async def main() -> CheckResult:
            flight = runner.start()
            for _ in range(10):  # the run begins
                await anyio.lowlevel.checkpoint()
            both.wait()
            return await flight.outcome()

        results.append(asyncio.run(main()))

    threads = [threading.Thread(target=serve) for _ in range(2)]
    for thread in threads:
        thread.start()
    both.wait()
    may_end.set()
    for thread in threads:
        thread.join(10)
    assert [result.status for result in results] == ["healthy", "healthy"]
    assert len(calls) == 1
