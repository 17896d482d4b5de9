"""Sinks that a test can break, and what they have been given."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from prometheus_client import Counter

from asgi_obs.metrics.catalogue import process_wide

DEADLINE = 20.0
"""Seconds after which what is waited for fails the test."""

FULL = OSError(errno.ENOSPC, "No space left on device")
STALLED = BlockingIOError(errno.EAGAIN, "nobody reads")


class Lines:
    """Keeps the lines; raises `error` in place of that as long as there is one."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, Exception]] = []
        self.lines: list[str] = []
        self.error: Exception | None = None
        self.before_write: Callable[[], object] = lambda: None
        self.has_room = threading.Event()
        self.closed = 0
        self.forgotten = 0

    def write(self, line: str) -> None:
        self.before_write()
        if self.error is not None:
            raise self.error
        self.lines += line.split("\n")

    def wait(self, seconds: float) -> None:
        self.has_room.wait(seconds)

    def forget(self) -> None:
        self.forgotten += 1

    def close(self) -> None:
        self.closed += 1

    def recover(self) -> None:
        self.error = None
        self.has_room.set()


def announce(lost: int) -> str:
    return f"lost {lost}"


def dropped() -> float:
    """The lines that were dropped in this process so far."""
    counter: Counter = process_wide("log_records_dropped_total")
    return next(
        sample.value for family in counter.collect() for sample in family.samples if sample.name[-6:] == "_total"
    )


def in_child(function: Callable[[], object]) -> None:
    """Call a function in a process that is forked, and wait for its end."""
    pid = os.fork()
    if pid == 0:  # pragma: no cover - in the child, which must not go on as another test run
        code = 1
        with suppress(BaseException):
            function()
            code = 0
        os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
