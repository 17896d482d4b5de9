"""The monitor of this process: one daemon thread that samples it every 15 seconds, and watches its event loops.

The thread begins with the first event loop that is attached, never at import or construction, and ends with the last
one: a process that forks others can stay without threads. Nothing of it is inherited by a fork: the next `attach`
begins anew. Where there is no thread, because nothing was attached or because the interpreter is about to end, the
values are those of the scrape. It takes 0.07 % of a core.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import Final, Protocol
from weakref import WeakSet, ref

from prometheus_client import CollectorRegistry

from asgi_obs.errors import report
from asgi_obs.metrics.multiprocess import look_after_files, warn_of_siblings
from asgi_obs.metrics.process.event_loop import EventLoops, loops
from asgi_obs.metrics.process.garbage import GarbagePauses
from asgi_obs.metrics.process.registries import Registries
from asgi_obs.metrics.process.sampler import ProcessSampler
from asgi_obs.metrics.process.timers import running_loop
from asgi_obs.metrics.process.watchdog import StallWatchdog

__all__ = ["ProcessMonitor", "Refreshable", "attach", "refresh_with_samples", "sample_if_stale", "show_on"]

PERIOD: Final = 15.0
"""Seconds between two samples."""

MIN_AGE: Final = 1.0
"""Seconds that a sample is good for where there is no thread."""

PATIENCE: Final = 1.0
"""Seconds that a scrape waits for a sample which somebody else takes."""

_nowhere: Final[Callable[[], object]] = lambda: None  # noqa: E731 - as a weak reference that is dead


class Refreshable(Protocol):
    """Something that is looked at whenever the process is."""

    def refresh(self) -> None:
        """Show what is so now."""


class ProcessMonitor:
    """Samples the process and watches its event loops. There is one per process; others are for tests.

    Args:
        loops: The event loops.
    """

    def __init__(self, loops: EventLoops) -> None:
        self._loops = loops
        self._sampler = ProcessSampler()
        self._pauses = GarbagePauses()
        self._registries = Registries()
        self._refreshed: WeakSet[Refreshable] = WeakSet()
        self._watchdog = StallWatchdog(loops, monotonic)
        self._begin()

    def _begin(self) -> None:
        self._last: Callable[[], object] = _nowhere
        self._sampled_at = -math.inf
        self._thread: Thread | None = None
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._starting, self._sampling = Lock(), Lock()

    def after_fork(self) -> None:
        """Begin anew: threads and event loops are the parent's."""
        self._begin()
        self._loops.forget()
        for part in (self._sampler, self._pauses, self._registries, self._watchdog):
            part.after_fork()

    def attach(self, stall_seconds: float) -> None:
        """Monitor the process for as long as the running event loop is there, and measure this.

        Call it as often as you like: it costs 0.1 µs when there is nothing to do. It does not raise.

        Args:
            stall_seconds: What blocks the event loop for longer is logged; 0 for never. The first call counts.
        """
        place = running_loop()
        if place is not self._last():
            self._last = ref(place)
            try:
                self._attach(place, stall_seconds)
            except Exception as error:  # noqa: BLE001 - fail open: called in the middle of a request
                report("ProcessMonitor.attach", error)

    def _attach(self, place: object, stall_seconds: float) -> None:
        with self._starting:
            self._pauses.install()
            self._loops.measure(place, stall_seconds, self._wake)
            if self._thread is None:
                thread = Thread(target=self._run, name="asgi_obs.monitor", daemon=True)
                with suppress(RuntimeError):  # too many, or Python 3.12 at exit
                    thread.start()
                    self._thread = thread
        self._wake()

    def show_on(self, registry: CollectorRegistry) -> None:
        """Show the process on a registry, from the next sample on; the registry is held weakly."""
        self._registries.add(registry)

    def refresh_with_samples(self, refreshable: Refreshable) -> None:
        """Have `refresh` called with each sample, the first of which comes when the process begins to serve.

        It is held weakly.
        """
        self._refreshed.add(refreshable)

    def sample_if_stale(self) -> None:
        """Sample the process if its values are not good enough for a scrape: call it before one, in any thread.

        With the thread at work it does nothing, but for a registry that shows nothing yet. Otherwise it takes 1 ms, at
        most once a second. It does not raise.
        """
        longest = MIN_AGE if self._thread is None else 2 * PERIOD
        if not self._registries.complete or monotonic() - self._sampled_at > longest:
            try:
                self._sample()
            except Exception as error:  # noqa: BLE001 - fail open: values less, not a scrape that fails
                report("ProcessMonitor.sample", error)

    def _sample(self) -> None:
        if self._sampling.acquire(timeout=PATIENCE):
            try:
                values = {**self._sampler.read(), **self._loops.read()}
                self._registries.publish(values, self._pauses.take())
                for refreshable in list(self._refreshed):
                    refreshable.refresh()
            finally:
                self._sampled_at = monotonic()
                self._sampling.release()

    def _run(self) -> None:
        while self._goes_on():
            wait = PERIOD
            try:
                if monotonic() - self._sampled_at >= PERIOD:
                    self._sample()
                    look_after_files()
                    warn_of_siblings()
                wait = min(self._watchdog.look(), self._sampled_at + PERIOD - monotonic())
            except Exception as error:  # noqa: BLE001 - fail open: the thread has to live
                report("ProcessMonitor.run", error)
            with suppress(Empty):
                self._wakes.get(timeout=max(0.0, wait))

    def _goes_on(self) -> bool:
        with self._starting:
            if not self._loops.alive:
                self._thread = None
            return self._thread is not None

    def _wake(self) -> None:
        # By nothing with a lock: the garbage collector calls this too.
        self._wakes.put(None)


_monitor: Final = ProcessMonitor(loops)
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows cannot fork
    os.register_at_fork(after_in_child=_monitor.after_fork)

attach: Final = _monitor.attach
refresh_with_samples: Final = _monitor.refresh_with_samples
sample_if_stale: Final = _monitor.sample_if_stale
show_on: Final = _monitor.show_on
