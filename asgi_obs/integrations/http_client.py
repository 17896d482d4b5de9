"""A call to another service over HTTP: its headers, its span, its metrics and its log line.

What the integrations of httpx and aiohttp share. A call starts when the request is handed to the library, and ends
when the start of the response has arrived, or with an exception: as the conventions recommend,
https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-client-span-duration, so that a streamed body is left
alone. It costs about 40 µs with a recorded span, 17 with one that is not sampled, and 11 without an SDK.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, MutableMapping
from contextvars import Token
from time import perf_counter, time_ns
from typing import Any, Final, TypedDict

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_HTTP_INSTRUMENTATION_KEY, _SUPPRESS_INSTRUMENTATION_KEY, Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from asgi_obs.classify import error_type
from asgi_obs.correlation import HEADER
from asgi_obs.errors import ConfigurationError, report
from asgi_obs.integrations.hosts import HostRule, bracketed, host_rule, texts
from asgi_obs.logs import get_logger
from asgi_obs.logs.failure import describe
from asgi_obs.metrics.http import MAX_SERIES
from asgi_obs.metrics.labels import OTHER, OTHER_METHOD, Family, family
from asgi_obs.redaction import redactor_for, redactor_of
from asgi_obs.settings import Settings
from asgi_obs.tracing.conventions import encodable, redacted_query
from asgi_obs.tracing.propagation import CORRELATION_KEY, current_correlation_id, inject_context

__all__ = ["LOGGER", "Call", "CallOptions", "Calls"]

LOGGER: Final = "asgi_obs.client"

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header name: RFC 9110, section 5.6.2."""

_DEFAULT_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_USERINFO: Final = re.compile(r"(?<=://)[^/?#]*@")
_AFTER_PATH: Final = re.compile(r"[?#].*", re.DOTALL)

_ERROR: Final = Status(StatusCode.ERROR)
_log = get_logger(LOGGER)


class CallOptions(TypedDict, total=False):
    """The options of `Calls`, for annotations."""

    propagate_to: HostRule
    baggage: Collection[str]
    tracer_provider: trace.TracerProvider | None
    registry: CollectorRegistry
    settings: Settings | None
    correlation_header: str


