"""The process itself: its CPU and memory, read when they are scraped, and which service it is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from threading import Lock
from typing import Final

import psutil
from prometheus_client import REGISTRY, CollectorRegistry

from asgi_obs.errors import report
from asgi_obs.metrics.catalogue import create
from asgi_obs.settings import Settings
from asgi_obs.types import Clock

__all__ = ["ProcessSampler", "register_process_metrics"]

MIN_WINDOW: Final = 1.0
"""Seconds that CPU time is measured over at least; a scrape that comes sooner gets the last value."""


class ProcessSampler:
    """Reads CPU and memory of the process it is called in, also behind a fork, without waiting.

    What cannot be read is reported, and the last value stands.

    Args:
        clock: Tells the time that CPU time is compared with.
    """

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self._clock = clock
        self._lock = Lock()
        self._pid = 0
        self._cpu_percent = self._memory_bytes = 0.0

    def cpu_percent(self) -> float:
        """CPU time, user and system, in percent of one core: since the last call, at first since the process began."""
        return self._guarded(self._measure_cpu, "cpu_percent")

    def memory_bytes(self) -> float:
        """Resident memory."""
        return self._guarded(self._measure_memory, "memory_bytes")

    def _guarded(self, measure: Callable[[], None], value: str) -> float:
        with self._lock:
            try:
                if self._pid != os.getpid():
                    self._begin()
                measure()
            except Exception as error:  # noqa: BLE001 - fail open: one value less, not a scrape that fails
                report(f"ProcessSampler.{value}", error)
            last: float = getattr(self, f"_{value}")
            return last

    def _begin(self) -> None:
        self._process = psutil.Process()
        age = max(time.time() - self._process.create_time(), MIN_WINDOW)
        self._cpu_seconds, self._measured_at = self._read_cpu(), self._clock()
        self._cpu_percent = 100.0 * self._cpu_seconds / age
        self._pid = self._process.pid

    def _read_cpu(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def _measure_cpu(self) -> None:
        now = self._clock()
        window = now - self._measured_at
        if window >= MIN_WINDOW:
            cpu_seconds = self._read_cpu()
            self._cpu_percent = 100.0 * (cpu_seconds - self._cpu_seconds) / window
            self._cpu_seconds, self._measured_at = cpu_seconds, now

    def _measure_memory(self) -> None:
        self._memory_bytes = float(self._process.memory_info().rss)


_sampler = ProcessSampler()


def register_process_metrics(registry: CollectorRegistry = REGISTRY, *, settings: Settings) -> None:
    """Make a registry show the CPU and memory of this process, and `service_info`; may be called again.

    Args:
        registry: Where they are scraped.
        settings: Name, version and environment of the service.

    Raises:
        ConfigurationError: The registry has one of these metrics from another library.
    """
    create("process_cpu_usage_percent", registry).set_function(_sampler.cpu_percent)
    create("process_memory_usage_bytes", registry).set_function(_sampler.memory_bytes)
    create("service_info", registry).info(
        {"name": settings.service_name, "version": settings.version, "environment": settings.environment}
    )
