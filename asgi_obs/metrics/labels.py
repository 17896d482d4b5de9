"""Label values that stay bounded, whatever clients send.

`Family` is a metric with a cap on its series: past it, values fold into `__overflow__`. The other functions make
the values of single labels: the method, the endpoint, and the labels of your own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import Any, Final, Generic, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry

from asgi_obs.errors import ConfigurationError, report
from asgi_obs.exchange import Exchange
from asgi_obs.metrics.catalogue import CATALOGUE, create, process_wide
from asgi_obs.metrics.declaration import NAME
from asgi_obs.types import LabelSource

__all__ = [
    "OTHER",
    "OVERFLOW",
    "REDIRECT",
    "UNMATCHED",
    "CustomLabels",
    "EndpointLabel",
    "Family",
    "endpoint_label",
    "family",
    "method_label",
    "require_cap",
    "shortened",
]

OVERFLOW: Final = "__overflow__"
"""What values fold into when their family has reached its cap."""

OTHER: Final = "__other__"
"""What stands for a value outside of the allowed ones."""

UNMATCHED: Final = "__unmatched__"
"""The endpoint of requests that no route matched."""

REDIRECT: Final = "__redirect__"
"""The endpoint of redirects that no route made, such as those to the path with a slash."""

OTHER_METHOD: Final = "_OTHER"
"""The method of requests with an unknown one; the value of OpenTelemetry's conventions."""

MAX_PATHS: Final = 100
"""Raw paths that are kept as endpoints under `unmatched="path"`."""

MAX_PATH_LENGTH: Final = 256
"""Characters of a raw path that may be kept."""

MAX_LENGTH: Final = 256
"""Characters of a label value that is the user's own."""

