"""One check: called in the right place, in time, once for all who ask."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

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
        self.seen: list[tuple[CheckResult, CheckResult | None]] = []

    def __call__(self, runner: CheckRunner, result: CheckResult, previous: CheckResult | None) -> None:
        assert runner.latest is result
        self.seen.append((result, previous))


def make(check: Callable[[], Any], *, timeout: float = FOREVER, ttl: float = 0.0, **more: Any) -> CheckRunner:
    options = {"critical": True, "groups": frozenset(), "clock": Time(), "on_result": Recorder(), **more}
    return CheckRunner("check", check, timeout=timeout, ttl=ttl, **options)


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
    await make(seen.asynchronous).result()
    assert seen.thread == threading.get_ident()


async def test_a_partial_of_an_async_check_runs_in_the_event_loop() -> None:
    seen = Seen()
    await make(functools.partial(seen.asynchronous)).result()
    assert seen.thread == threading.get_ident()


async def test_an_object_with_an_async_call_runs_in_the_event_loop() -> None:
    check = AsyncCallable()
    await make(check).result()
    assert check.thread == threading.get_ident()


async def test_a_sync_check_runs_in_a_thread() -> None:
    seen = Seen()
    await make(seen.sync).result()
    assert seen.thread not in {0, threading.get_ident()}


async def test_what_a_sync_check_returns_is_awaited_if_it_can_be() -> None:
    seen = Seen()
    result = await make(lambda: seen.asynchronous()).result()
    assert (seen.thread, result.status) == (threading.get_ident(), "healthy")


async def test_a_result_has_the_time_that_it_took() -> None:
    async def check() -> CheckResult:
        return CheckResult("degraded", "slow", duration_ms=-1.0)

    result = await make(check).result()
    assert (result.status, result.message) == ("degraded", "slow")
    assert result.duration_ms >= 0


async def test_raising_means_unhealthy() -> None:
    async def check() -> None:
        raise ConnectionError("postgresql://u:hunter2@db refused")

    result = await make(check).result()
    assert (result.status, result.message) == ("unhealthy", "ConnectionError")
    assert result.detail == "postgresql://******@db refused"


async def test_an_async_check_that_hangs_is_unhealthy_and_cancelled() -> None:
    cancelled = anyio.Event()

    async def check() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    result = await make(check, timeout=0.01).result()
    assert (result.status, result.message) == ("unhealthy", "no answer within 0.01 s")
    assert cancelled.is_set()


async def test_a_check_that_turns_its_cancellation_into_an_error_is_unhealthy() -> None:
    async def check() -> None:
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            raise OSError("interrupted") from error

    result = await make(check, timeout=0.01).result()
    assert (result.status, result.message) == ("unhealthy", "OSError")


async def test_a_sync_check_that_hangs_is_not_called_again_until_it_has_returned() -> None:
    may_end, ended = threading.Event(), threading.Event()
    calls = []

    def check() -> None:
        calls.append(1)
        may_end.wait(10)
        ended.set()

    runner = make(check, timeout=0.5)  # enough for the thread to start
    assert (await runner.result()).message == "no answer within 0.5 s"
    again = await runner.result()
    assert (again.message, again.detail) == ("TimeoutError", "an earlier call has still not returned")
    assert len(calls) == 1
    may_end.set()
    assert await anyio.to_thread.run_sync(ended.wait, 10)
    with anyio.fail_after(10):
        while runner.latest is again or runner.latest.status != "healthy":  # the thread may be on its last line
            await runner.result()
    assert len(calls) == 2


async def test_a_sync_check_whose_asker_was_cancelled_is_called_for_the_next() -> None:
    may_end, started = threading.Event(), threading.Event()
    calls = []

    def check() -> None:
        calls.append(1)
        started.set()
        if len(calls) == 1:
            may_end.wait(10)

    runner = make(check)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runner.result)
        assert await anyio.to_thread.run_sync(started.wait, 10)
        tasks.cancel_scope.cancel()
    assert (await runner.result()).status == "healthy"
    assert len(calls) == 2
    may_end.set()


async def test_a_result_is_good_for_its_ttl() -> None:
    time = Time()
    calls = []
    runner = make(lambda: calls.append(1), ttl=10.0, clock=time)
    first = await runner.result()
    time.now = 9.9
    assert await runner.result() is first
    time.now = 10.0
    await runner.result()
    assert len(calls) == 2


async def test_without_ttl_every_asker_gets_a_new_run() -> None:
    calls = []
    runner = make(lambda: calls.append(1))
    await runner.result()
    await runner.result()
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
            tasks.start_soon(runner.result)
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        may_end.set()
    assert len(calls) == 1


async def test_a_cancelled_asker_stays_cancelled_and_keeps_nothing() -> None:
    recorder = Recorder()
    runner = make(anyio.sleep_forever, on_result=recorder)
    with anyio.move_on_after(0.01) as scope:
        await runner.result()
    assert scope.cancelled_caught
    assert runner.latest is None
    assert recorder.seen == []


async def test_every_run_is_told_with_the_result_before_it() -> None:
    recorder = Recorder()
    answers = iter([True, False])
    runner = make(lambda: next(answers), on_result=recorder)
    first, second = await runner.result(), await runner.result()
    assert recorder.seen == [(first, None), (second, first)]
