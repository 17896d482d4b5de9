"""`MetricsMiddleware`: rate, errors, duration and size of requests by route, for HTTP, WebSockets and event streams.

It fires when an exchange starts (the gauges of what is active), when its response starts, on every message of a
WebSocket or event stream, when it has ended (all the rest) and when the application has returned (background
tasks). An HTTP request costs about 3 µs. Every family has a cap on its series. Requests to the ops paths move
`http_requests_active` and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from asgi_obs.classify import error_type
from asgi_obs.exchange import Exchange, ExchangeMiddleware, HttpExchange, WebSocketExchange
from asgi_obs.metrics.buckets import buckets_of
from asgi_obs.metrics.catalogue import SHIPPED, create
from asgi_obs.metrics.labels import (
    CustomLabels,
    EndpointLabel,
    Family,
    endpoint_label,
    family,
    method_label,
)
from asgi_obs.metrics.sse import EventStreamMetrics
from asgi_obs.metrics.websocket import WebSocketMetrics
from asgi_obs.types import ASGIApp, LabelSource, Message, Observer

__all__ = ["HttpMetrics", "MetricsMiddleware"]

MAX_SERIES: Final = 2_000

MIN_BACKGROUND: Final = 0.001
"""Seconds after the response that count as background tasks; less is the framework that unwinds."""

_Key: TypeAlias = "tuple[str, str | None, int | None, bool, bool, tuple[str, ...]]"
"""Method, route, status, whether it was an event stream, custom label values."""


class MetricsMiddleware(ExchangeMiddleware, Observer):
    """Counts and times every exchange, labelled with the template of its route.

    May be built any number of times on one registry; the families are shared.

    Args:
        app: The ASGI application to wrap.
        registry: Where the metrics are scraped; default the one of `prometheus_client`.
        buckets: The upper bounds of request duration and time to first byte, in seconds, or the name of a
            preset: `guide` (default, 10 ms to 10 s), `fast` (0.5 ms to 1 s), `slow` (100 ms to 5 min).
        unmatched: The endpoint of requests that no route matched: `group` (default) puts them together as
            `__unmatched__`; `path` keeps the first 100 raw paths.
        max_series: The cap on the combinations of label values of each family; past it new values become
            `__overflow__`.
        labels: Gives the values of labels of your own, by name, for an exchange that has ended; they go to
            `http_requests_total` and `http_request_duration_seconds`.
        label_values: The names of these labels and the values they may have; any other becomes `__other__`.
        exemplars: Attach the trace ID of a sampled span to request count and duration; seen in OpenMetrics only.

    Raises:
        ConfigurationError: An option has a wrong value; or the registry has one of these metrics from another
            library, or with other labels or buckets.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        registry: CollectorRegistry = REGISTRY,
        buckets: str | Sequence[float] = "guide",
        unmatched: str = "group",
        max_series: int = MAX_SERIES,
        labels: LabelSource | None = None,
        label_values: Mapping[str, Iterable[str]] | None = None,
        exemplars: bool = True,
    ) -> None:
        endpoint = endpoint_label(unmatched)
        custom = None if labels is None and label_values is None else CustomLabels(labels, label_values)
        self._http = HttpMetrics(
            registry,
            endpoint=endpoint,
            max_series=max_series,
            buckets=buckets_of(buckets),
            custom=custom,
            exemplars=exemplars,
        )
        self._started = self._http.started
        self._websocket = WebSocketMetrics(registry, endpoint=endpoint, max_series=max_series)
        self._streams = EventStreamMetrics(registry, endpoint=endpoint, max_series=max_series)
        for metric in SHIPPED.values():
            if metric.process_wide:
                create(metric.name, registry)
        super().__init__(app, observers=(self,))

    def on_start(self, exchange: Exchange) -> None:
        """An HTTP request is active from here on."""
        if type(exchange) is HttpExchange:
            self._started()

    def on_message(self, exchange: Exchange, message: Message) -> None:
        """Count a WebSocket message, or the events in a chunk; with the first one, what is open."""
        watched = exchange.noted(self)
        if watched is not None:
            watched.message(exchange, message)
        elif type(exchange) is WebSocketExchange:
            exchange.note(self, self._websocket.accepted())
        elif exchange.method != "HEAD" and not exchange.operational:
            exchange.note(self, self._streams.started())

    def on_end(self, exchange: Exchange) -> None:
        """Count what ended; first of all it is no longer active."""
        watched = exchange.noted(self)
        if type(exchange) is WebSocketExchange:
            self._websocket.ended(exchange, watched)
            return
        if watched is not None:
            self._streams.ended(exchange)
        self._http.ended(exchange, watched is not None)

    def on_return(self, exchange: Exchange) -> None:
        """Time the background tasks, if there were any."""
        # Both are set by now. If the return was the end, the difference is negative.
        background = (exchange.returned_at or 0.0) - (exchange.ended_at or 0.0)
        if background >= MIN_BACKGROUND and type(exchange) is HttpExchange and not exchange.operational:
            self._http.worked_on(exchange, background)


