"""How late event loops are."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable

import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from asgi_obs.metrics.process import event_loop
from asgi_obs.metrics.process.event_loop import INTERVAL, WINDOW, EventLoops, MeasuredLoop
from asgi_obs.metrics.process.timers import running_loop
from tests.metrics.process.event_loops import (
    DEADLINE,
    FakeClock,
    Run,
    blocked_loop,
    directly,
    in_thread,
    run_asyncio,
    run_trio,
    soon,
    stalls,
    until,
)

both = pytest.mark.parametrize("run", [run_asyncio, run_trio])


def nothing() -> None:
    """On the end of a loop."""


def measure(loops: EventLoops, stall_seconds: float = 0.0, on_end: Callable[[], object] = nothing) -> None:
    loops.measure(running_loop(), stall_seconds, on_end)


def measured(clock: FakeClock, stall_seconds: float = 0.0) -> MeasuredLoop:
    """The running loop, of which the test calls the ticks."""
    return MeasuredLoop(running_loop(), stall_seconds, clock, nothing)


def tick(loop: MeasuredLoop, clock: FakeClock, late: float) -> None:
    clock.now += INTERVAL + late
    loop.tick()


@both
def test_the_lag_is_how_late_the_timer_was_called(run: Run) -> None:
    async def main() -> None:
        clock = FakeClock()
        loop = measured(clock)
        tick(loop, clock, 0.5)
        tick(loop, clock, 0.25)
        assert loop.lag() == 0.5

    run(main)


def test_a_timer_that_is_called_early_is_not_late() -> None:
    async def main() -> None:
        clock = FakeClock()
        loop = measured(clock)
        tick(loop, clock, -0.1)
        assert loop.lag() == 0.0

    run_asyncio(main)


def test_before_the_first_call_there_is_no_lag() -> None:
    async def main() -> None:
        loops = EventLoops()
        assert loops.lag() is None
        measure(loops)
        assert loops.lag() == 0.0

    run_asyncio(main)


@given(st.lists(st.floats(min_value=0, max_value=20, allow_nan=False), max_size=40))
def test_the_lag_is_the_longest_of_the_window(lags: list[float]) -> None:
    async def main() -> None:
        clock = FakeClock()
        loop = measured(clock)
        expected: list[tuple[float, float]] = []
        for late in lags:
            due_at = clock.now + INTERVAL
            tick(loop, clock, late)
            expected.append((clock.now, clock.now - due_at))
            assert loop.lag() == max(seconds for at, seconds in expected if clock.now - at <= WINDOW)

    asyncio.run(main())


def test_a_lag_is_forgotten_after_the_window() -> None:
    async def main() -> None:
        clock = FakeClock()
        loop = measured(clock)
        tick(loop, clock, 3.0)
        clock.now += WINDOW + 0.5
        assert loop.lag() == WINDOW + 0.5 - INTERVAL

    run_asyncio(main)


@both
def test_a_stall_that_goes_on_counts(run: Run) -> None:
    loops = EventLoops()
    with blocked_loop(run, lambda: measure(loops), directly):
        until(lambda: (loops.lag() or 0.0) > 0.1)
        seen = loops.lag() or 0.0
        until(lambda: (loops.lag() or 0.0) > seen)
    assert loops.lag() is None


def test_a_stall_counts_once_however_long_it_lasts() -> None:
    async def main() -> None:
        clock = FakeClock()
        loop = measured(clock, stall_seconds=1.0)
        before = stalls()
        clock.now += 1.0 + INTERVAL
        assert (loop.new_stall(), stalls() - before) == (0.0, 0)
        clock.now += 0.5
        assert (loop.new_stall(), stalls() - before) == (0.5 + 1.0, 1)
        clock.now += 10.0
        assert (loop.new_stall(), stalls() - before) == (0.0, 1)
        loop.tick()
        assert stalls() - before == 1
        clock.now += 2.0
        assert (loop.new_stall(), stalls() - before) == (2.0 - INTERVAL, 2)

    run_asyncio(main)


def test_a_stall_that_nobody_has_seen_is_counted_when_it_ends() -> None:
    async def main() -> None:
        clock = FakeClock()
        loop = measured(clock, stall_seconds=1.0)
        before = stalls()
        tick(loop, clock, 1.5)
        tick(loop, clock, 0.5)
        assert stalls() - before == 1

    run_asyncio(main)


def test_without_a_threshold_nothing_is_a_stall() -> None:
    async def main() -> None:
        clock = FakeClock()
        loop = measured(clock, stall_seconds=0)
        before = stalls()
        clock.now += 1_000_000.0
        assert (loop.new_stall(), loop.lag()) == (0.0, 1_000_000.0 - INTERVAL)
        loop.tick()
        assert stalls() == before

    run_asyncio(main)


def test_the_time_in_which_a_loop_stands_still_is_no_lag() -> None:
    clock = FakeClock()
    loops = EventLoops(clock)
    loop = asyncio.new_event_loop()

    async def start() -> None:
        measure(loops, stall_seconds=0.04)

    async def go_on() -> float | None:
        await soon(lambda: loops.lag() is not None)
        return loops.lag()

    loop.run_until_complete(start())
    (only,) = loops.alive
    assert (loops.lag(), only.overdue()) == (None, 0.0)
    clock.now += 100.0
    assert only.new_stall() == 0.0
    assert loop.run_until_complete(go_on()) == 0.0
    loop.close()
    assert loops.alive == ()


@both
def test_the_timer_of_a_loop_goes_on_by_itself(run: Run) -> None:
    loops = EventLoops()

    async def main() -> None:
        measure(loops, stall_seconds=0.04)
        await soon(loops.lag)

    run(main)
    assert loops.lag() is None


def test_what_a_timer_raises_is_reported(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_obs.errors._last_logged", {})

    async def main() -> None:
        loop = measured(FakeClock())
        monkeypatch.setattr(loop, "pool", None)
        loop.tick()

    with caplog.at_level(logging.ERROR, "asgi_obs"):
        run_asyncio(main)

    assert caplog.messages == ["MeasuredLoop.tick failed; requests are not affected"]


def test_a_loop_is_measured_once() -> None:
    async def main() -> None:
        loops = EventLoops()
        measure(loops)
        first = loops.alive
        measure(loops)
        assert (len(first), loops.alive) == (1, first)

    run_asyncio(main)


def test_of_several_loops_the_longest_lag_and_the_sum_of_threads_are_shown() -> None:
    clock = FakeClock()
    loops = EventLoops(clock)
    leave, other_runs = threading.Event(), threading.Event()

    async def other() -> None:
        measure(loops)
        other_runs.set()
        await soon(leave.is_set)

    async def main() -> None:
        assert loops.read() == {}
        measure(loops)
        with in_thread(lambda: asyncio.run(other())):
            assert other_runs.wait(DEADLINE)
            clock.now += 0.1
            values = loops.read()
            leave.set()
        assert values == {
            "event_loop_lag_seconds": 0.0,
            "thread_pool_threads_busy": 0,
            "thread_pool_threads_limit": 80,
            "thread_pool_tasks_waiting": 0,
        }

    run_asyncio(main)


def test_what_is_forgotten_is_measured_anew() -> None:
    async def main() -> None:
        clock = FakeClock()
        loops = EventLoops(clock)
        measure(loops, stall_seconds=0.04)
        (old,) = loops.alive
        loops.forget()
        assert loops.alive == ()
        measure(loops, stall_seconds=0.04)
        (new,) = loops.alive
        clock.now += 1.0
        await soon(lambda: new.overdue() == 0.0)
        assert (new is old, old.overdue()) == (False, pytest.approx(0.99))

    run_asyncio(main)


@both
def test_the_end_of_a_loop_is_told(run: Run) -> None:
    loops = EventLoops()
    ended: list[str] = []

    async def main() -> None:
        measure(loops, on_end=lambda: ended.append("ended"))
        await checkpoint()

    run(main)
    until_collected(ended)

    assert (ended, loops.alive) == (["ended"], ())


def until_collected(ended: list[str]) -> None:
    gc.collect()
    until(lambda: ended)


def test_many_loops_leave_nothing_behind() -> None:
    loops = EventLoops()
    ended: list[str] = []

    async def main() -> None:
        measure(loops, on_end=lambda: ended.append("ended"))

    for _ in range(100):
        asyncio.run(main())
    until_collected(ended)

    assert (len(ended), loops.alive, len(loops._measured)) == (100, (), 1)


def test_the_module_tells_the_lag_of_this_process() -> None:
    async def main() -> None:
        measure(event_loop.loops)
        assert event_loop.lag() is not None

    run_asyncio(main)
