"""What the tests of the process metrics share: event loops that are blocked for real, and a clock that is set."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import anyio
import trio

from asgi_obs.metrics.catalogue import process_wide

DEADLINE = 20.0

Run: TypeAlias = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


class FakeClock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


async def soon(condition: Callable[[], object]) -> None:
    """Wait for a condition in an event loop, which goes on meanwhile."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        await anyio.sleep(0.001)


def run_asyncio(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


def run_trio(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    trio.run(main)


def stalls() -> float:
    """The stalls that were counted in this process so far."""
    (family,) = process_wide("event_loop_stalls_total").collect()
    return float(next(sample.value for sample in family.samples if sample.name == "event_loop_stalls_total"))


def hold_the_loop(held: threading.Event, release: threading.Event) -> None:
    """What blocks: its name is looked for."""
    held.set()
    assert release.wait(DEADLINE)


@contextmanager
def in_thread(function: Callable[[], object]) -> Iterator[None]:
    """Run a function in a thread, beside the block."""
    failures: list[BaseException] = []

    def call() -> None:
        try:
            function()
        except BaseException as error:  # pragma: no cover - only if a test fails
            failures.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield
    finally:
        thread.join(DEADLINE)
        assert (thread.is_alive(), failures) == (False, [])


@contextmanager
def blocked_loop(
    run: Run, before: Callable[[], object], around: Callable[[Callable[[], None]], Coroutine[Any, Any, None]]
) -> Iterator[None]:
    """A loop in a thread that is blocked inside of the block.

    Args:
        run: Runs a loop.
        before: Called in it first.
        around: Awaited in it; calls what blocks.
    """
    held, release = threading.Event(), threading.Event()

    async def main() -> None:
        before()
        await around(lambda: hold_the_loop(held, release))

    with in_thread(lambda: run(main)):
        assert held.wait(DEADLINE)
        try:
            yield
        finally:
            release.set()


async def directly(block: Callable[[], None]) -> None:
    block()
