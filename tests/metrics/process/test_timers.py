"""What an event loop calls again and again."""

from __future__ import annotations

import asyncio
import gc
import sys
from contextvars import ContextVar
from weakref import ref

import anyio
import pytest

from asgi_obs.metrics.process.timers import Timer, running_loop, start_timer
from tests.metrics.process.event_loops import DEADLINE, Run, run_asyncio, run_trio, soon

both = pytest.mark.parametrize("run", [run_asyncio, run_trio])

request_id: ContextVar[str] = ContextVar("request_id", default="none")


@both
def test_a_timer_calls_until_it_is_stopped(run: Run) -> None:
    calls: list[str] = []

    async def main() -> None:
        request_id.set("of the request")
        timer = start_timer(0.001, lambda: calls.append(request_id.get()))
        await soon(lambda: len(calls) >= 3)
        timer.stop()
        before = calls.copy()
        others: list[str] = []
        start_timer(0.001, lambda: others.append("another timer"))
        await soon(lambda: len(others) >= 3)
        assert (calls, set(calls)) == (before, {"none"})

    run(main)


@both
def test_a_timer_ends_with_its_loop(run: Run) -> None:
    timers: list[Timer] = []
    states: list[tuple[bool, bool]] = []

    async def main() -> None:
        timers.append(start_timer(DEADLINE, lambda: None))
        states.append((timers[0].alive, timers[0].running))
        await anyio.sleep(0.001)

    run(main)
    states.append((timers[0].alive, timers[0].running))

    assert states == [(True, True), (False, False)]


def test_a_loop_that_stands_still_may_go_on() -> None:
    loop = asyncio.new_event_loop()

    async def start() -> Timer:
        return start_timer(DEADLINE, lambda: None)

    timer = loop.run_until_complete(start())
    states = [(timer.alive, timer.running)]
    loop.close()
    states.append((timer.alive, timer.running))

    assert states == [(True, False), (False, False)]


def test_a_timer_does_not_keep_a_loop_alive() -> None:
    async def main() -> tuple[Timer, ref[object]]:
        return start_timer(DEADLINE, lambda: None), ref(asyncio.get_running_loop())

    timer, loop = asyncio.run(main())
    gc.collect()

    assert (loop(), timer.alive, timer.running) == (None, False, False)


def test_each_loop_is_told_apart() -> None:
    seen: list[object] = []

    async def main() -> None:
        seen.append(running_loop())
        seen.append(running_loop())

    run_asyncio(main)
    run_trio(main)

    assert [seen[0] is seen[1], seen[2] is seen[3], seen[1] is seen[2], None in seen] == [True, True, False, False]


@pytest.mark.parametrize("imported", [True, False])
def test_outside_of_a_loop_there_is_none(imported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not imported:
        monkeypatch.delitem(sys.modules, "trio")

    assert running_loop() is None