class Calls:
    """Starts calls; built once for a client.

    Args:
        propagate_to: The hosts that get trace and correlation ID: patterns such as `api.example.com`, `*.internal`
            (what is below it, at any depth) and `localhost:8080`; or a callable that takes a host, in lower case and
            without port, and returns a bool. None (default) is every host.
        baggage: The names of the baggage entries that go out, to the same hosts; none by default.
        tracer_provider: Makes the tracer; None is OpenTelemetry's global provider, whenever it is set.
        registry: Where the metrics are scraped; default the one of `prometheus_client`.
        settings: Say what is redacted, in place of the environment.
        correlation_header: The header of the correlation ID; one that the caller has set is left alone.

    Raises:
        ConfigurationError: An option has a wrong value.
    """

    def __init__(
        self,
        *,
        propagate_to: HostRule = None,
        baggage: Collection[str] = (),
        tracer_provider: trace.TracerProvider | None = None,
        registry: CollectorRegistry = REGISTRY,
        settings: Settings | None = None,
        correlation_header: str = HEADER,
    ) -> None:
        if tracer_provider is not None and not isinstance(tracer_provider, trace.TracerProvider):
            raise ConfigurationError("tracer_provider", tracer_provider, "None, or an OpenTelemetry TracerProvider")
        if settings is not None and not isinstance(settings, Settings):
            raise ConfigurationError("settings", settings, "None, or a Settings")
        if not isinstance(correlation_header, str) or _TOKEN.fullmatch(correlation_header) is None:
            raise ConfigurationError(
                "correlation_header", correlation_header, "a header name, such as X-Correlation-ID"
            )
        self._may_have_context = host_rule(propagate_to)
        self._baggage = frozenset(texts("baggage", baggage, "names of baggage entries, such as ['tenant']"))
        self._correlation_header = correlation_header
        self._redactor = redactor_of() if settings is None else redactor_for(settings)
        self.known_methods = frozenset(Settings.read("known_methods") if settings is None else settings.known_methods)
        self.tracer = trace.get_tracer("asgi_obs", tracer_provider=tracer_provider)
        self._requests: Family[Counter] = family("http_client_requests_total", registry, max_series=MAX_SERIES)
        self._duration: Family[Histogram] = family(
            "http_client_request_duration_seconds", registry, max_series=MAX_SERIES
        )

    def start(self, method: str, url: Any, host: str, headers: Mapping[str, str], *, traced: bool = False) -> Call:
        """Start a call; its span is the current one from here to its end.

        Args:
            method: The method of the request.
            url: Where it goes: `scheme` and `port` are read, and `str` is called where the text is needed.
            host: The host of the URL as it goes over the wire, without brackets.
            headers: Those that are set already; their names are compared without case.
            traced: Another instrumentation makes the span of this call, and sends the trace.

        Returns:
            The call, to be ended in any case; its `headers` are to be sent.
        """
        call = Call(self, method, url)
        try:
            call.locate(host)
            if not traced and not _is_suppressed():
                call.start_span()
            call.headers = self._headers(call, headers)
        except Exception as error:  # noqa: BLE001 - fail open: a call that nobody sees is better than none
            report("http_client.Calls.start", error)
        return call

    def count(self, call: Call, status_code: str, duration: float) -> None:
        """Move the metrics at the end of a call."""
        method = call.method if call.method in self.known_methods else OTHER_METHOD
        self._requests.child((method, call.host, status_code)).inc()
        self._duration.child((method, call.host)).observe(duration)

    def log(self, call: Call, status: int | None, error: BaseException | None, duration: float) -> None:
        """Write the line at the end of a call: at DEBUG, or at WARN if it failed. One that is cancelled has not."""
        level = logging.WARNING if isinstance(error, Exception) else logging.DEBUG
        if not _log.isEnabledFor(level):
            return
        url = self.redacted(call.url)
        fields: dict[str, Any] = {"method": call.method, "url": url}
        if error is None:
            fields["status_code"] = status
        else:
            fields["error"] = self._redactor.redact(describe(error, stack=False))
        fields["duration_ms"] = int(duration * 1e6) / 1000
        verdict = "failed" if isinstance(error, Exception) else "cancelled"
        outcome = status if error is None else f"{verdict}: {error_type(error)}"
        _log.log(level, "%s %s %s", call.method, _AFTER_PATH.sub("", url), outcome, extra=fields)

    def redacted(self, url: Any) -> str:
        """A URL without userinfo, and without the values of sensitive parameters."""
        place, mark, query = _USERINFO.sub("", str(url), count=1).partition("?")
        return self._redactor.redact_text(place) + mark + redacted_query(query, self._redactor)

    def _headers(self, call: Call, present: Mapping[str, str]) -> dict[str, str]:
        if not self._may_have_context(call.server_address, call.server_port):
            return {}
        carrier: dict[str, str] = {}
        inject_context(carrier, baggage=self._baggage)
        correlation_id = carrier.pop(CORRELATION_KEY, None)
        # Where another instrumentation has the span, the trace that is current here is not yet the right one.
        headers = {name: value for name, value in carrier.items() if call.has_span and _can_be_sent(value)}
        if correlation_id is not None and self._correlation_header not in present:
            headers[self._correlation_header] = correlation_id
        return headers


