"""`create`: the `prometheus_client` metric of a declaration, made once for each registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from threading import Lock
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
from asgi_obs.metrics.declaration import Metric
from asgi_obs.metrics.hot import HotCounter, HotGauge, HotHistogram, is_safe
from asgi_obs.metrics.multiprocess import install

__all__ = ["CATALOGUE", "create", "process_wide"]

CATALOGUE: Final[dict[str, Metric]] = {
    metric.name: metric for metric in (*SERVER, *PROCESS, *HEALTH, *DATABASE, *CLIENTS, *EVENTS, *OWN)
}
"""Every metric, by name."""

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
    metric.name: _build(metric) for metric in CATALOGUE.values() if metric.process_wide
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
    declared = _declared(name, registry)
    with _lock:
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


def _declared(name: str, registry: object) -> Metric:
    if name not in CATALOGUE:
        raise ConfigurationError("name", name, "a name of the metric catalogue")
    if not isinstance(registry, CollectorRegistry):
        raise ConfigurationError("registry", registry, "a prometheus_client.CollectorRegistry")
    return CATALOGUE[name]


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
