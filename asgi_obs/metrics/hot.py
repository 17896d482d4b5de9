"""Counters, histograms and gauges for what moves on every request: those of `prometheus_client` without its locks.

They look the same to the code that moves them and to the registry that collects them, and cost a fifth. No lock is
needed where no thread can come in between: CPython (3.10 and later) hands over to another thread at calls and at
jumps back only, never inside of `self.value += amount`. Where that does not hold (no GIL), and where the values
have to be in shared files (the multiprocess mode of `prometheus_client`), `is_safe()` says so and the catalogue
takes the classes of `prometheus_client`.
"""

from __future__ import annotations

import math
import os
import sys
import time
from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from threading import Lock
from typing import Any, Final, Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

__all__ = ["HotCounter", "HotGauge", "HotHistogram", "has_gil", "is_safe"]

C = TypeVar("C")

_MULTIPROCESS: Final = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")


def has_gil() -> bool:
    """Whether one thread runs at a time."""
    gil_enabled = getattr(sys, "_is_gil_enabled", None)  # Python 3.13 and later
    return gil_enabled is None or gil_enabled()


def is_safe() -> bool:
    """Whether what is counted here is neither lost between threads nor hidden from other processes."""
    return has_gil() and not any(name in os.environ for name in _MULTIPROCESS)


class CounterChild:
    """A counter for one combination of label values."""

    __slots__ = ("exemplar", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self.exemplar: Exemplar | None = None

    def inc(self, amount: float = 1.0, exemplar: dict[str, str] | None = None) -> None:
        """Count `amount` more; it is not negative."""
        self.value += amount
        if exemplar is not None:
            self.exemplar = Exemplar(exemplar, amount, time.time())


class HistogramChild:
    """A histogram for one combination of label values.

    Args:
        bounds: The upper bounds of the buckets, ascending, without +Inf.
    """

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.exemplars: list[Exemplar | None] = [None] * len(self.counts)
        self.total = 0.0

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Count a value in its bucket."""
        bucket = bisect_left(self.bounds, amount)
        self.counts[bucket] += 1
        self.total += amount
        if exemplar is not None:
            self.exemplars[bucket] = Exemplar(exemplar, amount, time.time())


class _HotMetric(Collector, Generic[C]):
    """The children by label values, and how the registry gets at them."""

    def __init__(self, make: Callable[[], C], family: Callable[[], Any]) -> None:
        self._make = make
        self._family = family
        self._children: dict[tuple[str, ...], C] = {}
        self._lock = Lock()

    def labels(self, *values: str) -> C:
        """The child for some label values, in the order of the label names; made by the first call."""
        with self._lock:
            if values not in self._children:
                self._children[values] = self._make()
            return self._children[values]

    def describe(self) -> Iterable[Metric]:
        """The metric without samples."""
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        """The metric as it stands."""
        family = self._family()
        family.samples = list(self._samples())
        return [family]

    def collect_lazily(self) -> Iterable[Metric]:
        """As `collect`; each child is read when the first of its samples is asked for."""
        family = self._family()
        family.samples = self._samples()
        return [family]

    def _samples(self) -> Iterator[Sample]:
        with self._lock:
            items = list(self._children.items())
        family = self._family()
        for values, child in items:
            self._add(family, values, child)
            yield from family.samples
            family.samples.clear()

    @abstractmethod
    def _add(self, family: Any, values: tuple[str, ...], child: C) -> None:
        """Add the samples of a child to a family."""


class HotCounter(_HotMetric[CounterChild]):
    """A counter with labels.

    Args:
        name: The name as it is scraped.
        documentation: The help text.
        labelnames: The names of the labels.
        unit: The base unit, or empty.
    """

    def __init__(self, name: str, documentation: str, labelnames: Sequence[str], unit: str) -> None:
        super().__init__(CounterChild, partial(CounterMetricFamily, name, documentation, labels=labelnames, unit=unit))

    def _add(self, family: CounterMetricFamily, values: tuple[str, ...], child: CounterChild) -> None:
        family.add_metric(values, child.value, exemplar=child.exemplar)


class HotHistogram(_HotMetric[HistogramChild]):
    """A histogram with labels.

    Args:
        name: The name as it is scraped.
        documentation: The help text.
        labelnames: The names of the labels.
        unit: The base unit, or empty.
        bounds: The upper bounds of the buckets, ascending, without +Inf.
    """

    def __init__(
        self, name: str, documentation: str, labelnames: Sequence[str], unit: str, bounds: tuple[float, ...]
    ) -> None:
        super().__init__(
            lambda: HistogramChild(bounds),
            partial(HistogramMetricFamily, name, documentation, labels=labelnames, unit=unit),
        )
        text: Callable[[float], str] = floatToGoString
        self._bounds = [text(bound) for bound in (*bounds, math.inf)]

    def _add(self, family: HistogramMetricFamily, values: tuple[str, ...], child: HistogramChild) -> None:
        buckets: Any = zip(self._bounds, accumulate(child.counts), child.exemplars, strict=True)
        family.add_metric(values, list(buckets), child.total)


class HotGauge(Collector):
    """A gauge without labels.

    Args:
        name: The name as it is scraped.
        documentation: The help text.
        unit: The base unit, or empty.
    """

    def __init__(self, name: str, documentation: str, unit: str) -> None:
        self._family = partial(GaugeMetricFamily, name, documentation, labels=(), unit=unit)
        self.value = 0.0

    def inc(self) -> None:
        """One more."""
        self.value += 1.0

    def dec(self) -> None:
        """One less."""
        self.value -= 1.0

    def set(self, value: float) -> None:
        """So many."""
        self.value = value

    def describe(self) -> Iterable[Metric]:
        """The metric without samples."""
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        """The metric as it stands."""
        family = self._family()
        family.add_metric((), self.value)
        return [family]
