"""Counters, gauges and histograms of your own, declared as those of `prometheus_client` and used in the same way.

What is different: each joins the catalogue, and has a cap on its series; past it values fold into `__overflow__`. A
declaration may be repeated (a module that is loaded again, an application that is built twice) and is the same metric
then; a wrong one fails at once. To use a metric never raises: what cannot be counted is reported and left out. A call
costs about 1 µs with labels, half of it without.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from math import isfinite
from time import perf_counter
from types import TracebackType
from typing import Any, Final, TypeVar

from prometheus_client import REGISTRY, CollectorRegistry

from asgi_obs.errors import ConfigurationError, report
from asgi_obs.metrics.buckets import buckets_of
from asgi_obs.metrics.catalogue import GUIDE_BUCKETS, Metric, create, declare
from asgi_obs.metrics.declaration import GaugeMode
from asgi_obs.metrics.labels import Family, family, require_cap, shortened

__all__ = ["MAX_SERIES", "Counter", "Gauge", "Histogram", "Timer"]

MAX_SERIES: Final = 2_000
"""The default cap on the series of a metric."""

_M = TypeVar("_M", bound="_Instrument")


class _Instrument:
    """A metric of a user, or one series of it.

    Args:
        metric: Its declaration.
        registry: Where it is scraped.
        max_series: The cap.
    """

    def __init__(self, metric: Metric, registry: CollectorRegistry, max_series: int) -> None:
        require_cap(max_series)
        declare(metric, registry)
        self._metric = metric
        self._family: Family[Any] | None = None
        self._known: dict[tuple[str, ...], Any] = {}
        if metric.labels:
            self._family = family(metric.name, registry, max_series=max_series)
            self._child: Any = _Nowhere(f"{metric.name} has labels: {', '.join(metric.labels)}")
        else:
            self._child = create(metric.name, registry)

    def labels(self: _M, /, *values: object, **named: object) -> _M:  # noqa: PYI019 - `Self` is not in Python 3.10
        """The series of label values, in the order of the labels or by name; as texts of 256 characters at most."""
        try:
            key = tuple(map(str, values if values and not named else self._in_order(values, named)))
            return self._known.get(key) or self._look_up(key)
        except Exception as error:  # noqa: BLE001 - fail open: the application does not depend on its metrics
            self._report("labels", error)
            return _series_of(self, _Nowhere(""))

    def _in_order(self, values: tuple[object, ...], named: dict[str, object]) -> list[object]:
        names = self._metric.labels
        if values or named.keys() != set(names):
            raise ValueError(f"{self._metric.name} has labels: {', '.join(names) or 'none'}")
        return [named[name] for name in names]

    def _look_up(self: _M, key: tuple[str, ...]) -> _M:  # noqa: PYI019 - as above
        if self._family is None or len(key) != len(self._metric.labels):
            raise ValueError(f"{self._metric.name} takes {len(self._metric.labels)} label values")
        key = shortened(key)
        series = _series_of(self, self._family.child(key))
        if self._family.holds(key):  # those that are folded are without end
            self._known[key] = series
        return series

    def _report(self, method: str, error: Exception) -> None:
        report(f"{self._metric.name}.{method}", error)


def _series_of(metric: _M, child: Any) -> _M:
    """One series of a metric, as a metric without labels."""
    series = copy.copy(metric)
    series._family, series._known, series._child = None, {}, child
    return series


class Counter(_Instrument):
    """Counts what only grows.

    Args:
        name: The name as it is scraped: letters, digits and `_`, with `_total` at its end.
        help: What it counts, in a sentence.
        labels: The names of its labels.
        unit: The base unit, if it has one; the name ends in it, before `_total`.
        registry: Where it is scraped; default the one of `prometheus_client`.
        max_series: The cap on the combinations of label values.

    Raises:
        ConfigurationError: One of these cannot be; or the name is that of another metric.
    """

    def __init__(
        self,
        name: str,
        help: str,  # noqa: A002 - as in the catalogue
        labels: Sequence[str] = (),
        *,
        unit: str = "",
        registry: CollectorRegistry = REGISTRY,
        max_series: int = MAX_SERIES,
    ) -> None:
        names = _names_of(labels)
        super().__init__(Metric(name, "counter", names, unit, help, hot=bool(names)), registry, max_series)

    def inc(self, amount: float = 1.0) -> None:
        """Count `amount` more; it is not negative."""
        try:
            self._child.inc(_countable(amount))
        except Exception as error:  # noqa: BLE001 - fail open: see the module
            self._report("inc", error)


class Gauge(_Instrument):
    """What goes up and down.

    Args:
        name: The name as it is scraped: letters, digits and `_`.
        help: What it says, in a sentence.
        labels: The names of its labels.
        unit: The base unit, if it has one; the name ends in it.
        mode: What it shows of several processes that serve one port: `livesum`, `livemax`, `livemin`, or
            `livemostrecent`, which can only be `set`.
        registry: Where it is scraped; default the one of `prometheus_client`.
        max_series: The cap on the combinations of label values.

    Raises:
        ConfigurationError: One of these cannot be; or the name is that of another metric.
    """

    def __init__(
        self,
        name: str,
        help: str,  # noqa: A002 - as in the catalogue
        labels: Sequence[str] = (),
        *,
        unit: str = "",
        mode: GaugeMode = "livesum",
        registry: CollectorRegistry = REGISTRY,
        max_series: int = MAX_SERIES,
    ) -> None:
        super().__init__(Metric(name, "gauge", _names_of(labels), unit, help, mode=mode), registry, max_series)

    def set(self, value: float) -> None:
        """It is `value` now."""
        self._move("set", value)

    def inc(self, amount: float = 1.0) -> None:
        """It is `amount` more."""
        self._move("inc", amount)

    def dec(self, amount: float = 1.0) -> None:
        """It is `amount` less."""
        self._move("dec", amount)

    def _move(self, method: str, amount: float) -> None:
        try:
            getattr(self._child, method)(_number(amount))
        except Exception as error:  # noqa: BLE001 - fail open: see the module
            self._report(method, error)


class Histogram(_Instrument):
    """How values are distributed, such as durations and sizes.

    Args:
        name: The name as it is scraped: letters, digits and `_`.
        help: What is observed, in a sentence.
        labels: The names of its labels, not `le`.
        unit: The base unit, if it has one; the name ends in it.
        buckets: The upper bounds, in that unit; default from 10 ms to 10 s.
        registry: Where it is scraped; default the one of `prometheus_client`.
        max_series: The cap on the combinations of label values.

    Raises:
        ConfigurationError: One of these cannot be; or the name is that of another metric.
    """

    def __init__(
        self,
        name: str,
        help: str,  # noqa: A002 - as in the catalogue
        labels: Sequence[str] = (),
        *,
        unit: str = "",
        buckets: str | Sequence[float] = GUIDE_BUCKETS,
        registry: CollectorRegistry = REGISTRY,
        max_series: int = MAX_SERIES,
    ) -> None:
        names = _names_of(labels)
        metric = Metric(name, "histogram", names, unit, help, buckets_of(buckets), hot=bool(names))
        super().__init__(metric, registry, max_series)

    def observe(self, amount: float) -> None:
        """Count a value in its bucket; it is not negative."""
        try:
            self._child.observe(_countable(amount))
        except Exception as error:  # noqa: BLE001 - fail open: see the module
            self._report("observe", error)

    def time(self) -> Timer:
        """A context manager that observes how long its block took, in seconds, also if it raises."""
        return Timer(self.observe)


class Timer:
    """Times a block; for one use.

    Args:
        observe: Gets the seconds.
    """

    __slots__ = ("_observe", "_started_at")

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self._started_at = 0.0

    def __enter__(self) -> None:
        self._started_at = perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._observe(perf_counter() - self._started_at)


class _Nowhere:
    """In the place of a series: where what cannot be counted goes.

    Args:
        reason: Why it cannot be counted; empty if that has been said.
    """

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def inc(self, amount: float) -> None:  # noqa: ARG002
        if self._reason:
            raise ValueError(self._reason)

    dec = set = observe = inc


def _number(amount: Any) -> float:
    """A number that can be set, as a float."""
    if not isfinite(amount):
        raise ValueError(f"{amount} is no finite number")
    return float(amount)


def _countable(amount: Any) -> float:
    """A number that can be counted or observed: a sum that falls looks as if the process had started again."""
    number = _number(amount)
    if number < 0.0:
        raise ValueError(f"{amount} is negative")
    return number


def _names_of(labels: Sequence[str]) -> tuple[str, ...]:
    if isinstance(labels, str) or not isinstance(labels, Sequence):
        raise ConfigurationError("labels", labels, "a list of names, such as ['status']")
    return tuple(labels)
