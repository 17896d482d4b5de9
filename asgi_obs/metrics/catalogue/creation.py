"""`create`: the `prometheus_client` metric of a declaration, made once for each registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from threading import Lock
from types import MappingProxyType
from typing import Any, Final
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from asgi_obs.errors import ConfigurationError, on_report
from asgi_obs.metrics.catalogue.clients import CLIENTS
from asgi_obs.metrics.catalogue.database import DATABASE
from asgi_obs.metrics.catalogue.events import EVENTS
from asgi_obs.metrics.catalogue.health import HEALTH
from asgi_obs.metrics.catalogue.own import OWN
from asgi_obs.metrics.catalogue.process import PROCESS
from asgi_obs.metrics.catalogue.server import SERVER
from asgi_obs.metrics.declaration import Metric, require_valid
from asgi_obs.metrics.hot import HotCounter, HotGauge, HotHistogram, is_safe
from asgi_obs.metrics.multiprocess import install

__all__ = ["CATALOGUE", "SHIPPED", "create", "declare", "process_wide"]

SHIPPED: Final[Mapping[str, Metric]] = MappingProxyType(
    {metric.name: metric for metric in (*SERVER, *PROCESS, *HEALTH, *DATABASE, *CLIENTS, *EVENTS, *OWN)}
)
"""The metrics of this library, by name."""

CATALOGUE: Final[dict[str, Metric]] = dict(SHIPPED)
"""Every metric, by name: those of this library, and behind them those that `declare` has added."""

_SAMPLES: Final = {
    "counter": ("", "_total", "_created"),
    "gauge": ("",),
    "histogram": ("", "_bucket", "_count", "_sum", "_created"),
    "info": ("", "_info"),
}
"""What the names of the samples of a family end in."""

install()  # before the first metric is made


def _build(metric: Metric) -> Any:
    """The collector of a declaration, on no registry."""
    if metric.hot and is_safe():
        return _build_hot(metric)
    if metric.type == "info":
        return Info(metric.name.removesuffix("_info"), metric.help, registry=None)
    if metric.type == "histogram":
        return Histogram(
            metric.name, metric.help, metric.labels, unit=metric.unit, buckets=metric.buckets, registry=None
        )
    if metric.type == "gauge":
        return Gauge(
            metric.name, metric.help, metric.labels, unit=metric.unit, registry=None, multiprocess_mode=metric.mode
        )
    return Counter(metric.name, metric.help, metric.labels, unit=metric.unit, registry=None)


def _build_hot(metric: Metric) -> HotCounter | HotGauge | HotHistogram:
    if metric.type == "gauge":
        return HotGauge(metric.name, metric.help, metric.unit)
    if metric.type == "histogram":
        return HotHistogram(metric.name, metric.help, metric.labels, metric.unit, metric.buckets)
    return HotCounter(metric.name, metric.help, metric.labels, metric.unit)


_lock = Lock()
_created: WeakKeyDictionary[CollectorRegistry, dict[str, tuple[Metric, Any]]] = WeakKeyDictionary()
_process_wide: Final[dict[str, Any]] = {
    metric.name: _build(metric) for metric in SHIPPED.values() if metric.process_wide
}


def create(
    name: str,
    registry: CollectorRegistry,
    *,
    extra_labels: tuple[str, ...] | None = None,
    buckets: Sequence[float] | None = None,
) -> Any:
    """The Counter, Gauge, Histogram or Info of a name on a registry; made by the first call.

    Args:
        name: A name of the catalogue.
        registry: Where it is scraped.
        extra_labels: Labels behind the declared ones; None takes those it has.
        buckets: Upper bounds of a histogram, in its unit; None takes those it has, at first the declared ones.

    Raises:
        ConfigurationError: The catalogue does not have the name; or the registry has a collector of that name
            that is not ours, or ours with other labels or buckets.
    """
    if name not in CATALOGUE:
        raise ConfigurationError("name", name, "a name of the metric catalogue")
    with _lock:
        return _present(CATALOGUE[name], registry, extra_labels, buckets)


def declare(metric: Metric, registry: CollectorRegistry) -> None:
    """Add a metric to the catalogue and create it; one that is there with the same declaration stays as it is.

    Args:
        metric: The declaration, not `process_wide`.
        registry: Where it is scraped.

    Raises:
        ConfigurationError: It cannot be scraped so; or the name, or that of one of its samples, is taken: by this
            library, by another declaration, or on the registry by another library.
    """
    require_valid(metric)
    with _lock:
        _require_free(metric)
        _present(metric, registry)
        CATALOGUE[metric.name] = metric


def _present(
    declared: Metric,
    registry: CollectorRegistry,
    extra_labels: tuple[str, ...] | None = None,
    buckets: Sequence[float] | None = None,
) -> Any:
    """What `create` returns; to be called under the lock."""
    name = declared.name
    if not isinstance(registry, CollectorRegistry):
        raise ConfigurationError("registry", registry, "a prometheus_client.CollectorRegistry")
    present = _created.setdefault(registry, {})
    base, collector = present.get(name, (declared, None))
    wanted = replace(
        base,
        labels=base.labels if extra_labels is None else declared.labels + extra_labels,
        buckets=base.buckets if buckets is None else tuple(buckets),
    )
    if collector is not None:
        _require_same(base, wanted)
        # Test suites empty a registry between tests: what a new stack asks for must be scraped again.
        _register(collector, registry)
        return collector
    collector = _process_wide[name] if declared.process_wide else _build(wanted)
    if not _register(collector, registry):
        raise ConfigurationError("registry", registry, f"a registry without a {name} of another library")
    present[name] = (wanted, collector)
    return collector


def _require_free(metric: Metric) -> None:
    present = CATALOGUE.get(metric.name)
    if present == metric and metric.name not in SHIPPED:
        return
    taken = present or next((other for other in CATALOGUE.values() if _samples_of(other) & _samples_of(metric)), None)
    if taken is not None:
        owner = "asgi_obs" if taken.name in SHIPPED else "another declaration"
        raise ConfigurationError("name", metric.name, f"one that is free: {owner} has the {taken.type} {taken.name}")


def _samples_of(metric: Metric) -> frozenset[str]:
    """The names that nobody else may have, or a scrape could not be read."""
    family = metric.name.removesuffix({"counter": "_total", "info": "_info"}.get(metric.type, ""))
    return frozenset(family + ending for ending in _SAMPLES[metric.type])


def process_wide(name: str) -> Any:
    """The metric of a name that is declared `process_wide`; for code that has no registry."""
    return _process_wide[name]


def _register(collector: Any, registry: CollectorRegistry) -> bool:
    try:
        registry.register(collector)
    except ValueError:
        return False
    return True


def _require_same(present: Metric, wanted: Metric) -> None:
    for option in ("labels", "buckets"):
        has, asked = getattr(present, option), getattr(wanted, option)
        if has != asked:
            raise ConfigurationError(option, asked, f"{has}, as {present.name} has on this registry already")


def _count_error(component: str) -> None:
    _process_wide["asgi_obs_internal_errors_total"].labels(component).inc()


on_report(_count_error)
