"""What blocks an event loop, while it does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from asgi_obs import CorrelationIdMiddleware
from asgi_obs.exchange import Exchange, current_exchange
from asgi_obs.metrics.process import watchdog
from asgi_obs.metrics.process.event_loop import EventLoops
from asgi_obs.metrics.process.timers import running_loop
from asgi_obs.metrics.process.watchdog import MAX_FRAMES, StallWatchdog
from asgi_obs.types import Message, Receive, Scope, Send
from tests.metrics.process.event_loops import (
    FakeClock,
    Run,
    blocked_loop,
    directly,
    run_asyncio,
    run_trio,
    stalls,
    until,
)

both = pytest.mark.parametrize("run", [run_asyncio, run_trio])

STALL = 0.05


class Lines(logging.Handler):
    """Keeps the records, and the exchange that they belong to."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[Any] = []
        self.exchanges: list[Exchange | None] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.exchanges.append(current_exchange())


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    logger = logging.getLogger("asgi_obs")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


class Watched:
    """Event loops and their watchdog, which looks when it is asked to."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.loops = EventLoops()
        self.watchdog = StallWatchdog(self.loops, self.clock)

    def measure(self) -> None:
        self.loops.measure(running_loop(), STALL, lambda: None)

    def look_until(self, condition: Callable[[], object]) -> None:
        until(lambda: (self.watchdog.look(), condition())[1])

    def see_a_stall(self, run: Run = run_asyncio) -> None:
        before = stalls()
        with blocked_loop(run, self.measure, directly):
            self.look_until(lambda: stalls() > before)


async def receive() -> Message:  # pragma: no cover - nobody asks
    return {"type": "http.disconnect"}


async def send(message: Message) -> None:  # pragma: no cover - nobody answers
    pass


@both
def test_it_logs_where_the_loop_is_blocked(run: Run, lines: Lines) -> None:
    Watched().see_a_stall(run)

    (record,) = lines.records
    assert (record.levelno, record.getMessage()) == (logging.WARNING, "event loop blocked for more than 0.05 s")
    assert record.blocked_seconds >= STALL
    assert [place.rpartition(" ")[2] for place in record.stack if "event_loops.py" in place][-4:] == [
        "main",
        "directly",
        "<lambda>",
        "hold_the_loop",
    ]
    assert lines.exchanges == [None]


def test_a_place_is_a_file_with_line_and_function(lines: Lines) -> None:
    Watched().see_a_stall()

    place = next(place for place in lines.records[0].stack if place.endswith(" hold_the_loop"))
    path, _, rest = place.rpartition(":")
    number, function = rest.split(" ")
    assert (path.endswith("event_loops.py"), number.isdigit(), function) == (True, True, "hold_the_loop")


def test_the_line_has_the_correlation_id_of_the_request(lines: Lines) -> None:
    watched = Watched()
    before = stalls()

    async def request(block: Callable[[], None]) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            block()

        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"x-correlation-id", b"abc-1")]}
        await CorrelationIdMiddleware(app)(scope, receive, send)

    with blocked_loop(run_asyncio, watched.measure, request):
        watched.look_until(lambda: stalls() > before)

    (exchange,) = lines.exchanges
    assert exchange is not None
    assert exchange.correlation_id == "abc-1"


def test_of_a_deep_stack_the_innermost_calls_are_shown(lines: Lines) -> None:
    watched = Watched()
    before = stalls()

    def deep(depth: int, block: Callable[[], None]) -> None:
        if depth:
            deep(depth - 1, block)
        else:
            block()

    async def around(block: Callable[[], None]) -> None:
        deep(2 * MAX_FRAMES, block)

    with blocked_loop(run_asyncio, watched.measure, around):
        watched.look_until(lambda: stalls() > before)

    stack = lines.records[0].stack
    assert (len(stack), stack[0].rpartition(" ")[2]) == (MAX_FRAMES, "deep")


def test_it_counts_every_stall_and_logs_one_in_a_minute(lines: Lines) -> None:
    watched = Watched()
    before = stalls()
    logged = []
    for seconds in (0.0, 59.0, 1.0):
        watched.clock.now += seconds
        watched.see_a_stall()
        logged.append(len(lines.records))

    assert (logged, stalls() - before) == ([1, 1, 2], 3)


def test_behind_a_fork_it_may_log_again(lines: Lines) -> None:
    watched = Watched()
    watched.see_a_stall()
    watched.watchdog.after_fork()
    watched.see_a_stall()

    assert len(lines.records) == 2


def test_it_looks_again_when_there_may_be_a_stall() -> None:
    watched = Watched()
    waits = []

    async def main() -> None:
        watched.measure()
        waits.append(watched.watchdog.look())

    assert watched.watchdog.look() == float("inf")
    run_asyncio(main)
    with blocked_loop(run_asyncio, watched.measure, directly):
        watched.look_until(lambda: watched.loops.alive[0].overdue() > STALL)
        waits.append(watched.watchdog.look())

    assert waits == [STALL, STALL]


def test_a_thread_that_has_ended_has_no_stack(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    monkeypatch.setattr(watchdog.sys, "_current_frames", dict)
    before = stalls()
    watched.see_a_stall()

    assert (lines.records, stalls() - before) == ([], 1)
