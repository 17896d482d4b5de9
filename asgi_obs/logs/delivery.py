"""Delivery: how a line gets from the call that logs it to a sink, and what becomes of one that does not.

`Direct` writes a line before the call that logs it returns, so that nothing is lost when the process is killed;
`asgi_obs.logs.queued` leaves it to a thread. What is lost is counted, and announced in a line of its own as soon as
one can be written again. Costs a lock.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol
from weakref import WeakSet

from asgi_obs.errors import report
from asgi_obs.metrics.catalogue import process_wide

__all__ = ["DROPPED", "MAX_HELD", "Delivery", "Direct", "Sink", "renew_in_children"]

MAX_HELD: Final = 10_000
"""Lines to be kept that wait for a sink which has failed."""

DROPPED: Final = process_wide("log_records_dropped_total")


class Sink(Protocol):
    """Where lines are written; called by one thread at a time, but for `wait`.

    Attributes:
        problems: What failed without keeping a line from being written, and where; removed when it is reported.
    """

    problems: list[tuple[str, Exception]]

    def write(self, line: str) -> None:
        """Write a line, which has no line break at its end.

        Raises:
            BlockingIOError: It would have to wait; nothing was written.
            Exception: It cannot be written.
        """

    def wait(self, seconds: float) -> None:
        """Wait until a line can be written, or for so long."""

    def forget(self) -> None:
        """In a process that was forked: leave what has begun to the one before."""

    def close(self) -> None:
        """Let go of what is open; a line that comes yet opens it again."""


class Delivery(Protocol):
    """The way of lines to a sink. Nothing here raises."""

    def deliver(self, line: str, *, keep: bool = False) -> None:
        """Write a line, now or soon, or count it as lost.

        Args:
            line: The line, without a line break at its end.
            keep: Hold it rather than lose it, up to `MAX_HELD` of them.
        """

    def lose(self) -> None:
        """Count a line that was never made."""

    def flush(self) -> bool:
        """Write all that waits; returns whether that was possible."""
        ...

    def drain(self) -> None:
        """Write all that waits, and from now on every line before the call that logs it returns."""

    def run(self, action: Callable[[], object], *, wait: bool = True) -> bool:
        """Do something between two lines.

        Args:
            action: What to do.
            wait: For the end of a line that another thread is writing.

        Returns:
            Whether it was done: not in the middle of a line that this very thread is writing.
        """
        ...

    def close(self) -> None:
        """Write all that waits, say what is lost, close the sink."""

    def after_fork(self) -> None:
        """In a process that was forked: start anew, for what waits is up to the one before."""


class Direct:
    """Writes lines one by one, in the thread that logs.

    Args:
        sink: Where they are written.
        announce: Makes the line that says how many were lost.
        component: The name for reports.
    """

    def __init__(self, sink: Sink, announce: Callable[[int], str], component: str) -> None:
        self.sink = sink
        self._announce = announce
        self._component = component
        self._start_anew()
        renew_in_children(self)

    def _start_anew(self) -> None:
        self._lock = threading.RLock()
        self._busy = False
        self._held: deque[str] = deque()
        self._lost = 0

    def after_fork(self) -> None:
        """Start anew: what waits, and what is to be announced, is up to the parent."""
        self._start_anew()
        self.sink.forget()

    def deliver(self, line: str, *, keep: bool = False) -> None:
        """Write a line; hold it or count it if that fails."""
        error = self.attempt(line)
        if error is not None:
            self.give_up(line, error, keep=keep)

    def attempt(self, line: str) -> Exception | None:
        """Write a line, behind those that had to wait; returns the error if it was not written."""
        notice = self._notice() if self._lost else None
        with self._lock:
            if self._busy:
                # A signal handler logs in the middle of a write: its line comes next.
                self._hold(line)
                return None
            self._busy = True
            try:
                if self._held:
                    self._write_held()
                self._write(notice, line)
            except Exception as error:  # noqa: BLE001 - fail open: a full disk is not the caller's fault
                return error
            finally:
                self._busy = False
        if self._held or self.sink.problems:
            self._follow_up()
        return None

    def give_up(self, line: str, error: Exception, *, keep: bool) -> None:
        """Hold a line that was not written, or count it; report why, outside of the lock, for that logs too."""
        with self._lock:
            if keep:
                self._hold(line)
            else:
                self.lose()
        report(self._component, error)

    def lose(self) -> None:
        """Count a line, and have it announced."""
        DROPPED.inc()
        self.note(1)

    def note(self, lost: int) -> None:
        """Have lines announced that were counted already."""
        with self._lock:
            self._lost += lost

    def settle(self) -> bool:
        """Write what is held and announce what is lost, if that is possible now; returns whether it was."""
        notice = self._notice() if self._lost else None
        with suppress(Exception):  # counted already, or held on
            self._between_lines(self._write_held)
            self._between_lines(lambda: self._write(notice))
        return not self._held and not self._lost

    def flush(self) -> bool:
        """As `settle`; there is nothing else that waits."""
        return self.settle()

    def drain(self) -> None:
        """Nothing: no line waits, and a signal handler must not either."""

    def run(self, action: Callable[[], object], *, wait: bool = True) -> bool:
        """Do something between two lines."""
        try:
            return self._between_lines(action, wait=wait)
        finally:
            self._follow_up()

    def close(self) -> None:
        """Settle, and close the sink."""
        self.settle()
        with self._lock:
            for _ in self._held:
                DROPPED.inc()
            self._held.clear()
            self._lost = 0
            self.sink.close()

    def _between_lines(self, action: Callable[[], object], *, wait: bool = True) -> bool:
        if not self._lock.acquire(blocking=wait):
            return False
        try:
            if self._busy:
                return False
            self._busy = True
            try:
                action()
            finally:
                self._busy = False
            return True
        finally:
            self._lock.release()

    def _follow_up(self) -> None:
        """Write what was logged in the middle of a line, and report what did not keep it from being written."""
        if self._held:
            self.settle()
        # Outside of the lock, for this logs, and waits for the locks of other handlers.
        with suppress(IndexError):  # another thread was faster
            while self.sink.problems:
                report(*self.sink.problems.pop())

    def _hold(self, line: str) -> None:
        if len(self._held) < MAX_HELD:
            self._held.append(line)
        else:
            self.lose()

    def _notice(self) -> tuple[int, str]:
        lost = self._lost
        return lost, self._announce(lost)

    def _write_held(self) -> None:
        for _ in range(len(self._held)):
            self.sink.write(self._held[0])
            self._held.popleft()

    def _write(self, notice: tuple[int, str] | None, *lines: str) -> None:
        # In one piece: a short notice would find room where the line behind it does not, again and again.
        if notice is None or notice[0] > self._lost:  # another thread has announced them meanwhile
            for line in lines:
                self.sink.write(line)
        else:
            self.sink.write("\n".join((notice[1], *lines)))
            self._lost -= notice[0]


_deliveries: Final[WeakSet[Delivery]] = WeakSet()


def renew_in_children(delivery: Delivery) -> None:
    """Have `after_fork` called in processes that are forked, as long as there is this delivery."""
    _deliveries.add(delivery)


def _after_fork() -> None:
    for delivery in list(_deliveries):
        delivery.after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows cannot fork
    os.register_at_fork(after_in_child=_after_fork)
