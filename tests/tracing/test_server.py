from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from asgi_obs import CorrelationIdMiddleware, TracingMiddleware, bind, current_exchange
from asgi_obs.testing import drive, http_scope, websocket_scope
from asgi_obs.types import ASGIApp, Message, Receive, Scope, Send

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
TRACEPARENT = (b"traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01".encode())


class Spans:
    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **options)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def __call__(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def one(self, app: ASGIApp, scope: Scope, incoming: list[Message] | None = None) -> ReadableSpan:
        asyncio.run(drive(TracingMiddleware(app, tracer_provider=self.provider), scope, incoming))
        [span] = self()
        return span


@pytest.fixture
def spans() -> Spans:
    return Spans()


def answer(status: int = 200, route: str | None = None) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = current_exchange()
        assert exchange is not None
        exchange.route = route
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"body"})

    return app


def test_a_span_carries_the_stable_conventions(spans: Spans) -> None:
    scope = http_scope("/items/7", headers=[(b"user-agent", b"curl/8"), (b"host", b"h")], query_string=b"a=1")

    span = spans.one(answer(200, "/items/{item_id}"), scope)

    assert (span.name, span.kind, span.status.status_code) == (
        "GET /items/{item_id}",
        SpanKind.SERVER,
        StatusCode.UNSET,
    )
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": "/items/7",
        "url.query": "a=1",
        "http.response.status_code": 200,
        "http.route": "/items/{item_id}",
        "network.protocol.version": "1.1",
        "server.address": "h",
        "server.port": 80,
        "client.address": "203.0.113.7",
        "user_agent.original": "curl/8",
    }


def test_a_request_without_a_route_is_named_by_its_method(spans: Spans) -> None:
    scope = http_scope("/wp-login.php", "POST", client=None, server=None)

    span = spans.one(answer(404), scope)

    assert span.name == "POST"
    assert "http.route" not in (span.attributes or {})


def test_the_caller_is_the_parent(spans: Spans) -> None:
    span = spans.one(answer(), http_scope(headers=[TRACEPARENT]))

    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert f"{span.parent.span_id:016x}" == PARENT_ID


