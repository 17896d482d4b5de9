"""One SERVER span for every request, whatever makes it: FastAPI, Starlette, and instrumentations of others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from opentelemetry import trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.routing import Route
from starlette.websockets import WebSocket

from asgi_obs import (
    CorrelationIdMiddleware,
    Observability,
    Settings,
    TracingMiddleware,
    bind,
    current_exchange,
    observe,
)
from asgi_obs.exchange import Exchange
from asgi_obs.testing import drive, http_scope, websocket_scope
from asgi_obs.types import ASGIApp, Message, Scope
from tests.tracing.spans import TRACE_ID, TRACEPARENT, Spans, attributes_of

needs_native_fastapi = pytest.mark.skipif(
    find_spec("fastapi.telemetry") is None, reason="this FastAPI has no telemetry of its own (0.165 has)"
)
needs_native_starlette = pytest.mark.skipif(
    find_spec("starlette.middleware.opentelemetry") is None, reason="this Starlette has no OpenTelemetryMiddleware"
)

SETTINGS = Settings(service_name="shop", environment="testing", log_level="WARN")


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is done to a span that has ended: the SDK would warn."""
    yield
    assert [record.getMessage() for record in caplog.records if record.name.startswith("opentelemetry")] == []


class OutOfStock(Exception):
    pass


def serve(app: ASGIApp, scope: Scope) -> list[Message]:
    return asyncio.run(drive(app, scope))


def observed(app: ASGIApp, spans: Spans) -> ASGIApp:
    return observe(app, settings=SETTINGS, registry=CollectorRegistry(), tracer_provider=spans.provider)


def install(app: Any, spans: Spans) -> Any:
    stack = Observability(SETTINGS, registry=CollectorRegistry(), tracer_provider=spans.provider)
    return stack.install(app)


def types_of(span: ReadableSpan) -> list[Any]:
    """The types of the exceptions on a span."""
    return [str((event.attributes or {})["exception.type"]).rpartition(".")[2] for event in span.events]


