"""What the operating system says of this process: its CPU time, memory and file descriptors.

A reading costs some 0.05 ms, and more with thousands of open files: not for the event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import psutil

from asgi_obs.errors import report
from asgi_obs.types import Clock

__all__ = ["ProcessSampler"]

MIN_WINDOW: Final = 1.0
"""Seconds that CPU time is measured over at least; a reading that comes sooner has the last value."""


class ProcessSampler:
    """Reads what is known of the process it is called in.

    Args:
        clock: Tells the time that CPU time is compared with.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._failing: set[str] = set()
        self._readers: dict[str, Callable[[], float]] = {
            "process_cpu_usage_percent": self._cpu_percent,
            "process_memory_usage_bytes": lambda: self._process.memory_info().rss,
            "process_open_file_descriptors": lambda: self._process.num_fds(),
            "process_max_file_descriptors": _max_file_descriptors,
        }
        self.after_fork()

    def after_fork(self) -> None:
        """Forget the parent: this is another process."""
        self._of_process: psutil.Process | None = None
        self._percent: float | None = None
        self._cpu_seconds = self._measured_at = 0.0

    def read(self) -> dict[str, float]:
        """The values by metric; what cannot be read is left out, and reported when that begins."""
        values = {}
        for name, reader in self._readers.items():
            try:
                values[name] = reader()
            except Exception as error:  # noqa: BLE001 - fail open: psutil cannot do everything everywhere
                if name not in self._failing:
                    self._failing.add(name)
                    report(f"ProcessSampler.{name}", error)
            else:
                self._failing.discard(name)
        return values

    @property
    def _process(self) -> psutil.Process:
        if self._of_process is None:
            self._of_process = psutil.Process()
        return self._of_process

    def _cpu_percent(self) -> float:
        """User and system time in percent of one core: since the last reading, at first since the process began."""
        now = self._clock()
        if self._percent is None:
            window = max(time.time() - self._process.create_time(), MIN_WINDOW)
        else:
            window = now - self._measured_at
        if window >= MIN_WINDOW or self._percent is None:
            times = self._process.cpu_times()
            cpu_seconds = times.user + times.system
            self._percent = 100.0 * (cpu_seconds - self._cpu_seconds) / window
            self._cpu_seconds, self._measured_at = cpu_seconds, now
        return self._percent


def _max_file_descriptors() -> float:
    import resource  # not on Windows

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return float("inf") if soft == resource.RLIM_INFINITY else float(soft)