MAX_RESERVE: Final = 100
"""Series of a family that are set aside for folded values."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
"""RFC 9110, section 9.3, and RFC 5789."""

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_RESERVED_NAMES: Final = frozenset({"method", "endpoint", "status_code", "le"})

EndpointLabel: TypeAlias = "Callable[[str | None, Exchange], str]"
"""Makes the endpoint label of an exchange from its route, or from what else is known if it has none."""

C = TypeVar("C")
_log = logging.getLogger("asgi_obs")


class _Children(dict[tuple[str, ...], C]):
    """The children by label values; asks for the one that is missing, and does not keep the answer itself."""

    def __init__(self, admit: Callable[[tuple[str, ...]], C]) -> None:
        super().__init__()
        self._admit = admit

    def __missing__(self, values: tuple[str, ...]) -> C:
        return self._admit(values)


class Family(Generic[C]):
    """The series of one metric, never more than `max_series`.

    A few of them (a quarter, at most 100) are set aside. When the others are taken, the label with the most
    distinct values is the culprit: new combinations get `__overflow__` in its place and keep their other values.
    When what is set aside is taken too, all values fold. Every fold counts in
    `asgi_obs_label_overflow_total{metric}`; the first one is said in the log.

    Args:
        metric: The `prometheus_client` metric.
        name: Its name in the catalogue.
        labels: The names of its labels.
        max_series: The number of combinations of label values to allow; at least 2.

    Attributes:
        child: Takes the label values as a tuple and returns the child of the metric: one look-up in a dict.

    Raises:
        ConfigurationError: `max_series` is too small.
    """

    def __init__(self, metric: Any, *, name: str, labels: Sequence[str], max_series: int) -> None:
        self._metric = metric
        self._name = name
        self._labels = tuple(labels)
        self._lock = Lock()
        self._folded: _Children[C] = _Children(self._admit_folded)
        self._children: _Children[C] = _Children(self._admit)
        self._culprit: int | None = None
        self._max_series = max_series
        self.limit(max_series)
        self.child: Callable[[tuple[str, ...]], C] = self._children.__getitem__

    def holds(self, values: tuple[str, ...]) -> bool:
        """Whether a combination of label values has a series of its own; False if it is new or was folded."""
        return values in self._children

    def limit(self, max_series: int) -> None:
        """Lower the cap; one that is higher than what holds already changes nothing."""
        require_cap(max_series)
        self._max_series = min(self._max_series, max_series)
        self._reserve = min(MAX_RESERVE, max(2, self._max_series // 4))

    def _admit(self, values: tuple[str, ...]) -> C:
        with self._lock:
            if values in self._children:  # another thread was faster
                return self._children[values]
            if len(self._children) < self._max_series - self._reserve:
                child = self._children[values] = self._make(values)
                return child
            if self._culprit is None:
                self._culprit = self._find_culprit()
                self._warn(self._labels[self._culprit])
            process_wide("asgi_obs_label_overflow_total").labels(self._name).inc()
            return self._folded[(*values[: self._culprit], OVERFLOW, *values[self._culprit + 1 :])]

    def _admit_folded(self, values: tuple[str, ...]) -> C:
        if len(self._folded) >= self._reserve - 1:
            values = (OVERFLOW,) * len(values)
            if values in self._folded:
                return self._folded[values]
        child = self._folded[values] = self._make(values)
        return child

    def _make(self, values: tuple[str, ...]) -> C:
        # A lone surrogate in one label would make the whole scrape fail.
        child: C = self._metric.labels(*(value.encode("utf-8", "replace").decode() for value in values))
        return child

    def _find_culprit(self) -> int:
        distinct = [len({values[i] for values in self._children}) for i in range(len(self._labels))]
        return distinct.index(max(distinct))

    def _warn(self, culprit: str) -> None:
        _log.warning(
            "%s has reached max_series=%d: new values of its label %r become %s",
            self._name,
            self._max_series,
            culprit,
            OVERFLOW,
        )


def require_cap(max_series: int) -> None:
    """See that a number can be the cap of a family.

    Raises:
        ConfigurationError: It cannot.
    """
    if isinstance(max_series, bool) or not isinstance(max_series, int) or max_series < 2:
        raise ConfigurationError("max_series", max_series, "a whole number, at least 2")


def shortened(values: Iterable[str]) -> tuple[str, ...]:
    """Label values of a user; of one that is too long the beginning, or 2,000 of them could fill the memory."""
    return tuple(value[:MAX_LENGTH] for value in values)


_families: WeakKeyDictionary[CollectorRegistry, dict[str, Family[Any]]] = WeakKeyDictionary()
_families_lock = Lock()


def family(
    name: str,
    registry: CollectorRegistry,
    *,
    max_series: int,
    extra_labels: tuple[str, ...] = (),
    buckets: Sequence[float] | None = None,
) -> Family[Any]:
    """The family of a metric with labels on a registry; made by the first call, shared by the others.

    Args:
        name: A name of the catalogue.
        registry: Where it is scraped.
        max_series: The cap; the lowest that was asked for holds.
        extra_labels: Labels behind the declared ones.
        buckets: Upper bounds of a histogram, in its unit; None takes those it has.

    Raises:
        ConfigurationError: See `catalogue.create` and `Family`.
    """
    metric = create(name, registry, extra_labels=extra_labels, buckets=buckets)
    with _families_lock:
        present = _families.setdefault(registry, {})
        if name not in present:
            labels = CATALOGUE[name].labels + extra_labels
            present[name] = Family(metric, name=name, labels=labels, max_series=max_series)
        present[name].limit(max_series)
        return present[name]


def method_label(exchange: Exchange) -> str:
    """The method if it is a standard one, else `_OTHER`."""
    method = exchange.method
    return method if method in _METHODS else OTHER_METHOD


def endpoint_label(unmatched: str) -> EndpointLabel:
    """What makes the endpoint label: the route template, and for requests without one a bounded value.

    Args:
        unmatched: What a request gets that no route matched: `group` for `__unmatched__`; `path` for its raw
            path, of which the first 100 are kept.

    Raises:
        ConfigurationError: `unmatched` is neither.
    """
    if unmatched == "group":
        return _grouped
    if unmatched == "path":
        return _FirstPaths()
    raise ConfigurationError("unmatched", unmatched, "group or path")


def _grouped(route: str | None, exchange: Exchange) -> str:
    return route or (REDIRECT if exchange.status in _REDIRECTS else UNMATCHED)


class _FirstPaths:
    """Keeps the first raw paths it sees; the later ones are grouped."""

    def __init__(self) -> None:
        self._paths: set[str] = set()

    def __call__(self, route: str | None, exchange: Exchange) -> str:
        label = _grouped(route, exchange)
        if label is not UNMATCHED:
            return label
        path = exchange.path
        if path not in self._paths:
            if len(self._paths) >= MAX_PATHS or not 0 < len(path) <= MAX_PATH_LENGTH:
                return UNMATCHED
            self._paths.add(path)
        return path


class CustomLabels:
    """Labels of your own: a callable says the values, and only the allowed ones get through.

    Args:
        source: Takes the exchange and returns the values by name. What is missing or not allowed becomes
            `__other__`; so do all if it raises.
        allowed: The names of the labels, and the values that each may have.

    Attributes:
        names: The names of the labels, in order.

    Raises:
        ConfigurationError: One is given without the other, or a name or a value cannot be used.
    """

    def __init__(self, source: LabelSource | None, allowed: Mapping[str, Iterable[str]] | None) -> None:
        if source is None or not callable(source):
            raise ConfigurationError("labels", source, "a callable that takes an exchange, with label_values")
        if not isinstance(allowed, Mapping) or not allowed:
            raise ConfigurationError("label_values", allowed, "a mapping of label names to the allowed values")
        self._source = source
        self._allowed = {name: _allowed_values(name, values) for name, values in allowed.items()}
        self.names = tuple(self._allowed)

    def __call__(self, exchange: Exchange) -> tuple[str, ...]:
        """The values for an exchange, in the order of the names."""
        try:
            given = self._source(exchange)
            return tuple(
                value if (value := given.get(name, OTHER)) in allowed else OTHER
                for name, allowed in self._allowed.items()
            )
        except Exception as error:  # noqa: BLE001 - fail open: the request counts all the same
            report("MetricsMiddleware.labels", error)
            return (OTHER,) * len(self.names)


def _allowed_values(name: str, values: Iterable[str]) -> frozenset[str]:
    if not isinstance(name, str) or NAME.fullmatch(name) is None or name in _RESERVED_NAMES:
        reserved = ", ".join(sorted(_RESERVED_NAMES))
        raise ConfigurationError("label_values", name, f"label names of letters, digits and _, none of {reserved}")
    allowed = frozenset() if isinstance(values, str) else frozenset(values)
    if not allowed or not all(isinstance(value, str) for value in allowed):
        raise ConfigurationError("label_values", values, f"some strings for the label {name}")
    return allowed
