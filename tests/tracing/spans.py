"""What the tests of the tracing room share: a provider that keeps its spans, requests, and applications that answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from asgi_obs import TracingMiddleware, current_exchange
from asgi_obs.exchange import Exchange, ExchangeMiddleware
from asgi_obs.testing import drive, http_scope
from asgi_obs.types import ASGIApp, Message, Receive, Scope, Send

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
TRACEPARENT = (b"traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01".encode())


class Spans:
    """A provider that keeps the spans that have ended."""

    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **options)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def __call__(self) -> list[ReadableSpan]:
        """The spans, all of which can be exported."""
        spans = list(self._exporter.get_finished_spans())
        encoded = [
            span
            for resource in encode_spans(spans).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        # An attribute that cannot be encoded is left out by the encoder, which only logs it.
        assert sum(len(span.attributes or ()) for span in spans) == sum(len(span.attributes) for span in encoded)
        return spans

    def serve(
        self, app: ASGIApp, scope: Scope, incoming: Iterable[Message] | None = None, **options: Any
    ) -> list[Message]:
        """What the application sends, observed by a middleware with these options."""
        traced = TracingMiddleware(app, tracer_provider=self.provider, **options)
        return asyncio.run(drive(traced, scope, incoming))

    def one(
        self, app: ASGIApp, scope: Scope, incoming: Iterable[Message] | None = None, **options: Any
    ) -> ReadableSpan:
        """The only span of one request."""
        self.serve(app, scope, incoming, **options)
        [span] = self()
        return span


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def answer(status: int = 200, route: str | None = None, headers: Iterable[tuple[bytes, bytes]] = ()) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = current_exchange()
        assert exchange is not None
        exchange.route = route
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": b"body"})

    return app


def exchange_of(scope: Scope | None = None, **more: Any) -> Exchange:
    """The exchange of a request: of this scope, or of one with these keys."""
    seen: list[Exchange] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = current_exchange()
        assert exchange is not None
        seen.append(exchange)

    asyncio.run(drive(ExchangeMiddleware(app), http_scope(**more) if scope is None else scope))
    return seen[0]
