"""The SERVER span of an exchange.

`TracingMiddleware` starts a span when the exchange is opened, as a child of the caller's `traceparent`, and ends
it with the exchange: with the clock, status and route that log line and metric have. There are no spans for
single messages. Names and attributes are those of the stable HTTP conventions,
https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server. With `opentelemetry-api` alone nothing is
recorded, but a caller's trace ID still reaches the log lines; that costs about 3 µs, a recorded span what the SDK
takes for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import time_ns
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.propagators.textmap import Getter, TextMapPropagator
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_span_id, format_trace_id

from asgi_obs.classify import error_type
from asgi_obs.exchange import Exchange, ExchangeMiddleware
from asgi_obs.redaction import redactor_for, redactor_of
from asgi_obs.settings import Settings
from asgi_obs.types import ASGIApp, Observer

__all__ = ["TracingMiddleware"]

_KNOWN_METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)


class _HeaderGetter(Getter[Mapping[bytes, bytes]]):
    """Reads the headers of an exchange as text, the way propagators ask for them."""

    def get(self, carrier: Mapping[bytes, bytes], key: str) -> list[str] | None:
        value = carrier.get(key.lower().encode("latin-1"))
        return None if value is None else [value.decode("latin-1")]

    def keys(self, carrier: Mapping[bytes, bytes]) -> list[str]:
        return [name.decode("latin-1") for name in carrier]


_GETTER: Final = _HeaderGetter()


class TracingMiddleware(ExchangeMiddleware, Observer):
    """Makes one SERVER span of every exchange.

    The span is current while the application runs. Its name is `{method} {route}`, or the method alone where
    there is no route; a 5xx, an exception and an unfinished response set its status to error.

    Args:
        app: The ASGI application to wrap.
        tracer_provider: Makes the tracer; None is OpenTelemetry's global provider, whenever it is set.
        propagator: Reads the caller's context from the headers; None is OpenTelemetry's global one
            (`OTEL_PROPAGATORS`; W3C trace context and baggage by default).
        settings: Say what is redacted, in place of the environment.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        propagator: TextMapPropagator | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._tracer = trace.get_tracer("asgi_obs", tracer_provider=tracer_provider)
        self._extract = (propagator or _global_propagator()).extract
        self._redactor = redactor_of() if settings is None else redactor_for(settings)
        super().__init__(app, observers=(self,))

    def on_start(self, exchange: Exchange) -> Callable[[], object] | None:
        """Start the span and make it the current one."""
        parent = self._extract(exchange.headers, getter=_GETTER)
        started_at = time_ns()
        span = self._tracer.start_span(
            exchange.method if exchange.method in _KNOWN_METHODS else "HTTP",
            parent,
            SpanKind.SERVER,
            _sampling_attributes(exchange),
            start_time=started_at,
        )
        span_context = span.get_span_context()
        if not span_context.is_valid:
            return None
        exchange.trace_id = format_trace_id(span_context.trace_id)
        exchange.span_id = format_span_id(span_context.span_id)
        exchange.sampled = span_context.trace_flags.sampled
        if span.is_recording():
            exchange.note(self, (span, started_at))
        token = otel_context.attach(trace.set_span_in_context(span, parent))
        return lambda: otel_context.detach(token)

    def on_end(self, exchange: Exchange) -> None:
        """Give the span what is known now, and end it at the end of the exchange."""
        noted = exchange.noted(self)
        if noted is not None:
            span, started_at = noted
            span.set_attributes(self._attributes(exchange))
            if exchange.route is not None:
                span.update_name(f"{_method(exchange)} {exchange.route}")
            self._set_status(span, exchange)
            span.end(started_at + int(exchange.duration * 1e9))

    def _attributes(self, exchange: Exchange) -> dict[str, Any]:
        scope = exchange.scope
        attributes: dict[str, Any] = {
            "http.response.status_code": exchange.status,
            "network.protocol.version": scope.get("http_version", "1.1"),
        }
        if exchange.route is not None:
            attributes["http.route"] = exchange.route
        if scope.get("query_string"):
            attributes["url.query"] = self._redactor.redact_query(scope["query_string"].decode("latin-1"))
        if scope.get("server"):
            attributes["server.address"], attributes["server.port"] = scope["server"]
        if scope.get("client"):
            attributes["client.address"] = scope["client"][0]
        user_agent = exchange.headers.get(b"user-agent")
        if user_agent is not None:
            attributes["user_agent.original"] = user_agent.decode("latin-1")
        if exchange.correlation_id is not None:
            attributes["correlation_id"] = exchange.correlation_id
        if exchange.method not in _KNOWN_METHODS:
            attributes["http.request.method_original"] = exchange.method
        if exchange.fields:
            for name, value in self._redactor.redact(exchange.fields).items():
                attributes[name] = value if isinstance(value, (bool, int, float, str)) else str(value)
        return attributes

    def _set_status(self, span: Span, exchange: Exchange) -> None:
        error = exchange.exception if exchange.outcome == "error" else None
        if error is not None:
            span.record_exception(error)
            span.set_attribute("error.type", error_type(error))
            span.set_status(Status(StatusCode.ERROR))
        elif exchange.outcome == "incomplete" or (exchange.status or 0) >= 500:
            span.set_attribute("error.type", str(exchange.status))
            span.set_status(Status(StatusCode.ERROR))


def _method(exchange: Exchange) -> str:
    return exchange.method if exchange.method in _KNOWN_METHODS else "HTTP"


def _sampling_attributes(exchange: Exchange) -> dict[str, Any]:
    """What a sampler may decide by; the conventions ask for these at the start of a span."""
    return {
        "http.request.method": exchange.method if exchange.method in _KNOWN_METHODS else "_OTHER",
        "url.scheme": exchange.scope.get("scheme", "http"),
        "url.path": exchange.path,
    }


def _global_propagator() -> TextMapPropagator:
    # Imported here: at its import it looks for propagators among all installed packages.
    from opentelemetry.propagate import get_global_textmap

    return get_global_textmap()