def shop(**options: Any) -> FastAPI:
    """A FastAPI application with every kind of endpoint that is needed here."""
    app = FastAPI(**options)

    @app.get("/items/{item_id}")
    async def item(item_id: int) -> dict[str, Any]:
        exchange = current_exchange()
        assert exchange is not None
        bind(user_id="u-1")
        return {"trace_id": exchange.trace_id, "span_id": exchange.span_id}

    @app.get("/sync")
    def sync() -> str:
        return f"{trace.get_current_span().get_span_context().span_id:016x}"

    @app.get("/fails")
    async def fails() -> None:
        raise OutOfStock("none left, password=hunter2")

    @app.get("/fails/sync")
    def fails_sync() -> None:
        raise OutOfStock("none left")

    @app.get("/http/{status}")
    async def answers(status: int) -> None:
        raise HTTPException(status)

    @app.websocket("/ws/{room}")
    async def chat(websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        await websocket.close()

    return app


async def never() -> Message:
    raise AssertionError  # pragma: no cover - nobody reads a body here


# Exceptions that a framework's handlers have answered


def async_handler(status: int) -> Callable[..., Any]:
    async def handle(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("sorry", status)

    return handle


def sync_handler(status: int) -> Callable[..., Any]:
    def handle(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("sorry", status)

    return handle


def fails(request: Request) -> None:
    raise OutOfStock("none left")


def with_fastapi(handlers: dict[Any, Any]) -> ASGIApp:
    return shop(exception_handlers=handlers)


def with_starlette(handlers: dict[Any, Any]) -> ASGIApp:
    return Starlette(routes=[Route("/fails", fails)], exception_handlers=handlers)


@pytest.mark.parametrize("make", [with_fastapi, with_starlette])
@pytest.mark.parametrize("handler", [async_handler, sync_handler])
def test_an_exception_that_its_handler_answers_with_a_5xx_is_recorded(
    spans: Spans, make: Callable[..., ASGIApp], handler: Callable[..., Any]
) -> None:
    span = spans.one(make({OutOfStock: handler(503)}), http_scope("/fails"))

    assert types_of(span) == ["OutOfStock"]
    assert (span.status.status_code, attributes_of(span)["http.response.status_code"]) == (StatusCode.ERROR, 503)
    assert attributes_of(span)["error.type"] == f"{__name__}.OutOfStock"
    assert "hunter2" not in span.to_json()


@pytest.mark.parametrize("make", [with_fastapi, with_starlette])
@pytest.mark.parametrize("handler", [async_handler, sync_handler])
def test_an_exception_that_its_handler_answers_with_a_4xx_is_not(
    spans: Spans, make: Callable[..., ASGIApp], handler: Callable[..., Any]
) -> None:
    span = spans.one(make({OutOfStock: handler(409)}), http_scope("/fails"))

    assert (types_of(span), span.status.status_code) == ([], StatusCode.UNSET)


@pytest.mark.parametrize("make", [with_fastapi, with_starlette])
@pytest.mark.parametrize("handler", [async_handler(500), sync_handler(500), None])
def test_an_exception_that_is_answered_and_raised_again_is_recorded_once(
    spans: Spans, make: Callable[..., ASGIApp], handler: Any
) -> None:
    app = make({Exception: handler} if handler else {})

    with pytest.raises(OutOfStock):
        spans.serve(app, http_scope("/fails"))

    [span] = spans()
    assert types_of(span) == ["OutOfStock"]
    assert attributes_of(span)["http.response.status_code"] == 500


def test_an_exception_of_an_endpoint_in_a_thread_is_recorded(spans: Spans) -> None:
    span = spans.one(with_fastapi({OutOfStock: sync_handler(500)}), http_scope("/fails/sync"))

    assert (span.name, types_of(span)) == ("GET /fails/sync", ["OutOfStock"])


@pytest.mark.parametrize(("status", "expected"), [(404, []), (503, ["HTTPException"])])
def test_the_frameworks_own_exception_is_recorded_if_it_means_a_5xx(
    spans: Spans, status: int, expected: list[str]
) -> None:
    assert types_of(spans.one(shop(), http_scope(f"/http/{status}"))) == expected


# Where the span is current


def test_the_span_is_current_in_endpoint_thread_pool_and_background_task(spans: Spans) -> None:
    seen: list[int] = []

    def look() -> None:
        seen.append(trace.get_current_span().get_span_context().span_id)

    async def endpoint(request: Request) -> PlainTextResponse:
        look()
        return PlainTextResponse("x", background=BackgroundTask(look))

    def in_thread(request: Request) -> PlainTextResponse:
        look()
        return PlainTextResponse("x", background=BackgroundTask(look))

    app = Starlette(routes=[Route("/a", endpoint), Route("/b", in_thread)])
    for path in ("/a", "/b"):
        spans.serve(app, http_scope(path))

    first, second = (span.context.span_id for span in spans())
    assert seen == [first, first, second, second]
    assert trace.get_current_span() is trace.INVALID_SPAN


# Instrumentations outside of ours: theirs is told the same, and is the only one


def contrib(app: ASGIApp, spans: Spans) -> ASGIApp:
    return OpenTelemetryMiddleware(app, tracer_provider=spans.provider, exclude_spans=["send", "receive"])


def starlettes(app: ASGIApp, spans: Spans) -> ASGIApp:
    from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as Native

    return Native(app, tracer_provider=spans.provider)


def native(spans: Spans) -> FastAPI:
    return shop(telemetry={"tracer_provider": spans.provider})


def contrib_outside(spans: Spans) -> ASGIApp:
    return contrib(observed(shop(), spans), spans)


def starlettes_outside(spans: Spans) -> ASGIApp:
    return starlettes(observed(shop(), spans), spans)


def fastapis_outside(spans: Spans) -> ASGIApp:
    app: ASGIApp = install(native(spans), spans)
    return app


@pytest.mark.parametrize("sampled", [True, False])
def test_what_another_instrumentation_does_not_sample_is_not_drawn_once_more(sampled: bool) -> None:
    theirs, ours = Spans(sampler=ALWAYS_ON if sampled else ALWAYS_OFF), Spans()
    seen: list[Exchange | None] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        seen.append(current_exchange())
        await PlainTextResponse("hello")(scope, receive, send)

    serve(contrib(TracingMiddleware(app, tracer_provider=ours.provider), theirs), http_scope())

    [exchange] = seen
    assert exchange is not None
    assert (len(theirs()), len(ours()), exchange.sampled, exchange.trace_id is None) == (
        int(sampled),
        0,
        sampled,
        False,
    )


@needs_native_fastapi
def test_a_framework_with_spans_of_its_own_stays_out_of_one_that_another_instrumentation_has_made(spans: Spans) -> None:
    serve(contrib(observed(native(spans), spans), spans), http_scope("/items/7"))

    assert [span.name for span in spans() if span.kind is SpanKind.SERVER] == ["GET /items/{item_id}"]


OUTSIDE = [
    contrib_outside,
    pytest.param(starlettes_outside, marks=needs_native_starlette),
    pytest.param(fastapis_outside, marks=needs_native_fastapi),
]


def server_spans(spans: Spans) -> list[ReadableSpan]:
    return [span for span in spans() if span.kind is SpanKind.SERVER]


@pytest.mark.parametrize("make", OUTSIDE)
@pytest.mark.parametrize("more", [[], [TRACEPARENT]])
def test_the_span_of_another_instrumentation_outside_is_the_only_one(
    spans: Spans, make: Callable[[Spans], ASGIApp], more: list[tuple[bytes, bytes]]
) -> None:
    headers = [(b"host", b"testserver"), (b"x-correlation-id", b"abc"), *more]

    _, body = serve(make(spans), http_scope("/items/7", headers=headers))

    [span] = server_spans(spans)
    ids = {"trace_id": f"{span.context.trace_id:032x}", "span_id": f"{span.context.span_id:016x}"}
    expected = {"correlation_id": "abc", "http.route": "/items/{item_id}", "user_id": "u-1", "user.id": "u-1"}
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name != "asgi_obs"
    assert span.name == "GET /items/{item_id}"
    assert expected.items() <= attributes_of(span).items()
    assert JSONResponse(ids).body == body["body"]
    assert (ids["trace_id"] == TRACE_ID) is bool(more)


@pytest.mark.parametrize("make", OUTSIDE)
def test_the_span_of_another_instrumentation_is_ended_once_and_by_itself(
    spans: Spans, make: Callable[[Spans], ASGIApp]
) -> None:
    app = make(spans)

    for _ in range(3):
        serve(app, http_scope("/sync"))
    with pytest.raises(OutOfStock):
        serve(app, http_scope("/fails"))

    ended = server_spans(spans)
    assert [span.name for span in ended] == ["GET /sync"] * 3 + ["GET /fails"]
    assert [span.status.status_code for span in ended] == [StatusCode.UNSET] * 3 + [StatusCode.ERROR]


@pytest.mark.parametrize("make", [contrib_outside, pytest.param(fastapis_outside, marks=needs_native_fastapi)])
def test_a_websocket_session_with_a_span_of_another_instrumentation_has_no_second_one(
    spans: Spans, make: Callable[[Spans], ASGIApp]
) -> None:
    serve(make(spans), websocket_scope("/ws/7", headers=[(b"x-correlation-id", b"abc")]))

    [span] = server_spans(spans)
    assert attributes_of(span)["correlation_id"] == "abc"
    assert attributes_of(span)["http.route"] == "/ws/{room}"


def test_the_span_of_another_instrumentation_is_told_the_same_of_a_request_that_fails_without_a_response(
    spans: Spans,
) -> None:
    app = shop()
    app.add_middleware(TracingMiddleware, tracer_provider=spans.provider, settings=SETTINGS)
    app.add_middleware(CorrelationIdMiddleware)

    with pytest.raises(OutOfStock):
        serve(contrib(app, spans), http_scope("/fails", headers=[(b"x-correlation-id", b"abc")]))

    [span] = server_spans(spans)
    assert attributes_of(span)["correlation_id"] == "abc"
    assert span.name == "GET /fails"


def test_a_request_in_the_middle_of_one_with_a_span_of_another_instrumentation_has_its_own(spans: Spans) -> None:
    inner = observed(shop(), spans)

    async def gateway(request: Request) -> PlainTextResponse:
        await drive(inner, http_scope(request.url.path))
        return PlainTextResponse("x")

    outer = observed(Starlette(routes=[Route("/items/{number}", gateway)]), spans)
    serve(contrib(outer, spans), http_scope("/items/7"))

    assert sorted(span.name for span in server_spans(spans)) == ["GET /items/{item_id}", "GET /items/{number}"]


# Instrumentations inside of ours: ours is the only one


def fastapis_inside(spans: Spans) -> ASGIApp:
    return observed(native(spans), spans)


def starlettes_inside(spans: Spans) -> ASGIApp:
    return observed(starlettes(shop(), spans), spans)


def both_inside(spans: Spans) -> ASGIApp:
    from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as Native

    app = native(spans)
    app.add_middleware(Native, tracer_provider=spans.provider)
    return observed(app, spans)


def mounted(spans: Spans) -> ASGIApp:
    app = FastAPI()
    app.mount("/", native(spans))
    return observed(app, spans)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(fastapis_inside, marks=needs_native_fastapi),
        pytest.param(starlettes_inside, marks=needs_native_starlette),
        pytest.param(both_inside, marks=[needs_native_fastapi, needs_native_starlette]),
        pytest.param(mounted, marks=needs_native_fastapi),
    ],
)
@pytest.mark.parametrize("more", [[], [TRACEPARENT]])
def test_of_a_framework_with_spans_of_its_own_inside_ours_is_the_only_one(
    spans: Spans, make: Callable[[Spans], ASGIApp], more: list[tuple[bytes, bytes]]
) -> None:
    app = make(spans)

    for _ in range(2):
        serve(app, http_scope("/items/7", headers=more))

    ended = server_spans(spans)
    assert [span.instrumentation_scope.name for span in ended if span.instrumentation_scope] == ["asgi_obs"] * 2
    assert {span.name for span in ended} == {"GET /items/{item_id}"}


@needs_native_fastapi
def test_a_websocket_session_of_a_framework_with_spans_of_its_own_has_ours_only(spans: Spans) -> None:
    serve(fastapis_inside(spans), websocket_scope("/ws/7"))

    [span] = server_spans(spans)
    assert span.name == "GET /ws/{room}"


def test_a_middleware_that_was_added_has_the_only_span(spans: Spans) -> None:
    app = shop()
    app.add_middleware(TracingMiddleware, tracer_provider=spans.provider, settings=SETTINGS)

    serve(app, http_scope("/items/7"))

    [span] = spans()
    assert span.name == "GET /items/{item_id}"


# Applications that call applications


def test_a_request_in_the_middle_of_another_one_has_a_span_of_its_own(spans: Spans) -> None:
    inner = observed(shop(), spans)
    seen: list[Exchange | None] = []

    async def gateway(request: Request) -> PlainTextResponse:
        seen.append(current_exchange())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(inner), base_url="http://inner") as client:
            response = await client.get(request.url.path)
        seen.append(current_exchange())
        return PlainTextResponse(response.text)

    outer = observed(Starlette(routes=[Route("/items/{number}", gateway)]), spans)
    serve(outer, http_scope("/items/7"))

    first, second = spans()
    assert (first.name, second.name) == ("GET /items/{item_id}", "GET /items/{number}")
    assert first.context.span_id != second.context.span_id
    assert seen[0] is seen[1]


@pytest.mark.parametrize("header", ["traceresponse", "server-timing"])
def test_the_500_of_the_framework_tells_its_trace(spans: Spans, header: str) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    app = TracingMiddleware(shop(), tracer_provider=spans.provider, settings=SETTINGS, response_header=header)
    with pytest.raises(OutOfStock):
        asyncio.run(app(http_scope("/fails"), never, send))

    [span] = spans()
    [value] = [value for name, value in sent[0]["headers"] if name == header.encode()]
    assert f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01" in value.decode()
