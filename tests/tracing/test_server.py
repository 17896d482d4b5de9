from __future__ import annotations

import asyncio
import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from asgi_obs import (
    CorrelationIdMiddleware,
    RequestLoggingMiddleware,
    Settings,
    StructuredLogFormatter,
    TracingMiddleware,
    bind,
    current_exchange,
)
from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import Exchange
from asgi_obs.testing import drive, http_scope, websocket_scope
from asgi_obs.tracing.conventions import Stable
from asgi_obs.types import ASGIApp, Message, Receive, Scope, Send
from tests.tracing.spans import PARENT_ID, TRACE_ID, TRACEPARENT, Spans, answer, attributes_of

DEADLINE = 20.0

pytestmark = pytest.mark.usefixtures("bare")


class OutOfStock(Exception):
    pass


class Remembers(Sampler):
    """Keeps what it was shown, and decides the same for all."""

    def __init__(self, decision: Decision, *, looks: bool) -> None:
        self.decision = decision
        self.looks = looks
        self.seen: list[dict[str, Any]] = []

    def should_sample(self, parent_context: Any, trace_id: int, name: str, *args: Any, **more: Any) -> SamplingResult:
        attributes = more.get("attributes", args[1] if len(args) > 1 else None)
        if self.looks:
            self.seen.append({**attributes})
        return SamplingResult(self.decision, attributes if self.decision is not Decision.DROP else None)

    def get_description(self) -> str:
        raise AssertionError  # pragma: no cover - for people


class Starts(SpanProcessor):
    """Keeps the name and the attributes that spans start with."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.seen.append((span.name, dict(span.attributes)))


def span_id_here() -> str:
    return f"{trace.get_current_span().get_span_context().span_id:016x}"


def id_of(span: ReadableSpan) -> str:
    return f"{span.context.span_id:016x}"


def keeping(seen: list[Exchange], app: ASGIApp | None = None) -> ASGIApp:
    """An application that keeps its exchange."""

    async def keeps(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = current_exchange()
        assert exchange is not None
        seen.append(exchange)
        await (app or answer())(scope, receive, send)

    return keeps


def failing(error: BaseException) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return app


def in_process(program: str, **environment: str) -> list[str]:
    """The lines that a program writes, in a process with these variables."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment, timeout=60
    )
    return done.stdout.splitlines()


