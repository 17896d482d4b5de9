"""Requests of every sort, and what two instrumentations make of them: ours and opentelemetry-instrumentation-asgi."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from opentelemetry import baggage
from opentelemetry.context import Context, attach, detach
from opentelemetry.instrumentation import _semconv
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from asgi_obs import TracingMiddleware, current_exchange
from asgi_obs.settings import Settings
from asgi_obs.testing import drive, http_scope, websocket_scope
from asgi_obs.types import ASGIApp, Message, Receive, Scope, Send

Headers = tuple[tuple[bytes, bytes], ...]

TRACE_ID: Final = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID: Final = "b7ad6b7169203331"
KNOWN_METHODS: Final = ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
SETTINGS: Final = Settings(sensitive_fields=("password", "token", "secret"), excluded_urls=(), semconv_opt_in=("http",))


class OutOfStock(Exception):
    """An error of an application."""


class Unreadable(Exception):
    """An error whose text cannot be had."""

    def __str__(self) -> str:
        raise TypeError("no text")


@dataclass(frozen=True)
class Sent:
    """A part of a request.

    Attributes:
        sent: As it was sent.
        told: As a span tells it, by the conventions.
        reason: Why that is not what was sent; empty if it is.
        breaks: Whether opentelemetry-instrumentation-asgi answers with an exception.
    """

    sent: Any
    told: Any
    reason: str = ""
    breaks: bool = False


@dataclass(frozen=True)
class Host:
    """A value of `Host`, and what it says; None for what it does not say."""

    sent: bytes | None
    address: str | None = None
    port: int | None = None
    breaks: bool = False


@dataclass(frozen=True)
class Caller:
    """The trace context in the headers, and what is continued of it by https://www.w3.org/TR/trace-context/."""

    headers: Headers = ()
    continued: bool = False
    sampled: bool = True
    state: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Story:
    """What an application does, and what a span says of it by docs/design.md and the conventions.

    Attributes:
        steps: Messages to send, classes of exceptions to raise, `receive` to receive.
        status: The `http.response.status_code`.
        error: The `error.type`; None for none.
        description: Of the span's status.
        incoming: What the server has for `receive`.
    """

    steps: tuple[Any, ...]
    status: int
    error: str | None = None
    description: str | None = None
    incoming: tuple[Message, ...] | None = None

    @property
    def raised(self) -> type[BaseException] | None:
        """What the application raises."""
        raised = [step for step in self.steps if isinstance(step, type)]
        return raised[0] if raised else None


