"""How late event loops are to call back: what a request waits for because others hold the loop.

A timer in each event loop sees how late it is called; that costs 2 µs four times a second. From other threads it can be
seen that a call is overdue: that is a stall.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from threading import RLock
from time import monotonic
from typing import Final
from weakref import ref

from asgi_obs.errors import report
from asgi_obs.metrics.catalogue import process_wide
from asgi_obs.metrics.process.thread_pool import ThreadPool
from asgi_obs.metrics.process.timers import start_timer
from asgi_obs.types import Clock

__all__ = ["EventLoops", "MeasuredLoop", "lag", "loops"]

WINDOW: Final = 15.0
"""Seconds that the longest lag is kept for."""

INTERVAL: Final = 0.25
"""Seconds between two calls of a timer, at most."""

RESOLUTION: Final = 4
"""Calls of a timer in the time that is a stall: one that is a quarter longer is never missed."""

_STALLS: Final = process_wide("event_loop_stalls_total")


class MeasuredLoop:
    """The running event loop, measured from now on.

    Args:
        place: What stands for it; it is not kept alive.
        stall_seconds: What is a stall; 0 if nothing is.
        clock: Seconds.
        on_end: Called, in the middle of anything, when there is no such loop any more.

    Attributes:
        stall_seconds: What is a stall; infinite if nothing is.
        thread: The thread that it runs in.
        pool: Its pool of threads.
    """

    def __init__(self, place: object, stall_seconds: float, clock: Clock, on_end: Callable[[], object]) -> None:
        self.stall_seconds = stall_seconds or math.inf
        self.thread = threading.get_ident()
        self.pool = ThreadPool()
        self._place = ref(place, lambda _: on_end())
        self._clock = clock
        self._lock = RLock()  # a signal may ask in the middle of anything
        self._lags: deque[tuple[float, float]] = deque()
        self._stalled = False
        self._interval = min(INTERVAL, self.stall_seconds / RESOLUTION)
        self._due_at = clock() + self._interval
        self._timer = start_timer(self._interval, self.tick)

    def is_at(self, place: object) -> bool:
        """Whether it is the event loop that this stands for."""
        return self._place() is place

    @property
    def alive(self) -> bool:
        """Whether it may still run."""
        return self._place() is not None and self._timer.alive

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._timer.running

    def forget(self) -> None:
        """Measure no more."""
        self._timer.stop()

    def tick(self) -> None:
        """What the timer calls."""
        try:
            self._measure()
            self.pool.read()
        except Exception as error:  # noqa: BLE001 - fail open: trio would end with what a timer raises
            report("MeasuredLoop.tick", error)

    def overdue(self) -> float:
        """Seconds that the next call is late by now; 0 if it is not, or if the event loop stands still."""
        with self._lock:
            if not self.running:
                self._due_at = math.inf  # the time until it goes on is not its lag
            return max(0.0, self._clock() - self._due_at)

    def new_stall(self) -> float:
        """Seconds of a stall that goes on and was not counted; 0 if there is none. It is counted by this."""
        with self._lock:
            overdue = self.overdue()
            if self._stalled or overdue <= self.stall_seconds:
                return 0.0
            self._stalled = True
        _STALLS.inc()
        return overdue

    def lag(self) -> float:
        """The longest lag of the last `WINDOW` seconds, one that goes on included."""
        with self._lock:
            self._drop_old(self._clock())
            return max(self.overdue(), self._lags[0][1] if self._lags else 0.0)

    def _measure(self) -> None:
        with self._lock:
            now = self._clock()
            lag = max(0.0, now - self._due_at)
            is_new_stall = lag > self.stall_seconds and not self._stalled
            self._stalled = False
            self._due_at = now + self._interval
            self._drop_old(now)
            # What is shorter and older than this will never be the longest: the first is, and few are kept.
            while self._lags and self._lags[-1][1] <= lag:
                self._lags.pop()
            self._lags.append((now, lag))
        self.thread = threading.get_ident()
        if is_new_stall:
            _STALLS.inc()

    def _drop_old(self, now: float) -> None:
        while self._lags and now - self._lags[0][0] > WINDOW:
            self._lags.popleft()


class EventLoops:
    """The event loops of the process that are measured.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._measured: tuple[MeasuredLoop, ...] = ()

    @property
    def alive(self) -> tuple[MeasuredLoop, ...]:
        """Those that may still run."""
        return tuple(loop for loop in self._measured if loop.alive)

    def measure(self, place: object, stall_seconds: float, on_end: Callable[[], object]) -> None:
        """Measure the running event loop, unless it is measured; by one thread at a time.

        Args:
            place: What stands for it.
            stall_seconds: What is a stall; 0 if nothing is.
            on_end: Called, in the middle of anything, when there is no such loop any more.
        """
        alive = self.alive
        if not any(loop.is_at(place) for loop in alive):
            alive += (MeasuredLoop(place, stall_seconds, self._clock, on_end),)
        self._measured = alive

    def forget(self) -> None:
        """Measure none."""
        for loop in self._measured:
            loop.forget()
        self._measured = ()

    def lag(self) -> float | None:
        """The longest time, in seconds, that one was late in the last 15 seconds; None if none runs that is measured.

        A stall that goes on counts. May be called in any thread.
        """
        return max((loop.lag() for loop in self._measured if loop.running), default=None)

    def read(self) -> dict[str, float]:
        """The values by metric; none if no event loop runs that is measured."""
        lag = self.lag()
        if lag is None:
            return {}
        pools = [loop.pool for loop in self.alive]
        return {
            "event_loop_lag_seconds": lag,
            "thread_pool_threads_busy": sum(pool.busy for pool in pools),
            "thread_pool_threads_limit": sum(pool.limit for pool in pools),
            "thread_pool_tasks_waiting": sum(pool.waiting for pool in pools),
        }


loops: Final = EventLoops()
"""Those of this process."""

lag: Final = loops.lag