@pytest.mark.parametrize("value", [b"", b"00-xyz", b"\xff" * 300, b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"])
def test_a_malformed_parent_starts_a_new_trace(spans: Spans, value: bytes) -> None:
    span = spans.one(answer(), http_scope(headers=[(b"traceparent", value)]))

    assert span.parent is None


def test_the_span_is_current_in_the_application_and_not_afterwards(spans: Spans) -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(trace.get_current_span().get_span_context().span_id)
        await answer()(scope, receive, send)

    async def main() -> None:
        await drive(TracingMiddleware(app, tracer_provider=spans.provider), http_scope())
        seen.append(trace.get_current_span().get_span_context().span_id)

    asyncio.run(main())

    [span] = spans()
    assert seen == [span.context.span_id, 0]


def test_the_exchange_knows_its_trace(spans: Spans) -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(current_exchange())
        await answer()(scope, receive, send)

    span = spans.one(app, http_scope())

    [exchange] = seen
    assert exchange is not None
    assert exchange.trace_id == f"{span.context.trace_id:032x}"
    assert exchange.span_id == f"{span.context.span_id:016x}"
    assert exchange.sampled


def test_an_exception_is_recorded_and_raised_unchanged(spans: Spans) -> None:
    class OutOfStock(Exception):
        pass

    error = OutOfStock("none left")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    with pytest.raises(OutOfStock) as caught:
        spans.one(app, http_scope())

    [span] = spans()
    assert caught.value is error
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert str(span.attributes["error.type"]).endswith("OutOfStock")
    assert span.attributes["http.response.status_code"] == 500
    assert [event.name for event in span.events] == ["exception"]


def test_a_5xx_without_an_exception_is_an_error_named_by_its_status(spans: Spans) -> None:
    span = spans.one(answer(503), http_scope())

    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "503"


def test_a_response_that_is_not_finished_is_an_error(spans: Spans) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    assert spans.one(app, http_scope()).status.status_code is StatusCode.ERROR


def test_a_4xx_is_no_error_of_the_server(spans: Spans) -> None:
    assert spans.one(answer(404), http_scope()).status.status_code is StatusCode.UNSET


def test_an_unknown_method_keeps_its_name_in_an_attribute_only(spans: Spans) -> None:
    span = spans.one(answer(405, "/pot"), http_scope(method="BREW"))

    assert span.name == "HTTP /pot"
    assert span.attributes is not None
    assert span.attributes["http.request.method"] == "_OTHER"
    assert span.attributes["http.request.method_original"] == "BREW"


def test_secrets_in_the_query_are_redacted(spans: Spans) -> None:
    span = spans.one(answer(), http_scope(query_string=b"q=1&access_token=hunter2"))

    assert span.attributes is not None
    assert span.attributes["url.query"] == "q=1&access_token=******"


def test_bound_fields_and_the_correlation_id_are_attributes(spans: Spans) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        bind(user_id="u-1", basket={"items": 3}, password="hunter2")
        await answer()(scope, receive, send)

    wrapped = CorrelationIdMiddleware(TracingMiddleware(app, tracer_provider=spans.provider))
    asyncio.run(drive(wrapped, http_scope(headers=[(b"x-correlation-id", b"abc")])))

    [span] = spans()
    assert span.attributes is not None
    assert span.attributes["correlation_id"] == "abc"
    assert span.attributes["user_id"] == "u-1"
    assert span.attributes["basket"] == "{'items': 3}"
    assert span.attributes["password"] == "******"


def test_an_unsampled_request_has_ids_and_no_span() -> None:
    spans = Spans(sampler=ALWAYS_OFF)
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(current_exchange())
        await answer()(scope, receive, send)

    asyncio.run(drive(TracingMiddleware(app, tracer_provider=spans.provider), http_scope()))

    [exchange] = seen
    assert exchange is not None
    assert re.fullmatch("[0-9a-f]{32}", exchange.trace_id or "")
    assert not exchange.sampled
    assert spans() == []


def test_without_an_sdk_the_callers_trace_id_still_reaches_the_exchange() -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(current_exchange())
        await answer()(scope, receive, send)

    provider = trace.NoOpTracerProvider()
    for headers in ([TRACEPARENT], []):
        asyncio.run(drive(TracingMiddleware(app, tracer_provider=provider), http_scope(headers=headers)))

    assert [exchange and exchange.trace_id for exchange in seen] == [TRACE_ID, None]


def test_a_propagator_may_be_given(spans: Spans) -> None:
    class Asks(TextMapPropagator):
        fields = frozenset[str]()  # type: ignore[assignment]

        def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Any:
            asked.append((getter.get(carrier, "B3"), getter.get(carrier, "absent"), getter.keys(carrier)))
            return context

        def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
            raise AssertionError  # pragma: no cover - nothing goes out here

    asked: list[object] = []
    app = TracingMiddleware(answer(), tracer_provider=spans.provider, propagator=Asks())
    asyncio.run(drive(app, http_scope(headers=[(b"b3", b"0")])))

    assert asked == [(["0"], None, ["b3"])]


def test_a_websocket_session_is_one_span(spans: Spans) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})
        await send({"type": "websocket.close", "code": 1000})

    span = spans.one(app, websocket_scope("/ws"))

    assert span.name == "GET"
    assert span.attributes is not None
    assert span.attributes["url.scheme"] == "ws"
    assert span.attributes["http.response.status_code"] == 101


def test_two_interleaved_requests_have_a_span_each(spans: Spans) -> None:
    async def main() -> None:
        waiting: list[asyncio.Future[None]] = []

        async def meet() -> None:
            if waiting:
                waiting.pop().set_result(None)
            else:
                waiting.append(asyncio.get_running_loop().create_future())
                await waiting[0]

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await meet()
            bind(path_seen=scope["path"], span_seen=f"{trace.get_current_span().get_span_context().span_id:016x}")
            await meet()
            await answer(200, scope["path"])(scope, receive, send)

        wrapped = TracingMiddleware(app, tracer_provider=spans.provider)
        await asyncio.gather(*(drive(wrapped, http_scope(path)) for path in ("/a", "/b")))

    asyncio.run(main())

    for span in spans():
        attributes = span.attributes or {}
        assert span.name == f"GET {attributes['path_seen']}"
        assert attributes["span_seen"] == f"{span.context.span_id:016x}"
    assert len(spans()) == 2