def test_a_span_carries_the_stable_conventions(spans: Spans) -> None:
    scope = http_scope("/items/7", headers=[(b"user-agent", b"curl/8"), (b"host", b"h")], query_string=b"a=1")

    span = spans.one(answer(200, "/items/{item_id}"), scope)

    assert (span.name, span.kind, span.status.status_code) == (
        "GET /items/{item_id}",
        SpanKind.SERVER,
        StatusCode.UNSET,
    )
    assert attributes_of(span) == {
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
    span = spans.one(answer(404), http_scope("/wp-login.php", "POST", client=None, server=None))

    assert span.name == "POST"
    assert "http.route" not in attributes_of(span)


def test_which_methods_are_known_can_be_said(spans: Spans) -> None:
    span = spans.one(answer(200, "/pot"), http_scope(method="BREW"), settings=Settings(known_methods="GET,BREW"))

    assert (span.name, attributes_of(span)["http.request.method"]) == ("BREW /pot", "BREW")
    assert "http.request.method_original" not in attributes_of(span)


def test_an_unknown_method_keeps_its_name_in_an_attribute_only(spans: Spans) -> None:
    span = spans.one(answer(405, "/pot"), http_scope(method="BREW"))

    assert span.name == "HTTP /pot"
    assert attributes_of(span)["http.request.method"] == "_OTHER"
    assert attributes_of(span)["http.request.method_original"] == "BREW"


def test_an_exchange_of_many_messages_is_one_span(spans: Spans) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(3):
            await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for more in (True, True, False):
            await send({"type": "http.response.body", "body": b"x", "more_body": more})

    incoming = [{"type": "http.request", "body": b"x", "more_body": more} for more in (True, True, False)]

    assert spans.one(app, http_scope("/stream"), incoming).name == "GET"


def test_the_span_lasts_as_long_as_the_log_line_says(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "asgi_obs.request")

    span = spans.one(RequestLoggingMiddleware(answer()), http_scope())

    [record] = [record for record in caplog.records if record.name == "asgi_obs.request"]
    assert span.start_time is not None
    assert span.end_time is not None
    line = json.loads(StructuredLogFormatter(settings=Settings()).format(record))
    assert int((span.end_time - span.start_time) / 1e3) / 1e3 == line["duration_ms"]


# Parents and IDs


def test_the_caller_is_the_parent(spans: Spans) -> None:
    span = spans.one(answer(), http_scope(headers=[TRACEPARENT]))

    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert f"{span.parent.span_id:016x}" == PARENT_ID


@pytest.mark.parametrize("value", [b"", b"00-xyz", b"\xff" * 300, b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"])
def test_a_malformed_parent_starts_a_new_trace(spans: Spans, value: bytes) -> None:
    span = spans.one(answer(), http_scope(headers=[(b"traceparent", value)]))

    assert span.parent is None


def test_the_exchange_knows_its_trace(spans: Spans) -> None:
    seen: list[Exchange] = []

    span = spans.one(keeping(seen), http_scope())

    [exchange] = seen
    assert exchange.trace_id == f"{span.context.trace_id:032x}"
    assert exchange.span_id == id_of(span)
    assert exchange.sampled


def test_without_an_sdk_the_callers_trace_id_still_reaches_the_exchange() -> None:
    seen: list[Exchange] = []
    traced = TracingMiddleware(keeping(seen), tracer_provider=trace.NoOpTracerProvider())

    for headers in ([TRACEPARENT], []):
        asyncio.run(drive(traced, http_scope(headers=headers)))

    assert [exchange.trace_id for exchange in seen] == [TRACE_ID, None]


def test_without_an_sdk_baggage_still_reaches_the_application() -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(baggage.get_all())

    traced = TracingMiddleware(app, tracer_provider=trace.NoOpTracerProvider())
    asyncio.run(drive(traced, http_scope(headers=[(b"baggage", b"tenant=acme")])))

    assert seen == [{"tenant": "acme"}]


def test_a_propagator_may_be_given(spans: Spans) -> None:
    scope = http_scope(headers=[TRACEPARENT, (b"baggage", b"tenant=acme")])
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(baggage.get_all())

    span = spans.one(app, scope, propagator=TraceContextTextMapPropagator())

    assert (f"{span.context.trace_id:032x}", seen) == (TRACE_ID, [{}])


def test_a_propagator_that_fails_is_reported_and_the_request_goes_on(spans: Spans, reports: list[str]) -> None:
    class Breaks(TraceContextTextMapPropagator):
        def extract(self, *_: Any, **__: Any) -> Any:
            raise LookupError

    [start, _] = spans.serve(answer(), http_scope(), propagator=Breaks())

    assert start["status"] == 200
    assert reports == ["TracingMiddleware.extract"]


# Samplers and processors


def test_an_unsampled_request_has_ids_and_no_span() -> None:
    spans = Spans(sampler=ALWAYS_OFF)
    seen: list[Exchange] = []

    spans.serve(keeping(seen), http_scope())

    [exchange] = seen
    assert re.fullmatch("[0-9a-f]{32}", exchange.trace_id or "")
    assert not exchange.sampled
    assert spans() == []


def test_of_an_unsampled_request_no_attribute_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    described: list[Exchange] = []
    monkeypatch.setattr(Stable, "start", lambda self, exchange: described.append(exchange) or {})

    for decision in (Decision.DROP, Decision.RECORD_AND_SAMPLE):
        Spans(sampler=Remembers(decision, looks=False)).serve(answer(503), http_scope(path=f"/{decision.name}"))

    assert [exchange.path for exchange in described] == ["/RECORD_AND_SAMPLE"]


@pytest.mark.parametrize("decision", [Decision.DROP, Decision.RECORD_AND_SAMPLE])
def test_a_sampler_that_looks_is_shown_all_attributes_of_the_start(decision: Decision) -> None:
    sampler = Remembers(decision, looks=True)

    Spans(sampler=sampler).serve(answer(), http_scope("/items/7", headers=[(b"user-agent", b"curl/8")]))

    [seen] = sampler.seen
    assert (seen["url.path"], seen["http.request.method"], seen["user_agent.original"]) == ("/items/7", "GET", "curl/8")


def test_a_span_that_is_recorded_but_not_sampled_is_described_and_not_exported() -> None:
    spans = Spans(sampler=Remembers(Decision.RECORD_ONLY, looks=False))
    starts = Starts()
    seen: list[Exchange] = []
    spans.provider.add_span_processor(starts)

    spans.serve(keeping(seen), http_scope("/items/7"))

    assert ([exchange.sampled for exchange in seen], spans()) == ([False], [])
    assert [attributes["url.path"] for _, attributes in starts.seen] == ["/items/7"]


def test_a_span_processor_sees_the_attributes_when_the_span_starts(spans: Spans) -> None:
    starts = Starts()
    spans.provider.add_span_processor(starts)

    spans.serve(answer(200, "/items/{item_id}"), http_scope("/items/7", "PUT"))

    [(name, attributes)] = starts.seen
    assert (name, attributes["url.path"], attributes["http.request.method"]) == ("PUT", "/items/7", "PUT")


def test_a_malformed_scope_has_a_span_nonetheless(spans: Spans, reports: list[str]) -> None:
    span = spans.one(answer(200, "/a"), http_scope(query_string="no bytes"))

    assert (span.name, attributes_of(span)["http.response.status_code"]) == ("GET /a", 200)
    assert reports == ["TracingMiddleware.attributes"]


# Errors


def test_an_exception_is_recorded_and_raised_unchanged(spans: Spans) -> None:
    error = OutOfStock("none left")

    with pytest.raises(OutOfStock) as caught:
        spans.serve(failing(error), http_scope())

    [span] = spans()
    assert caught.value is error
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "OutOfStock: none left")
    assert attributes_of(span)["error.type"] == f"{__name__}.OutOfStock"
    assert attributes_of(span)["http.response.status_code"] == 500
    assert [event.name for event in span.events] == ["exception"]


@pytest.mark.parametrize(("environment", "told"), [("development", True), ("staging", True), ("production", False)])
def test_the_stack_is_not_told_in_production(spans: Spans, environment: str, told: bool) -> None:
    with pytest.raises(OutOfStock):
        spans.serve(failing(OutOfStock("x")), http_scope(), settings=Settings(environment=environment))

    [event] = spans()[0].events
    assert ("exception.stacktrace" in (event.attributes or {})) is told


def test_secrets_of_an_exception_are_redacted(spans: Spans) -> None:
    with pytest.raises(OutOfStock):
        spans.serve(failing(OutOfStock("password=hunter2")), http_scope())

    assert "hunter2" not in spans()[0].to_json()


@pytest.mark.parametrize("wrapped", [lambda error: error, lambda error: _Group([error])])
def test_a_group_is_recorded_as_one_exception(spans: Spans, wrapped: Callable[[Exception], Exception]) -> None:
    error = wrapped(OutOfStock("none left"))

    with pytest.raises(type(error)):
        spans.serve(failing(error), http_scope())

    [event] = spans()[0].events
    assert (event.attributes or {})["exception.type"] == f"{__name__}.{type(error).__qualname__}"


class _Group(Exception):
    """As exception groups were before Python 3.11 had them."""

    def __init__(self, exceptions: list[Exception]) -> None:
        self.exceptions = exceptions
        super().__init__("several")


def handling(status: int, *, again: bool = False, other: Exception | None = None) -> ASGIApp:
    """An application that answers an exception of its own from within its `except`, and may raise after that."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            raise OutOfStock("none left")
        except OutOfStock:
            await answer(status)(scope, receive, send)
            if other is not None:
                raise other from None
            if again:
                raise

    return app


def test_an_exception_that_a_handler_has_answered_with_a_5xx_is_recorded(spans: Spans) -> None:
    span = spans.one(handling(503), http_scope())

    assert [(event.attributes or {})["exception.message"] for event in span.events] == ["none left"]
    assert span.status.status_code is StatusCode.ERROR
    assert attributes_of(span)["error.type"] == f"{__name__}.OutOfStock"
    assert attributes_of(span)["http.response.status_code"] == 503


def test_an_exception_that_a_handler_has_answered_with_a_4xx_is_not(spans: Spans) -> None:
    span = spans.one(handling(409), http_scope())

    assert (list(span.events), span.status.status_code) == ([], StatusCode.UNSET)


def test_an_exception_that_is_answered_and_raised_again_is_recorded_once(spans: Spans) -> None:
    with pytest.raises(OutOfStock):
        spans.serve(handling(500, again=True), http_scope())

    [span] = spans()
    assert [event.name for event in span.events] == ["exception"]


def test_another_exception_that_follows_an_answered_one_is_recorded_too(spans: Spans) -> None:
    with pytest.raises(LookupError):
        spans.serve(handling(500, other=LookupError()), http_scope())

    [span] = spans()
    assert [(event.attributes or {})["exception.type"] for event in span.events] == [
        f"{__name__}.OutOfStock",
        "LookupError",
    ]


def test_a_request_that_was_cancelled_has_no_exception(spans: Spans) -> None:
    with pytest.raises(asyncio.CancelledError):
        spans.serve(failing(asyncio.CancelledError()), http_scope())

    [span] = spans()
    assert (list(span.events), attributes_of(span)["error.type"]) == ([], "cancelled")


def test_an_answer_while_a_cancellation_is_handled_is_named_by_its_status(spans: Spans) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            raise asyncio.CancelledError
        except asyncio.CancelledError:
            await answer(503)(scope, receive, send)

    span = spans.one(app, http_scope())

    assert (list(span.events), attributes_of(span)["error.type"]) == ([], "503")


def test_a_5xx_without_an_exception_is_an_error_named_by_its_status(spans: Spans) -> None:
    span = spans.one(answer(503), http_scope())

    assert (span.status.status_code, attributes_of(span)["error.type"]) == (StatusCode.ERROR, "503")


def test_a_response_that_is_not_finished_is_an_error(spans: Spans) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    span = spans.one(app, http_scope())

    assert (span.status.status_code, attributes_of(span)["error.type"]) == (StatusCode.ERROR, "incomplete")


def test_a_client_who_leaves_is_no_error_of_the_server(spans: Spans) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    span = spans.one(app, http_scope(), [{"type": "http.disconnect"}])

    assert (span.status.status_code, attributes_of(span)["http.response.status_code"]) == (StatusCode.UNSET, 499)


def test_a_4xx_is_no_error_of_the_server(spans: Spans) -> None:
    assert spans.one(answer(404), http_scope()).status.status_code is StatusCode.UNSET


# What is added


def test_secrets_in_the_query_are_redacted(spans: Spans) -> None:
    span = spans.one(answer(), http_scope(query_string=b"q=1&access_token=hunter2"))

    assert attributes_of(span)["url.query"] == "q=1&access_token=******"


def test_bound_fields_and_the_correlation_id_are_attributes(spans: Spans) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        bind(user_id="u-1", workspace_id=7, conversation_id="c-1", basket={"items": 3}, password="hunter2")
        await answer()(scope, receive, send)

    wrapped = CorrelationIdMiddleware(TracingMiddleware(app, tracer_provider=spans.provider))
    asyncio.run(drive(wrapped, http_scope(headers=[(b"x-correlation-id", b"abc")])))

    expected = {
        "correlation_id": "abc",
        "user_id": "u-1",
        "user.id": "u-1",
        "workspace_id": 7,
        "workspace.id": 7,
        "conversation_id": "c-1",
        "conversation.id": "c-1",
        "basket": "{'items': 3}",
        "password": "******",
    }
    assert expected.items() <= attributes_of(spans()[0]).items()


def test_odd_values_do_not_lose_the_span(spans: Spans) -> None:
    class Unprintable:
        def __str__(self) -> str:
            raise RuntimeError

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        bind(a="caf\udce9", b=Unprintable(), c=[1, "\ud800"], d=2**80, e=None, **{"\udce9": 1})
        await answer()(scope, receive, send)

    attributes = attributes_of(spans.one(app, http_scope("/caf\udce9")))

    assert attributes["http.response.status_code"] == 200
    assert (attributes["a"], attributes["b"], attributes["d"], attributes["?"]) == (
        "caf?",
        "<unprintable Unprintable>",
        str(2**80),
        1,
    )


def test_a_route_that_is_no_text_does_not_lose_the_span(spans: Spans) -> None:
    span = spans.one(answer(200, "/caf\udce9"), http_scope())

    assert (span.name, attributes_of(span)["http.route"]) == ("GET /caf?", "/caf?")


# Where the span is current


def test_the_span_is_current_in_the_application_and_not_afterwards(spans: Spans) -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(span_id_here())
        await answer()(scope, receive, send)

    async def main() -> None:
        before = otel_context.get_current()
        await drive(TracingMiddleware(app, tracer_provider=spans.provider), http_scope())
        seen.append(span_id_here())
        assert otel_context.get_current() is before

    asyncio.run(main())

    [span] = spans()
    assert seen == [id_of(span), "0" * 16]


def test_the_span_is_current_in_threads_and_in_tasks_after_the_response(spans: Spans) -> None:
    seen: list[str] = []

    async def task() -> None:
        seen.append(span_id_here())

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(await asyncio.to_thread(span_id_here))
        await answer()(scope, receive, send)
        await asyncio.create_task(task())

    span = spans.one(app, http_scope())

    assert seen == [id_of(span)] * 2


def test_the_context_is_put_back_when_the_application_raises(spans: Spans) -> None:
    async def main() -> str:
        with pytest.raises(OutOfStock):
            await drive(TracingMiddleware(failing(OutOfStock()), tracer_provider=spans.provider), http_scope())
        return span_id_here()

    assert asyncio.run(main()) == "0" * 16


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
            bind(path_seen=scope["path"], span_seen=span_id_here())
            await meet()
            await answer(200, scope["path"])(scope, receive, send)

        wrapped = TracingMiddleware(app, tracer_provider=spans.provider)
        await asyncio.gather(*(drive(wrapped, http_scope(path)) for path in ("/a", "/b")))

    asyncio.run(main())

    for span in spans():
        attributes = attributes_of(span)
        assert span.name == f"GET {attributes['path_seen']}"
        assert attributes["span_seen"] == id_of(span)
    assert len(spans()) == 2


def test_loops_in_several_threads_have_spans_of_their_own(spans: Spans) -> None:
    together = threading.Barrier(3, timeout=DEADLINE)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        bind(before=span_id_here())
        together.wait()
        bind(after=span_id_here())
        await answer()(scope, receive, send)

    traced = TracingMiddleware(app, tracer_provider=spans.provider)
    with ThreadPoolExecutor(3) as executor:
        list(executor.map(lambda _: asyncio.run(drive(traced, http_scope())), range(3)))

    seen = {(attributes_of(span)["before"], attributes_of(span)["after"]) for span in spans()}
    assert seen == {(id_of(span), id_of(span)) for span in spans()}
    assert len(seen) == 3


# WebSockets


def session(*messages: Message, accept: bool = True, error: Exception | None = None) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = current_exchange()
        assert exchange is not None
        exchange.route = "/ws/{room}"
        await receive()
        if accept:
            await send({"type": "websocket.accept"})
        for message in messages:
            await send(message)
        if error is not None:
            raise error

    return app


CLOSE = {"type": "websocket.close", "code": 1000}


def test_a_websocket_session_is_one_span(spans: Spans) -> None:
    span = spans.one(session({"type": "websocket.send", "text": "hello"}, CLOSE), websocket_scope("/ws/7"))

    assert (span.name, span.kind, span.status.status_code) == ("GET /ws/{room}", SpanKind.SERVER, StatusCode.UNSET)
    expected = {
        "url.scheme": "ws",
        "url.path": "/ws/7",
        "http.request.method": "GET",
        "http.route": "/ws/{room}",
        "http.response.status_code": 101,
    }
    assert expected.items() <= attributes_of(span).items()


def test_a_websocket_session_that_is_denied_has_the_status_of_the_server(spans: Spans) -> None:
    span = spans.one(session(CLOSE, accept=False), websocket_scope())

    assert (span.status.status_code, attributes_of(span)["http.response.status_code"]) == (StatusCode.UNSET, 403)


@pytest.mark.parametrize(("status", "expected"), [(401, StatusCode.UNSET), (503, StatusCode.ERROR)])
def test_a_websocket_session_may_be_denied_with_a_response(spans: Spans, status: int, expected: StatusCode) -> None:
    denial = (
        {"type": "websocket.http.response.start", "status": status, "headers": []},
        {"type": "websocket.http.response.body", "body": b"no"},
    )

    span = spans.one(session(*denial, accept=False), websocket_scope())

    assert (span.status.status_code, attributes_of(span)["http.response.status_code"]) == (expected, status)


def test_a_websocket_client_who_vanishes_is_no_error_of_the_server(spans: Spans) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    incoming = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1006}]
    span = spans.one(app, websocket_scope(), incoming)

    assert (span.status.status_code, attributes_of(span)["http.response.status_code"]) == (StatusCode.UNSET, 101)


@pytest.mark.parametrize(("accept", "status"), [(True, 101), (False, 500)])
def test_an_exception_in_a_websocket_session_is_recorded(spans: Spans, accept: bool, status: int) -> None:
    with pytest.raises(OutOfStock):
        spans.serve(session(accept=accept, error=OutOfStock("none left")), websocket_scope())

    [span] = spans()
    assert [event.name for event in span.events] == ["exception"]
    assert (span.status.status_code, attributes_of(span)["http.response.status_code"]) == (StatusCode.ERROR, status)


# Trust


@pytest.mark.parametrize("trust", [False, ["10.0.0.0/8"], lambda scope: False])
def test_a_caller_who_is_not_trusted_is_linked(spans: Spans, trust: Any) -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(baggage.get_all())

    headers = [TRACEPARENT, (b"tracestate", b"vendor=1"), (b"baggage", b"tenant=acme")]
    span = spans.one(app, http_scope(headers=headers), trust_incoming=trust)

    [link] = span.links
    assert span.parent is None
    assert f"{span.context.trace_id:032x}" != TRACE_ID
    assert (f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") == (TRACE_ID, PARENT_ID)
    assert (dict(link.context.trace_state), dict(span.context.trace_state), seen) == ({}, {}, [{}])


@pytest.mark.parametrize("trust", [True, ["203.0.113.0/24"], lambda scope: True])
def test_a_caller_who_is_trusted_is_the_parent(spans: Spans, trust: Any) -> None:
    span = spans.one(answer(), http_scope(headers=[TRACEPARENT]), trust_incoming=trust)

    assert (f"{span.context.trace_id:032x}", list(span.links)) == (TRACE_ID, [])


@pytest.mark.parametrize(("text", "trusted"), [("false", False), ("10.0.0.0/8", False), ("203.0.113.0/24", True)])
def test_the_environment_says_whom_to_trust(
    monkeypatch: pytest.MonkeyPatch, spans: Spans, text: str, trusted: bool
) -> None:
    monkeypatch.setenv("TRUST_INCOMING", text)

    span = spans.one(answer(), http_scope(headers=[TRACEPARENT]))

    assert (f"{span.context.trace_id:032x}" == TRACE_ID) is trusted


def test_an_option_wins_over_the_environment(spans: Spans) -> None:
    span = spans.one(
        answer(),
        http_scope(headers=[TRACEPARENT]),
        settings=Settings(trust_incoming=False),
        trust_incoming=True,
    )

    assert span.parent is not None


def test_without_an_sdk_the_trace_of_a_caller_who_is_not_trusted_is_not_told() -> None:
    seen: list[Exchange] = []
    traced = TracingMiddleware(keeping(seen), tracer_provider=trace.NoOpTracerProvider(), trust_incoming=False)

    asyncio.run(drive(traced, http_scope(headers=[TRACEPARENT])))

    assert seen[0].trace_id is None


@pytest.mark.parametrize("option", ["10.0.0.0/8", 7, ["nowhere"]])
def test_a_wrong_trust_is_refused_at_once(option: Any) -> None:
    with pytest.raises(ConfigurationError, match="trust_incoming"):
        TracingMiddleware(answer(), trust_incoming=option)


# The header of the response


def headers_of(messages: Iterable[Message]) -> list[tuple[bytes, bytes]]:
    [start] = [message for message in messages if "status" in message or message["type"] == "websocket.accept"]
    return list(start.get("headers", ()))


def told(span: ReadableSpan, flags: str = "01") -> str:
    return f"00-{span.context.trace_id:032x}-{id_of(span)}-{flags}"


KEPT = [(b"server-timing", b"db;dur=53"), (b"TraceResponse", b"of another one"), (b"x-other", b"1")]


def test_no_header_is_added_unless_it_is_asked_for(spans: Spans) -> None:
    assert headers_of(spans.serve(answer(headers=KEPT), http_scope())) == KEPT


def test_server_timing_is_added_to_what_is_there(spans: Spans) -> None:
    sent = spans.serve(answer(headers=KEPT), http_scope(), response_header="server-timing")

    assert headers_of(sent) == [*KEPT, (b"server-timing", f'trace;desc="{told(spans()[0])}"'.encode())]


def test_traceresponse_replaces_what_is_there(spans: Spans) -> None:
    sent = spans.serve(answer(headers=KEPT), http_scope(), response_header="traceresponse")

    assert headers_of(sent) == [KEPT[0], KEPT[2], (b"traceresponse", told(spans()[0]).encode())]


def test_the_list_of_the_application_is_not_changed(spans: Spans) -> None:
    own: list[tuple[bytes, bytes]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": own})

    sent = spans.serve(app, http_scope(), response_header="server-timing")

    assert (own, len(headers_of(sent))) == ([], 1)


@pytest.mark.parametrize("header", ["server-timing", "traceresponse"])
def test_the_environment_may_ask_for_it(monkeypatch: pytest.MonkeyPatch, spans: Spans, header: str) -> None:
    monkeypatch.setenv("TRACE_RESPONSE_HEADER", header)

    assert [name for name, _ in headers_of(spans.serve(answer(), http_scope()))] == [header.encode()]
    assert headers_of(spans.serve(answer(), http_scope(), response_header="none")) == []


def test_a_handshake_and_a_failure_tell_their_trace_too(spans: Spans) -> None:
    accepted = spans.serve(session(CLOSE), websocket_scope(), response_header="traceresponse")
    failed = spans.serve(handling(500), http_scope(), response_header="traceresponse")

    assert [headers_of(sent)[0][1].decode() for sent in (accepted, failed)] == [told(span) for span in spans()]


def test_an_unsampled_request_tells_that_it_is_not_sampled() -> None:
    seen: list[Exchange] = []
    sent = Spans(sampler=ALWAYS_OFF).serve(keeping(seen), http_scope(), response_header="traceresponse")

    [exchange] = seen
    assert headers_of(sent) == [(b"traceresponse", f"00-{exchange.trace_id}-{exchange.span_id}-00".encode())]


def test_where_there_is_no_trace_none_is_told() -> None:
    traced = TracingMiddleware(answer(), tracer_provider=trace.NoOpTracerProvider(), response_header="server-timing")

    assert headers_of(asyncio.run(drive(traced, http_scope()))) == []


@pytest.mark.parametrize("option", ["x-trace-id", "", "Server-Timing"])
def test_another_header_is_refused(option: str) -> None:
    with pytest.raises(ConfigurationError, match=r"response_header=.* expected one of none, server-timing, tracer"):
        TracingMiddleware(answer(), response_header=option)


# The variables of OpenTelemetry


@pytest.mark.parametrize(
    ("patterns", "excluded"),
    [
        ("/health", True),
        ("nowhere, ^http://testserver:80/health$", True),
        ("example.org", False),
        ("healthy", False),
        ("check=1", False),
        ("nowhere, (?i)HEALTH", True),
    ],
)
def test_a_request_whose_url_is_excluded_has_no_span(
    monkeypatch: pytest.MonkeyPatch, spans: Spans, patterns: str, excluded: bool
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_EXCLUDED_URLS", patterns)
    seen: list[Exchange] = []

    spans.serve(keeping(seen), http_scope("/health", query_string=b"check=1"))

    assert (spans() == [], seen[0].trace_id is None) == (excluded, excluded)


@pytest.mark.parametrize(
    ("more", "url"),
    [
        ({"headers": [(b"host", b"example.org:81")], "scheme": "https"}, "^https://example.org:81/a$"),
        ({"server": None}, "^http://:None/a$"),
        ({"server": ("10.0.0.1", 8000)}, "^http://10.0.0.1:8000/a$"),
    ],
)
def test_the_url_is_the_one_that_was_asked_for(spans: Spans, more: dict[str, Any], url: str) -> None:
    spans.serve(answer(), http_scope("/a", **more), settings=Settings(excluded_urls=url))

    assert spans() == []


REQUEST = """
import asyncio, logging
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from asgi_obs import RequestLoggingMiddleware, TracingMiddleware, current_exchange, setup_logging
from asgi_obs.testing import drive, http_scope

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})