@dataclass(frozen=True)
class Case:
    """One request."""

    story: Story
    kind: str = "http"
    method: str = "GET"
    path: Sent = Sent("/", "/")
    query: Sent = Sent(b"", None)
    agent: Sent = Sent(None, None)
    host: Host = Host(None)
    server: tuple[str, int | None] | None = ("testserver", 80)
    client: tuple[str, int] | None = None
    scheme: str | None = "http"
    http_version: str | None = "1.1"
    root_path: str = ""
    route: str | None = None
    caller: Caller = Caller()
    bag: Sent = Sent((), {})
    more: Headers = field(default=(), compare=False)

    @property
    def address(self) -> tuple[str | None, int | None]:
        """The `server.address` and `server.port`."""
        if self.host.address is not None:
            return self.host.address, self.host.port or DEFAULT_PORTS[self.scheme_told]
        return self.server or (None, None)

    @property
    def scheme_told(self) -> str:
        """The `url.scheme`; what ASGI says of a scope that has none."""
        return self.scheme or {"http": "http", "websocket": "ws"}[self.kind]

    @property
    def breaks(self) -> bool:
        """Whether opentelemetry-instrumentation-asgi breaks the request."""
        return self.query.breaks or self.agent.breaks or self.host.breaks or self.story.raised is Unreadable

    def readable(self) -> Case:
        """The same request with something else in the place of what opentelemetry-instrumentation-asgi cannot read."""
        return replace(
            self,
            query=replace(self.query, sent=b"x") if self.query.breaks else self.query,
            agent=replace(self.agent, sent=b"x") if self.agent.breaks else self.agent,
            host=replace(self.host, sent=b"x") if self.host.breaks else self.host,
        )

    def scope(self) -> Scope:
        """The ASGI scope."""
        named = ((b"host", self.host.sent), (b"user-agent", self.agent.sent))
        headers = [pair for pair in named if pair[1] is not None]
        headers += [*self.caller.headers, *self.bag.sent, *self.more]
        make: Callable[..., Scope] = http_scope if self.kind == "http" else websocket_scope
        scope = make(self.path.sent, headers=headers, query_string=self.query.sent, root_path=self.root_path)
        if self.kind == "http":
            scope["method"] = self.method
        optional = {"scheme": self.scheme, "http_version": self.http_version}
        scope.update(client=self.client, server=self.server, **optional)
        for name in [name for name, value in optional.items() if value is None]:
            del scope[name]
        return scope

    def app(self, seen: dict[str, Any]) -> ASGIApp:
        """The application; what it sees of the baggage it leaves in `seen`."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            exchange = current_exchange()
            if exchange is not None:
                exchange.route = self.route
            seen["baggage"] = dict(baggage.get_all())
            for step in self.story.steps:
                if isinstance(step, type):
                    raise step("password=hunter2" if step is ValueError else "none left")
                await (receive() if step == "receive" else send(dict(step)))

        return app


@contextmanager
def conventions(mode: str) -> Iterator[None]:
    """`OTEL_SEMCONV_STABILITY_OPT_IN` as opentelemetry-instrumentation-asgi has read it, once in a process."""
    stability = _semconv._OpenTelemetrySemanticConventionStability
    before = stability._initialized, stability._OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING
    http = _semconv._OpenTelemetryStabilitySignalType.HTTP
    stability._initialized = True
    stability._OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING = {http: _semconv._StabilityMode(mode)}
    try:
        yield
    finally:
        stability._initialized, stability._OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING = before


def contrib(mode: str = "http") -> Callable[[ASGIApp, TracerProvider], ASGIApp]:
    """opentelemetry-instrumentation-asgi, without spans of single messages."""

    def wrap(app: ASGIApp, provider: TracerProvider) -> ASGIApp:
        with conventions(mode):
            wrapped: ASGIApp = OpenTelemetryMiddleware(
                app, tracer_provider=provider, meter_provider=NoOpMeterProvider(), exclude_spans=["receive", "send"]
            )
        return wrapped

    return wrap


def ours(settings: Settings = SETTINGS, **options: Any) -> Callable[[ASGIApp, TracerProvider], ASGIApp]:
    """Our middleware."""
    return lambda app, provider: TracingMiddleware(app, tracer_provider=provider, settings=settings, **options)


def unwrapped(app: ASGIApp, provider: TracerProvider) -> ASGIApp:
    """The application alone."""
    return app


def observe(case: Case, wrap: Callable[[ASGIApp, TracerProvider], ASGIApp]) -> dict[str, Any]:
    """Run a request; returns what became of it, and all that its span says, by name."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    seen: dict[str, Any] = {}
    token = attach(Context())
    try:
        sent: Any = asyncio.run(drive(wrap(case.app(seen), provider), case.scope(), case.story.incoming))
    except BaseException as error:
        sent = type(error)
    finally:
        detach(token)
        provider.shutdown()
    spans = exporter.get_finished_spans()
    assert len(spans) <= 1
    return {"the request": sent, **seen, **(_told(spans[0]) if spans else {"name": None})}


def _told(span: ReadableSpan) -> dict[str, Any]:
    parent = span.parent
    return {
        "name": span.name,
        "kind": span.kind,
        "parent": parent and (f"{parent.trace_id:032x}", f"{parent.span_id:016x}", int(parent.trace_flags)),
        "trace state": span.get_span_context().trace_state.to_header(),
        "status": (span.status.status_code.name, span.status.description),
        "links": list(span.links),
        "events": [(event.name, _event(dict(event.attributes or {}))) for event in span.events],
        **(span.attributes or {}),
    }


def _event(attributes: dict[str, Any]) -> dict[str, Any]:
    # Whose frames a stack shows differs by whose they are.
    return {name: value for name, value in attributes.items() if name != "exception.stacktrace"}