class HttpMetrics:
    """Moves the http_* families.

    Args:
        registry: Where they are scraped.
        endpoint: Makes the endpoint label.
        max_series: The cap on the series of each.
        buckets: The upper bounds of request duration and time to first byte, in seconds.
        custom: The labels of the user; None if there are none.
        exemplars: Whether to attach trace IDs.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        endpoint: EndpointLabel,
        max_series: int,
        buckets: Sequence[float],
        custom: CustomLabels | None,
        exemplars: bool,
    ) -> None:
        capped = partial(family, registry=registry, max_series=max_series)
        extra = () if custom is None else custom.names
        self._endpoint = endpoint
        self._custom = custom
        self._exemplars = exemplars
        self._known: dict[_Key, _Series] = {}
        active: Gauge = create("http_requests_active", registry)
        self.started = active.inc
        self._no_longer_active = active.dec
        self._requests: Family[Counter] = capped("http_requests_total", extra_labels=extra)
        self._duration: Family[Histogram] = capped("http_request_duration_seconds", extra_labels=extra, buckets=buckets)
        self._first_byte: Family[Histogram] = capped("http_time_to_first_byte_seconds", buckets=buckets)
        self._bytes_in: Family[Counter] = capped("http_request_body_bytes_total")
        self._bytes_out: Family[Counter] = capped("http_response_body_bytes_total")
        self._exceptions: Family[Counter] = capped("http_exceptions_total")
        self._disconnects: Family[Counter] = capped("http_client_disconnects_total")
        self._background: Family[Histogram] = capped("http_background_duration_seconds")
        self._db_queries: Family[Histogram] = capped("http_request_db_queries")
        self._db_duration: Family[Histogram] = capped("http_request_db_duration_seconds")

    def ended(self, exchange: Exchange, streamed: bool) -> None:  # noqa: FBT001 - called once per request
        """A request and its response ended; one that was an event stream has no latency."""
        self._no_longer_active()
        if exchange.operational:
            return
        custom = () if self._custom is None else self._custom(exchange)
        answered = exchange.first_byte_at is not None
        key = (exchange.method, exchange.route, exchange.status, answered, streamed, custom)
        series = self._known.get(key) or self._look_up(exchange, key)
        exemplar = {"trace_id": exchange.trace_id} if exchange.sampled and self._exemplars else None
        series.requests(1, exemplar)
        series.duration(exchange.duration, exemplar)
        if exchange.first_byte_at is not None:
            series.first_byte(exchange.first_byte_at - exchange.started_at)
        if exchange.bytes_in:
            series.bytes_in(exchange.bytes_in)
        if exchange.bytes_out:
            series.bytes_out(exchange.bytes_out)
        if exchange.database is not None:
            self._db_queries.child(series.labels).observe(exchange.database.queries)
            self._db_duration.child(series.labels).observe(exchange.database.seconds)
        if exchange.outcome == "client_disconnected":
            self._disconnects.child(series.labels).inc()
        elif exchange.outcome == "error" and exchange.exception is not None:
            self._exceptions.child((*series.labels, error_type(exchange.exception))).inc()

    def worked_on(self, exchange: Exchange, background: float) -> None:
        """The application took this many seconds behind the end of the response: background tasks."""
        self._background.child((self._endpoint(exchange.route, exchange),)).observe(background)

    def _look_up(self, exchange: Exchange, key: _Key) -> _Series:
        *_, answered, streamed, custom = key
        method = method_label(exchange)
        labels = (method, self._endpoint(exchange.route, exchange))
        values = (*labels, str(exchange.status), *custom)
        series = _Series(
            labels,
            requests=self._requests.child(values).inc,
            duration=_ignore if streamed else self._duration.child(labels + custom).observe,
            first_byte=self._first_byte.child(labels).observe if answered else _ignore,
            bytes_in=self._bytes_in.child(labels).inc,
            bytes_out=self._bytes_out.child(labels).inc if answered else _ignore,
        )
        # Only what has a series of its own is kept: a client can make up methods and paths without end.
        if exchange.route and method == exchange.method and self._requests.holds(values):
            self._known[key] = series
        return series


class _Series(NamedTuple):
    """What the requests to one route with one method and status move, looked up once."""

    labels: tuple[str, str]
    requests: Callable[..., None]
    duration: Callable[..., None]
    first_byte: Callable[[float], None]
    bytes_in: Callable[[float], None]
    bytes_out: Callable[[float], None]


def _ignore(amount: float, exemplar: dict[str, str] | None = None) -> None:
    """The duration of an event stream is no latency; what was never answered has no first byte and no body."""