setup_logging()
trace.set_tracer_provider(TracerProvider())
scope = http_scope("/items", headers=[(b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")])
asyncio.run(drive(TracingMiddleware(RequestLoggingMiddleware(app)), scope))
"""


@pytest.mark.parametrize(
    ("environment", "trace_is_the_callers", "span_is_the_callers"),
    [
        ({}, True, False),
        ({"OTEL_SDK_DISABLED": "true"}, True, True),
        ({"OTEL_PROPAGATORS": "baggage"}, False, False),
        ({"OTEL_PROPAGATORS": "none"}, False, False),
    ],
)
def test_the_log_line_has_the_trace_as_opentelemetrys_variables_want_it(
    environment: dict[str, str], trace_is_the_callers: bool, span_is_the_callers: bool
) -> None:
    [line] = [json.loads(line) for line in in_process(REQUEST, LOG_LEVEL="INFO", **environment)]

    assert (line["trace_id"] == TRACE_ID) is trace_is_the_callers
    assert (line["span_id"] == PARENT_ID) is span_is_the_callers
    assert re.fullmatch("[0-9a-f]{32}", line["trace_id"])


def test_a_propagator_that_is_not_installed_is_named_at_start_up() -> None:
    code = """
from asgi_obs import TracingMiddleware
try:
    TracingMiddleware(print)
except Exception as error:
    print(type(error).__name__, error)
"""
    [line] = in_process(code, OTEL_PROPAGATORS="tracecontxt")

    assert line.startswith("SettingsError OTEL_PROPAGATORS='tracecontxt' is not valid: expected names of propagators")


# The span of another instrumentation


def inside_of(spans: Spans, app: ASGIApp, scope: Scope, attributes: dict[str, Any], **more: Any) -> None:
    """Serve one request inside of a span that somebody else has made."""

    async def main() -> None:
        tracer = spans.provider.get_tracer("another")
        options = {"kind": SpanKind.SERVER, "attributes": attributes, **more}
        with tracer.start_as_current_span("theirs", **options):
            await drive(
                CorrelationIdMiddleware(
                    TracingMiddleware(app, tracer_provider=spans.provider, response_header="traceresponse")
                ),
                scope,
            )
            assert trace.get_current_span().is_recording()

    asyncio.run(main())


@pytest.mark.parametrize("attributes", [{"url.path": "/items/7"}, {"http.target": "/items/7?a=1"}])
def test_the_server_span_of_another_instrumentation_is_told_the_same(
    spans: Spans, attributes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Exchange] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        bind(user_id="u-1")
        await answer(200, "/items/{item_id}")(scope, receive, send)

    scope = http_scope("/items/7", headers=[(b"x-correlation-id", b"abc")])
    inside_of(spans, keeping(seen, app), scope, attributes)

    [span] = spans()
    expected = {"correlation_id": "abc", "http.route": "/items/{item_id}", "user_id": "u-1", "user.id": "u-1"}
    assert span.name == "GET /items/{item_id}"
    assert expected.items() <= attributes_of(span).items()
    assert (seen[0].span_id, seen[0].sampled) == (id_of(span), True)
    assert caplog.records == []


def test_the_span_of_another_instrumentation_has_the_captured_headers_too(
    monkeypatch: pytest.MonkeyPatch, spans: Spans
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST", "accept")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE", "x-cache")

    scope = http_scope("/", headers=[(b"accept", b"*/*")])
    inside_of(spans, answer(headers=[(b"x-cache", b"hit")]), scope, {"url.path": "/"})

    expected = {"http.request.header.accept": ("*/*",), "http.response.header.x_cache": ("hit",)}
    assert expected.items() <= attributes_of(spans()[0]).items()


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [(SpanKind.INTERNAL, {}), (SpanKind.CLIENT, {}), (SpanKind.SERVER, {"url.path": "/other"}), (SpanKind.SERVER, {})],
)
def test_a_span_that_is_not_of_this_request_is_left_alone(
    spans: Spans, kind: SpanKind, attributes: dict[str, Any]
) -> None:
    inside_of(spans, answer(200, "/items/{item_id}"), http_scope("/items/7"), attributes, kind=kind)

    ours, theirs = spans()
    assert (ours.name, ours.parent, theirs.name) == ("GET /items/{item_id}", None, "theirs")
    assert attributes_of(theirs) == attributes


def test_an_application_that_calls_another_one_has_a_span_for_each(spans: Spans) -> None:
    inner = TracingMiddleware(answer(200, "/inner"), tracer_provider=spans.provider)

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        await drive(inner, http_scope("/same"))
        await answer(200, "/outer")(scope, receive, send)

    spans.serve(outer, http_scope("/same"))

    assert [span.name for span in spans()] == ["GET /inner", "GET /outer"]


def test_inside_of_other_context_without_a_span_a_request_has_its_own(spans: Spans) -> None:
    token = otel_context.attach(baggage.set_baggage("tenant", "acme"))

    span = spans.one(answer(), http_scope())
    otel_context.detach(token)

    assert span.name == "GET"


@pytest.mark.parametrize("module", ["fastapi.telemetry", "starlette.middleware.opentelemetry"])
def test_a_framework_is_told_of_the_span_once_it_is_loaded(
    monkeypatch: pytest.MonkeyPatch, spans: Spans, module: str
) -> None:
    claims: list[set[str]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        claims.append({key for key in scope if key in {"fastapi.telemetry", "starlette.opentelemetry"}})

    for loaded in (False, True):
        for name in ("fastapi.telemetry", "starlette.middleware.opentelemetry"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        if loaded:
            monkeypatch.setitem(sys.modules, module, type(sys)(module))
        spans.serve(app, http_scope())

    assert claims == [set(), {module.replace("middleware.", "")}]


# The end of the lifespan


def test_the_spans_that_wait_are_flushed_before_the_server_hears_of_the_shutdown() -> None:
    events: list[str] = []

    class Provider(TracerProvider):
        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            events.append("flush")
            return True

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.shutdown.complete"})

    async def send(message: Message) -> None:
        events.append(message["type"])

    async def receive() -> Message:
        raise AssertionError  # pragma: no cover - the application knows

    traced = TracingMiddleware(app, tracer_provider=Provider(shutdown_on_exit=False))
    asyncio.run(traced({"type": "lifespan"}, receive, send))

    assert events == ["flush", "lifespan.shutdown.complete"]


def test_a_sampler_may_change_the_attributes() -> None:
    class Tags(Sampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
            attributes: Any = args[4]
            attributes["tagged"] = True
            del attributes["url.scheme"]
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

        def get_description(self) -> str:  # pragma: no cover - nobody asks
            return "Tags"

    span = Spans(sampler=Tags()).one(answer(), http_scope())

    assert attributes_of(span)["tagged"] is True
    assert "url.scheme" not in attributes_of(span)


def test_what_an_outer_middleware_has_put_into_the_context_is_there_inside(spans: Spans) -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((baggage.get_baggage("tenant"), trace.get_current_span().get_span_context().trace_id))
        await answer()(scope, receive, send)

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        with spans.provider.get_tracer("outer").start_as_current_span("at start-up"):
            token = otel_context.attach(baggage.set_baggage("tenant", "acme"))
            await TracingMiddleware(app, tracer_provider=spans.provider)(scope, receive, send)
            otel_context.detach(token)

    asyncio.run(drive(outer, http_scope()))
    ours, theirs = spans()
    assert seen == [("acme", ours.context.trace_id)]
    assert (ours.parent, ours.context.trace_id == theirs.context.trace_id) == (None, False)
