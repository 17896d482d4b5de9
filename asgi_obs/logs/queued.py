"""`Queued`: a daemon thread writes the lines, so that whoever logs never waits.

A line that finds the queue full is dropped and counted. What is in the queue is lost if the process is killed; at
exit it is written, and on SIGTERM too (`asgi_obs.logs.signals`). Costs the caller less than a write.
"""

from __future__ import annotations

import atexit
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, TypeAlias
from weakref import WeakSet

from asgi_obs.logs.delivery import DROPPED, MAX_HELD, Direct, renew_in_children
from asgi_obs.logs.signals import TERMINATE, call_on

__all__ = ["Queued"]

PATIENCE: Final = 5.0
"""Seconds that `flush` waits for a sink which makes no progress."""

FLUSH_INTERVAL: Final = 0.1
"""Seconds after which `flush` looks whether there is progress."""

RETRY_INTERVAL: Final = 0.5
"""Seconds after which the background writer looks again whether a sink that has stalled takes a line."""

LISTEN_INTERVAL: Final = 0.1
"""Seconds after which it is seen to that SIGTERM is still heard."""

_Item: TypeAlias = "tuple[str, bool, int] | threading.Event | None"
"""A line with whether to keep it and how many were dropped before it; something to set; the end."""


class Queued:
    """Leaves writing to a daemon thread; whoever logs never waits.

    Args:
        direct: Writes the lines, in the thread.
        size: Lines that may wait. Beyond them, `MAX_HELD` of those to be kept may.
    """

    def __init__(self, direct: Direct, size: int) -> None:
        self._direct = direct
        self._size = size
        self._is_direct = False
        self._start_anew()
        renew_in_children(self)
        _queues.add(self)
        self._listen()

    def _start_anew(self) -> None:
        self._lock = threading.RLock()
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._overflow = 0
        self._handled = 0
        self._given_up_at = -1

    def after_fork(self) -> None:
        """Start anew: no thread is forked, and what waits is the parent's to write."""
        self._start_anew()

    def deliver(self, line: str, *, keep: bool = False) -> None:
        """Put a line in the queue, or drop it if that is full."""
        if self._is_direct or (self._thread is None and not self._start()):
            self._direct.deliver(line, keep=keep)
        elif self._queue.qsize() >= (self._size + MAX_HELD if keep else self._size):
            self.lose()
        else:
            self._queue.put((line, keep, self._take_overflow() if self._overflow else 0))
            if time.monotonic() >= self._listen_again:
                self._listen()

    def lose(self) -> None:
        """Count a line, and have it announced ahead of the next one that is put in the queue."""
        if self._is_direct:
            self._direct.lose()
            return
        DROPPED.inc()
        with self._lock:
            self._overflow += 1

    def flush(self) -> bool:
        """Wait until all is written that was logged before, as long as there is progress."""
        if self._thread is None:
            return self._settle()
        done = threading.Event()
        self._queue.put(done)
        handled, deadline = -1, 0.0
        while not done.wait(FLUSH_INTERVAL):
            if self._handled != handled:
                handled, deadline = self._handled, time.monotonic() + PATIENCE
            # A process that ends flushes several times: it waits in vain once.
            elif handled == self._given_up_at or time.monotonic() >= deadline:
                self._given_up_at = handled
                return False
        return True

    def drain(self) -> None:
        """Write directly from now on; what waits is written first, if the sink takes it."""
        self._is_direct = True
        self.flush()

    def run(self, action: Callable[[], object], *, wait: bool = True) -> bool:
        """Do something between two lines."""
        return self._direct.run(action, wait=wait)

    def close(self) -> None:
        """Flush and end the thread, which closes the sink: if that has stalled, when it takes lines again.

        A line that comes yet starts another thread: `logging.config` closes handlers that stay in use.
        """
        self.flush()
        with self._lock:
            thread, self._thread = self._thread, None
            queue, self._queue = self._queue, SimpleQueue()
        if thread is None:
            self._direct.close()
        else:
            queue.put(None)
            thread.join(RETRY_INTERVAL)

    def _listen(self) -> None:
        """Drain on SIGTERM. Asked for again and again: servers take back the signals of the processes they fork."""
        self._listen_again = time.monotonic() + LISTEN_INTERVAL
        call_on(TERMINATE, self.drain)

    def _take_overflow(self) -> int:
        with self._lock:
            overflow, self._overflow = self._overflow, 0
        return overflow

    def _settle(self) -> bool:
        self._direct.note(self._take_overflow())
        return self._direct.settle()

    def _start(self) -> bool:
        """Start the thread; returns False where there can be none any more."""
        with self._lock:
            if self._thread is not None:
                return True
            thread = threading.Thread(target=self._work, args=(self._queue,), name="asgi_obs.logs", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is shutting down, or there are too many threads
                self._is_direct = True
                return False
            self._thread = thread
        _flush_at_end_of_child(self)
        return True

    def _work(self, queue: SimpleQueue[_Item]) -> None:
        while (item := queue.get()) is not None:
            if isinstance(item, threading.Event):
                self._settle()
                item.set()
            else:
                self._write(*item)
            self._handled += 1
        self._settle()
        self._direct.close()

    def _write(self, line: str, keep: bool, dropped: int) -> None:  # noqa: FBT001 - as it is in the queue
        self._direct.note(dropped)
        while isinstance(error := self._direct.attempt(line), BlockingIOError):
            self._direct.sink.wait(RETRY_INTERVAL)
        if error is not None:
            self._direct.give_up(line, error, keep=keep)


def _flush_at_end_of_child(queued: Queued) -> None:
    """Flush where a child of `multiprocessing` ends: it does so without the functions of `atexit`."""
    process: Any = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        sys.modules["multiprocessing.util"].Finalize(None, queued.flush, exitpriority=0)


def _drain_all() -> None:
    for queued in list(_queues):
        queued.drain()


_queues: Final[WeakSet[Queued]] = WeakSet()

# Not left to `logging.shutdown`: `logging.config` takes handlers that stay in use off its list.
atexit.register(_drain_all)
