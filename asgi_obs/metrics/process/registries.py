"""The registries that show this process: they come and go, and all show the same values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from threading import Lock
from typing import Any
from weakref import WeakSet

from prometheus_client import CollectorRegistry, Gauge, Histogram

from asgi_obs.errors import report
from asgi_obs.metrics.catalogue import create

__all__ = ["Registries"]


class Registries:
    """Sets the values of the metrics of a process, on every registry that shows it.

    A metric is made when it has a value. One that cannot be measured is not shown, and a process that only forks the
    others adds nothing to their sums.

    Attributes:
        complete: Whether all of them show values.
    """

    def __init__(self) -> None:
        self.complete = True
        self._registries: WeakSet[CollectorRegistry] = WeakSet()
        self.after_fork()

    def after_fork(self) -> None:
        """Be usable, whatever threads of the parent were about."""
        self._lock = Lock()

    def add(self, registry: CollectorRegistry) -> None:
        """Show this process on one more registry, from the next sample on; it is held weakly."""
        with self._lock:
            self._registries.add(registry)
        self.complete = False

    def publish(self, values: Mapping[str, float], pauses: Iterable[tuple[int, float]]) -> None:
        """Set gauges, and observe pauses.

        Args:
            values: By metric.
            pauses: The generation and the seconds of each run of the garbage collector.
        """
        self.complete = True
        with self._lock:
            registries = list(self._registries)
        updates: dict[str, Callable[[Any], None]] = {name: partial(_set, value) for name, value in values.items()}
        updates["gc_pause_seconds"] = partial(_observe, pauses)
        for registry in registries:
            for name, update in updates.items():
                try:
                    update(create(name, registry))
                except Exception as error:  # noqa: BLE001 - fail open: another library's metric may have the name
                    report(f"Registries.{name}", error)


def _set(value: float, gauge: Gauge) -> None:
    gauge.set(value)


def _observe(pauses: Iterable[tuple[int, float]], histogram: Histogram) -> None:
    for generation, seconds in pauses:
        histogram.labels(str(generation)).observe(seconds)
