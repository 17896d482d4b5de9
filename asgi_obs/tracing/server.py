"""The SERVER span of an exchange.

`TracingMiddleware` starts a span when the exchange is opened, as a child of the caller's `traceparent`, and ends
it with the exchange: with the clock, status and route that log line and metric have. There are no spans for
single messages. Where another instrumentation has started a span for the request, that one is told the same, and
there is no second. With `opentelemetry-api` alone nothing is recorded, but a caller's trace ID still reaches the log
lines. That costs 5 µs, a request that is not sampled 12, and a recorded span 36, half of which the SDK takes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection
from functools import partial
from time import time_ns
from typing import Final

from anyio import CapacityLimiter, to_thread
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import Span, SpanKind, StatusCode

from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import Exchange, ExchangeMiddleware
from asgi_obs.redaction import redactor_for
from asgi_obs.settings import TRACE_RESPONSE_HEADERS, Settings
from asgi_obs.tracing.capture import HeaderCapture
from asgi_obs.tracing.conventions import LazyAttributes, bound_attributes, encodable
from asgi_obs.tracing.failure import record_failure
from asgi_obs.tracing.flush import flush
from asgi_obs.tracing.incoming import Incoming
from asgi_obs.tracing.legacy import conventions_of
from asgi_obs.tracing.native import claim, claims
from asgi_obs.tracing.trust import Trust
from asgi_obs.types import ASGIApp, Message, Observer

__all__ = ["TracingMiddleware"]

_SCOPE: Final = "asgi_obs"
"""The instrumentation scope of our spans."""

_JOINED: Final = otel_context.create_key("asgi_obs.joined")
"""Under which a context keeps the span of another instrumentation that a request has joined."""

_HANDLED: Final = object()
"""Under which an exchange keeps the `id()` of the exception that was recorded already."""

_CUT_SHORT: Final = frozenset({"incomplete", "cancelled"})
"""Outcomes without an exception that are errors of the server; a client that leaves is none."""


class TracingMiddleware(ExchangeMiddleware, Observer):
    """Makes one SERVER span of every exchange.

    The span is current while the application runs. Its name is `{method} {route}`, or the method alone where
    there is no route; a 5xx, an exception and an unfinished response set its status to error.

    Args:
        app: The ASGI application to wrap.
        tracer_provider: Makes the tracer; None is OpenTelemetry's global provider, whenever it is set.
        propagator: Reads the caller's context from the headers; None is OpenTelemetry's global one, whenever it is set
            (`OTEL_PROPAGATORS`; W3C trace context and baggage by default).
        settings: What the environment says, if it is not to be read here.
        trust_incoming: Whose context is continued: everybody's (True), nobody's (False), that of callers from some
            networks, or of those for whom a function of the scope says so. Others get a new trace with a link to
            theirs, and their `tracestate` and `baggage` are not believed. None is `TRUST_INCOMING`.
        response_header: Tell the trace in the response, by `server-timing` or `traceresponse`; or `none`. None is
            `TRACE_RESPONSE_HEADER`.

    Raises:
        ConfigurationError: `trust_incoming` or `response_header` is none of these.
        SettingsError: A variable has a value that is not allowed.
        MissingExtraError: A variable asks for captured headers or the old conventions, without the extra `otel`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        propagator: TextMapPropagator | None = None,
        settings: Settings | None = None,
        trust_incoming: bool | Collection[str] | Trust | None = None,
        response_header: str | None = None,
    ) -> None:
        settings = Settings() if settings is None else settings
        self._tracer_provider = tracer_provider
        self._start_span = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider).start_span
        self._redactor = redactor_for(settings)
        self._stack_traces = settings.stack_traces
        trust = settings.trust_incoming if trust_incoming is None else trust_incoming
        self._incoming = Incoming(propagator, trust)
        self._known_methods = frozenset(settings.known_methods)
        conventions = conventions_of(settings.semconv_opt_in, self._redactor, self._known_methods)
        self._start_attributes, self._status_attributes = conventions.start, conventions.status_names
        # One by one: flags such as `(?i)` stand at the start of an expression only.
        self._excluded = [re.compile(pattern).search for pattern in settings.excluded_urls]
        self._capture = HeaderCapture(settings, self._redactor) if _captures(settings) else None
        header = settings.trace_response_header if response_header is None else response_header
        if header not in TRACE_RESPONSE_HEADERS:
            raise ConfigurationError("response_header", header, f"one of {', '.join(TRACE_RESPONSE_HEADERS)}")
        self._response_header = None if header == "none" else header
        self._claims = claims()
        super().__init__(app, observers=(self,))

    def on_start(self, exchange: Exchange) -> Callable[[], object] | None:
        """Start the span and make it the current one."""
        if self._excluded and self._excludes(_url_of(exchange)):
            claim(exchange.inner_scope, self._claims)
            return None
        around = otel_context.get_current()
        restore = self._join_span(exchange) if around else None
        if restore is None:
            restore = self._open_span(exchange, around)
        if self._claims and exchange.span_context is not None:
            claim(exchange.inner_scope, self._claims)
        return restore

    def _open_span(self, exchange: Exchange, around: Context) -> Callable[[], object] | None:
        parent, links = self._incoming(exchange, around)
        started_at = time_ns()
        span = self._start_span(
            exchange.method if exchange.method in self._known_methods else "HTTP",
            parent,
            SpanKind.SERVER,
            LazyAttributes(self._start_attributes, exchange),
            links,
            started_at,
        )
        if span.is_recording():
            exchange.note(self, (span, started_at))
        span_context = span.get_span_context()
        if span_context.is_valid:
            exchange.span_context = span_context
            parent = trace.set_span_in_context(span, parent)
        elif not parent:
            return None
        return partial(otel_context.detach, otel_context.attach(parent))

    def _excludes(self, url: str) -> bool:
        return any(search(url) for search in self._excluded)

    def _join_span(self, exchange: Exchange) -> Callable[[], object] | None:
        """Use the span that another instrumentation has made for this request, if there is one."""
        active = trace.get_current_span()
        if not active.is_recording():
            return self._join_unsampled(exchange, active)
        # A request in the middle of another one may not take that one's: applications that call applications.
        if not _is_span_of(exchange, active) or otel_context.get_value(_JOINED) is active:
            return None
        exchange.note(self, (active, None))
        exchange.span_context = active.get_span_context()
        return partial(otel_context.detach, otel_context.attach(otel_context.set_value(_JOINED, active)))

    def _join_unsampled(self, exchange: Exchange, active: Span) -> Callable[[], object] | None:
        """Leave it at that where another instrumentation has decided not to sample: we would draw once more."""
        span_context = active.get_span_context()
        if not span_context.is_valid or span_context.is_remote or span_context.trace_flags.sampled:
            return None
        exchange.span_context = span_context
        return bool  # nothing to undo

    def on_response_start(self, exchange: Exchange, message: Message) -> None:
        """Give the span what only now is known, and the response its header."""
        if self._response_header is not None and exchange.span_context is not None:
            self._answer(exchange, message)
        noted = exchange.noted(self)
        if noted is None:
            return
        span, started_at = noted
        if self._capture is not None:
            span.set_attributes(self._capture.response(message))
        if started_at is None:
            # The one whose span it is may end it before we hear of the end.
            self._describe(span, exchange, exchange.resolve_route())
        elif message.get("status", 0) >= 500:
            # A framework's handler answers from within its `except`.
            error = sys.exc_info()[1]
            if isinstance(error, Exception):
                exchange.note(_HANDLED, id(error))
                record_failure(span, error, self._redactor, stack=self._stack_traces)

    def on_end(self, exchange: Exchange) -> None:
        """Give the span what is known at the end, and end it with the exchange."""
        noted = exchange.noted(self)
        if noted is None:
            return
        span, started_at = noted
        if started_at is None:
            # Without a response nobody has described it yet.
            if exchange.first_byte_at is None and span.is_recording():
                self._describe(span, exchange, exchange.route)
            return
        try:
            # Few calls of `set_attribute` cost less than one of `set_attributes`.
            for name in self._status_attributes:
                span.set_attribute(name, exchange.status)
            if exchange.outcome != "completed" or (exchange.status or 0) >= 500:
                self._judge(span, exchange)
            self._describe(span, exchange, exchange.route)
        finally:
            span.end(started_at + int(exchange.duration * 1e9))

    async def on_shutdown(self) -> None:
        """Export the spans that wait."""
        # A limiter of its own: threads that hang must not keep the spans.
        await to_thread.run_sync(flush, self._tracer_provider, limiter=CapacityLimiter(1))

    def _describe(self, span: Span, exchange: Exchange, route: str | None) -> None:
        if route is not None:
            route = encodable(route)
            method = exchange.method if exchange.method in self._known_methods else "HTTP"
            span.update_name(f"{method} {route}")
            span.set_attribute("http.route", route)
        if exchange.correlation_id is not None:
            span.set_attribute("correlation_id", exchange.correlation_id)
        if exchange.fields is not None:
            span.set_attributes(bound_attributes(exchange.fields, self._redactor))
        if self._capture is not None:
            span.set_attributes(self._capture.request(exchange.scope))

    def _judge(self, span: Span, exchange: Exchange) -> None:
        outcome, error = exchange.outcome, exchange.exception
        handled = exchange.noted(_HANDLED)
        if outcome == "error" and error is not None:
            if handled != id(error):
                record_failure(span, error, self._redactor, stack=self._stack_traces)
        elif handled is None and (outcome in _CUT_SHORT or (exchange.status or 0) >= 500):
            span.set_attribute("error.type", str(outcome if outcome in _CUT_SHORT else exchange.status))
            span.set_status(StatusCode.ERROR)

    def _answer(self, exchange: Exchange, message: Message) -> None:
        value = f"00-{exchange.trace_id}-{exchange.span_id}-{'01' if exchange.sampled else '00'}"
        headers = list(message.get("headers", ()))
        if self._response_header == "server-timing":
            headers.append((b"server-timing", f'trace;desc="{value}"'.encode()))
        else:
            headers = [item for item in headers if item[0].lower() != b"traceresponse"]
            headers.append((b"traceresponse", value.encode()))
        message["headers"] = headers


def _captures(settings: Settings) -> bool:
    return bool(settings.capture_request_headers or settings.capture_response_headers)


def _is_span_of(exchange: Exchange, span: Span) -> bool:
    """Whether a span is the SERVER span that another instrumentation has made for this very request."""
    if getattr(span, "kind", None) is not SpanKind.SERVER:
        return False
    # A request in the middle of another one: applications that call applications.
    if getattr(getattr(span, "instrumentation_scope", None), "name", None) == _SCOPE:
        return False
    attributes = getattr(span, "attributes", None) or {}
    path = attributes.get("url.path", attributes.get("http.target"))
    if path is None:  # as FastAPI's of a WebSocket
        return bool(exchange.scope["type"] == "websocket")
    return str(path).partition("?")[0] == exchange.path


def _url_of(exchange: Exchange) -> str:
    """The URL that exclusions are matched with: without the query, as opentelemetry-instrumentation-asgi has it."""
    scope = exchange.scope
    host = exchange.headers.get(b"host")
    server = scope.get("server") or ("", None)
    authority = host.decode("latin-1") if host is not None else f"{server[0]}:{server[1]}"
    return f"{scope.get('scheme', 'http')}://{authority}{exchange.path}"
