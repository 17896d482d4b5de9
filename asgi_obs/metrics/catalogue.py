"""The catalogue: every metric is declared here once, and created from its declaration.

Code, documentation, dashboards, rules and runbooks are drawn from `CATALOGUE`. `create` makes the
`prometheus_client` metric of a name on a registry, or returns the one it has made before, so that a stack may be
built any number of times. What counts for the process as a whole (errors of this library, folded labels) exists
once and is shown by every registry that asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from threading import Lock
from typing import Any, Final
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from asgi_obs.errors import ConfigurationError, on_report
from asgi_obs.metrics.declaration import Metric, MetricType
from asgi_obs.metrics.hot import HotCounter, HotGauge, HotHistogram, is_safe

__all__ = ["CATALOGUE", "GUIDE_BUCKETS", "Metric", "MetricType", "create", "process_wide"]

GUIDE_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds; for requests that take from some milliseconds to some seconds."""

_LONG_BUCKETS: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Seconds; for connections that stay open, from a page view to a day."""

_BACKGROUND_BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0)

_METRICS: Final = (
    Metric(
        "http_requests_total",
        "counter",
        ("method", "endpoint", "status_code"),
        "",
        "HTTP requests that have ended, event streams included.",
        hot=True,
    ),
    Metric(
        "http_request_duration_seconds",
        "histogram",
        ("method", "endpoint"),
        "seconds",
        "Time from the start of a request to the last byte of its response; no event streams, no background tasks.",
        GUIDE_BUCKETS,
        hot=True,
    ),
    Metric("http_requests_active", "gauge", (), "", "HTTP requests whose response has not ended.", hot=True),
    Metric(
        "http_time_to_first_byte_seconds",
        "histogram",
        ("method", "endpoint"),
        "seconds",
        "Time from the start of a request to the start of its response.",
        GUIDE_BUCKETS,
        hot=True,
    ),
    Metric(
        "http_request_body_bytes_total",
        "counter",
        ("method", "endpoint"),
        "bytes",
        "Bytes of request bodies that were read.",
        hot=True,
    ),
    Metric(
        "http_response_body_bytes_total",
        "counter",
        ("method", "endpoint"),
        "bytes",
        "Bytes of response bodies that were sent.",
        hot=True,
    ),
    Metric(
        "http_exceptions_total",
        "counter",
        ("method", "endpoint", "exception"),
        "",
        "Exceptions that left the application before its response ended, by class.",
    ),
    Metric(
        "http_client_disconnects_total",
        "counter",
        ("method", "endpoint"),
        "",
        "Requests whose client left before the response ended.",
    ),
    Metric(
        "http_background_duration_seconds",
        "histogram",
        ("endpoint",),
        "seconds",
        "Time from the end of a response to the return of the application: background tasks.",
        _BACKGROUND_BUCKETS,
    ),
    Metric("websocket_connections_active", "gauge", (), "", "WebSocket sessions that are open."),
    Metric(
        "websocket_connections_total",
        "counter",
        ("endpoint", "close_code"),
        "",
        "WebSocket sessions that have ended, and handshakes that were denied.",
    ),
    Metric(
        "websocket_session_duration_seconds",
        "histogram",
        ("endpoint",),
        "seconds",
        "Time from the handshake of an accepted WebSocket session to its end.",
        _LONG_BUCKETS,
    ),
    Metric(
        "websocket_messages_total",
        "counter",
        ("endpoint", "direction"),
        "",
        "WebSocket messages, by direction: in from the client, out to it.",
        hot=True,
    ),
    Metric("sse_connections_active", "gauge", (), "", "Event streams (server-sent events) that are open."),
    Metric(
        "sse_events_sent_total", "counter", ("event_type",), "", "Server-sent events that were sent, by type.", hot=True
    ),
    Metric(
        "sse_connection_duration_seconds",
        "histogram",
        ("endpoint", "outcome"),
        "seconds",
        "Time from the start of a request for an event stream to the end of the stream.",
        _LONG_BUCKETS,
    ),
    Metric(
        "process_cpu_usage_percent",
        "gauge",
        (),
        "percent",
        "CPU time of this process since the last scrape; 100 is one core.",
    ),
    Metric("process_memory_usage_bytes", "gauge", (), "bytes", "Resident memory of this process."),
    Metric("service_info", "info", ("name", "version", "environment"), "", "Which service this is."),
    Metric("health_status", "gauge", ("service",), "", "Health of the service: 1 healthy, 0.5 degraded, 0 unhealthy."),
    Metric("health_check_status", "gauge", ("check",), "", "Result of a check: 1 healthy, 0.5 degraded, 0 unhealthy."),
    Metric(
        "health_check_duration_seconds",
        "histogram",
        ("check",),
        "seconds",
        "Time that a health check took.",
        GUIDE_BUCKETS,
    ),
    Metric(
        "http_client_requests_total",
        "counter",
        ("method", "host", "status_code"),
        "",
        "HTTP requests to other services; the status is the class of the exception where there was no response.",
    ),
    Metric(
        "http_client_request_duration_seconds",
        "histogram",
        ("method", "host"),
        "seconds",
        "Time from the start of a request to another service to the start of its response, or to its failure.",
        GUIDE_BUCKETS,
    ),
    Metric(
        "mcp_tool_calls_total",
        "counter",
        ("tool", "outcome"),
        "",
        "Calls of MCP tools, by this client; the outcome is success, tool_error, error or cancelled.",
    ),
    Metric(
        "mcp_tool_call_duration_seconds",
        "histogram",
        ("tool",),
        "seconds",
        "Time that a call of an MCP tool took.",
        GUIDE_BUCKETS,
    ),
    Metric(
        "trace_spans_dropped_total",
        "counter",
        (),
        "",
        "Spans that could not be exported, or that found the queue full.",
        process_wide=True,
    ),
    Metric(
        "log_records_total",
        "counter",
        ("level",),
        "",
        "Log records that were handed to a handler of this library, by level.",
        process_wide=True,
        hot=True,
    ),
    Metric(
        "log_records_dropped_total",
        "counter",
        (),
        "",
        "Log records that could not be written, or that found the queue full.",
        process_wide=True,
    ),
    Metric(
        "asgi_obs_internal_errors_total",
        "counter",
        ("component",),
        "",
        "Errors in observers, callbacks and checks that were kept from the requests.",
        process_wide=True,
    ),
    Metric(
        "asgi_obs_label_overflow_total",
        "counter",
        ("metric",),
        "",
        "Look-ups that were folded because a metric had reached its cap on series.",
        process_wide=True,
    ),
)

CATALOGUE: Final[dict[str, Metric]] = {metric.name: metric for metric in _METRICS}
"""Every metric, by name."""


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
    kind = Counter if metric.type == "counter" else Gauge
    return kind(metric.name, metric.help, metric.labels, unit=metric.unit, registry=None)


def _build_hot(metric: Metric) -> HotCounter | HotGauge | HotHistogram:
    if metric.type == "gauge":
        return HotGauge(metric.name, metric.help, metric.unit)
    if metric.type == "histogram":
        return HotHistogram(metric.name, metric.help, metric.labels, metric.unit, metric.buckets)
    return HotCounter(metric.name, metric.help, metric.labels, metric.unit)


_lock = Lock()
_created: WeakKeyDictionary[CollectorRegistry, dict[str, tuple[Metric, Any]]] = WeakKeyDictionary()
_process_wide: Final[dict[str, Any]] = {metric.name: _build(metric) for metric in _METRICS if metric.process_wide}


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