class Call:
    """One request to another service, from `Calls.start` to `succeeded` or `failed`. Nothing it does raises.

    Attributes:
        method: The method of the request.
        url: Where it goes.
        host: The label of its host, with the port if that is not the default one.
        server_address: The host in lower case, without brackets.
        server_port: The port.
        has_span: Whether it has a span, recorded or not.
        headers: What is to be sent with it, in place of headers of the same name.
    """

    __slots__ = (
        "_calls", "_span", "_started_at", "_started_ns", "_token", "has_span", "headers", "host", "method",
        "server_address", "server_port", "url",
    )  # fmt: skip

    def __init__(self, calls: Calls, method: str, url: Any) -> None:
        self._calls = calls
        self.method = method
        self.url = url
        self.host = OTHER
        self.server_address = ""
        self.server_port = 0
        self.has_span = False
        self.headers: dict[str, str] = {}
        self._span: Span | None = None
        self._token: Token[Context] | None = None
        self._started_ns = time_ns()
        self._started_at = perf_counter()

    def locate(self, host: str) -> None:
        """Find out where the call goes."""
        default = _DEFAULT_PORTS.get(self.url.scheme, 0)
        self.server_address = host.lower()
        self.server_port = self.url.port or default
        name = bracketed(self.server_address) or OTHER
        self.host = name if self.server_port == default else f"{name}:{self.server_port}"

    def start_span(self) -> None:
        """Start the CLIENT span, and make it the current one."""
        known = self.method in self._calls.known_methods
        attributes: dict[str, Any] = {
            "http.request.method": self.method if known else OTHER_METHOD,
            "server.address": self.server_address,
            "server.port": self.server_port,
        }
        span = self._calls.tracer.start_span(
            self.method if known else "HTTP",
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=self._started_ns,
        )
        if span.is_recording():
            span.set_attribute("url.full", encodable(self._calls.redacted(self.url)))
            if not known:
                span.set_attribute("http.request.method_original", encodable(self.method))
            correlation_id = current_correlation_id()
            if correlation_id is not None:
                span.set_attribute("correlation_id", encodable(correlation_id))
            self._span = span
        self.has_span = True
        if span.get_span_context().is_valid:
            self._token = otel_context.attach(trace.set_span_in_context(span))

    def apply(self, headers: MutableMapping[str, str]) -> None:
        """Put what is to be sent into the headers of the request.

        A `tracestate` belongs to its `traceparent`: https://www.w3.org/TR/trace-context/#mutating-the-tracestate-field.
        """
        if "traceparent" in self.headers:
            headers.pop("tracestate", None)
        headers.update(self.headers)

    def leave(self) -> None:
        """Have the span be current no longer, before the call ends."""
        token, self._token = self._token, None
        if token is not None:
            otel_context.detach(token)

    def succeeded(self, status: int, version: str | None = None) -> None:
        """The start of the response has arrived.

        Args:
            status: Its status code, whatever it says.
            version: The version of HTTP, such as `1.1` or `2`, if it is known.
        """
        self._end(str(status), status, None, version)

    def failed(self, error: BaseException) -> None:
        """There was no response, but an exception; it may be a cancellation."""
        self._end(type(error).__name__, None, error, None)

    def _end(self, status_code: str, status: int | None, error: BaseException | None, version: str | None) -> None:
        duration = perf_counter() - self._started_at
        try:
            self._calls.count(self, status_code, duration)
            if self._span is not None:
                _describe_end(self._span, status, error, version)
                self._span.end(self._started_ns + int(duration * 1e9))
            self._calls.log(self, status, error, duration)
        except Exception as problem:  # noqa: BLE001 - fail open: the caller has its response all the same
            report("http_client.Call.end", problem)
        finally:
            self.leave()


def _describe_end(span: Span, status: int | None, error: BaseException | None, version: str | None) -> None:
    if version:
        span.set_attribute("network.protocol.version", version)
    if status is not None:
        span.set_attribute("http.response.status_code", status)
    if error is not None or (status or 0) >= 400:
        span.set_attribute("error.type", str(status) if error is None else error_type(error))
        # The exception itself is for whoever lets it go on: the span of the request around has it.
        span.set_status(_ERROR)


def _is_suppressed() -> bool:
    """Whether spans are unwanted here, as they are while spans are exported."""
    keys = (_SUPPRESS_INSTRUMENTATION_KEY, _SUPPRESS_HTTP_INSTRUMENTATION_KEY)
    return any(otel_context.get_value(key) for key in keys)


def _can_be_sent(value: str) -> bool:
    return value.isascii() and value.isprintable()
