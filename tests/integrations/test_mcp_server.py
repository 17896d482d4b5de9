from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry

from asgi_obs import LogContext, Settings, bind, current_exchange
from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import SCOPE_KEY, Exchange, within_exchange
from asgi_obs.exchange.hooks import Hooks
from asgi_obs.integrations.mcp import observe_mcp_client, observe_mcp_server
from asgi_obs.routes import Routes
from asgi_obs.testing import http_scope
from asgi_obs.tracing.propagation import current_correlation_id
from tests.integrations import mcp_sdk as sdk
from tests.spans import span_context

pytestmark = pytest.mark.anyio

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
log = logging.getLogger("orders")


@pytest.fixture
def spans() -> sdk.Spans:
    return sdk.Spans()


def parent_of(span: Any) -> tuple[str, str] | None:
    return None if span.parent is None else (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}")


class Tool:
    """What stands at the end of both versions' chains."""

    def __init__(self, result: Any = None) -> None:
        self.result = {"content": []} if result is None else result
        self.arguments: Any = None
        self.correlation_id: str | None = None
        self.exchange: Exchange | None = None

    async def __call__(self, arguments: Any) -> Any:
        self.arguments = arguments
        self.correlation_id = current_correlation_id()
        self.exchange = current_exchange()
        bind(user_id="u-1", order=7)
        log.info("inside")
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


@dataclass
class Ctx:
    """What middlewares of version 2 get."""

    params: Any
    meta: Any = None
    request: Any = None
    request_id: Any = 1
    method: str = "tools/call"


class Modern:
    """A server as version 2 has it."""

    def __init__(self, tool: Tool) -> None:
        self.tool = tool
        self.middleware: list[Any] = [self.first]

    async def first(self, ctx: Any, call_next: Any) -> Any:
        return await call_next(ctx)

    async def receive(self, name: Any, arguments: Any, **more: Any) -> Any:
        return await self.pass_on(Ctx({"name": name, "arguments": arguments}, **more))

    async def pass_on(self, ctx: Ctx) -> Any:
        async def innermost(ctx: Any) -> Any:
            return await self.tool((ctx.params or {}).get("arguments"))

        _, ours = self.middleware
        return await self.first(ctx, lambda ctx: ours(ctx, innermost))


class Classic:
    """A server as version 1 has it."""

    def __init__(self, tool: Tool) -> None:
        self.request_handlers: dict[Any, Any] = {sdk.types.ListToolsRequest: None}
        self.request_context_or_none: Any = None
        self.handlers = self.request_handlers
        self.call_tool()(tool)

    @property
    def request_context(self) -> Any:
        if self.request_context_or_none is None:
            raise LookupError
        return self.request_context_or_none

    def call_tool(self, **options: Any) -> Any:
        def decorator(function: Any) -> Any:
            async def handler(request: Any) -> Any:
                return await function(request.params.arguments)

            self.request_handlers[sdk.types.CallToolRequest] = handler
            return function

        return decorator

    async def receive(self, name: str, arguments: Any, *, meta: Any = None, request: Any = None) -> Any:
        params = sdk.types.CallToolRequestParams(name=name, arguments=arguments, _meta=meta)
        if request is not None:
            self.request_context_or_none = SimpleNamespace(request=request, request_id=1)
        handler = self.request_handlers[sdk.types.CallToolRequest]
        return await handler(sdk.types.CallToolRequest(method="tools/call", params=params))


@pytest.fixture(params=[Modern, Classic])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def serve(kind: Any, spans: sdk.Spans) -> Any:
    def serve(tool: Tool, **options: Any) -> Any:
        return observe_mcp_server(kind(tool), **{"tracer_provider": spans.provider, **options})

    return serve


async def test_a_call_has_two_lines_and_what_the_tool_logs_belongs_to_it(serve: Any, written: Any) -> None:
    await serve(Tool()).receive("sell", {"q": "x", "password": "hunter2"}, meta={"asgi-obs/correlation-id": "c-1"})
    call, inside, response = written.lines
    assert (call["component"], call["level"], call["message"]) == (
        "asgi_obs.mcp.server", "INFO", "MCP tool call: sell",
    )  # fmt: skip
    assert (call["tool_name"], call["arguments"]) == ("sell", {"q": "x", "password": "******"})
    assert (response["message"], response["success"]) == ("MCP tool response: sell", True)
    assert {line["correlation_id"] for line in written.lines} == {"c-1"}
    assert (inside["context"]["tool_name"], inside["user_id"], response["user_id"]) == ("sell", "u-1", "u-1")
    assert len({(line["trace_id"], line["span_id"]) for line in written.lines}) == 1


async def test_a_call_has_one_span_in_the_trace_of_its_caller(serve: Any, spans: sdk.Spans) -> None:
    meta = {"traceparent": TRACEPARENT, "asgi-obs/correlation-id": "c-1"}
    await serve(Tool()).receive("sell", {"q": "x"}, meta=meta)
    (span,) = spans.all
    assert (span.name, span.kind, parent_of(span)) == ("mcp.server.sell", SpanKind.SERVER, (TRACE_ID, SPAN_ID))
    assert dict(span.attributes or {}) == {
        "mcp.tool": "sell",
        "mcp.tool.name": "sell",
        "mcp.arguments": '{"q":"x"}',
        "mcp.result.success": True,
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": "sell",
        "gen_ai.operation.name": "execute_tool",
        "correlation_id": "c-1",
        "user_id": "u-1",
        "user.id": "u-1",
        "order": 7,
    }


async def test_old_clients_send_the_trace_as_an_argument_that_the_tool_does_not_see(
    serve: Any, spans: sdk.Spans, written: Any
) -> None:
    tool = Tool()
    arguments = {"q": "x", "_trace_context": {"traceparent": TRACEPARENT, "x-correlation-id": "c-1"}}
    await serve(tool).receive("sell", arguments)
    assert (tool.arguments, tool.correlation_id) == ({"q": "x"}, "c-1")
    assert parent_of(spans.named("mcp.server.sell")) == (TRACE_ID, SPAN_ID)
    assert written.lines[0]["arguments"] == {"q": "x"}
    assert "_trace_context" in arguments


async def test_what_is_no_context_is_removed_too(serve: Any, spans: sdk.Spans) -> None:
    tool = Tool()
    await serve(tool).receive("sell", {"q": "x", "_trace_context": "odd"})
    assert (tool.arguments, spans.named("mcp.server.sell").parent) == ({"q": "x"}, None)


async def test_a_caller_that_sends_nothing_gets_a_correlation_id(serve: Any, written: Any) -> None:
    tool = Tool()
    await serve(tool).receive("sell", None)
    assert tool.correlation_id is not None
    assert {line["correlation_id"] for line in written.lines} == {tool.correlation_id}
    assert current_correlation_id() is None


@pytest.mark.parametrize("bad", ["not a traceparent", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "\ud800" * 10_000])
async def test_what_is_malformed_is_not_believed(serve: Any, spans: sdk.Spans, written: Any, bad: str) -> None:
    tool = Tool()
    with suppress(UnicodeError, ValueError):  # version 2's own model refuses some
        await serve(tool).receive("sell", {}, meta={"traceparent": bad, "asgi-obs/correlation-id": bad + "\n"})
    assert all(span.parent is None for span in spans.all)
    assert bad not in written.stream.getvalue()


@pytest.mark.parametrize("with_trace", [True, False])
async def test_the_http_request_around_it_says_what_the_caller_did_not(
    serve: Any, spans: sdk.Spans, with_trace: bool
) -> None:
    tool = Tool()
    exchange, stale = exchange_of("c-http"), exchange_of("c-stale")
    if with_trace:
        exchange.span_context = span_context(TRACE_ID, SPAN_ID)
    request = SimpleNamespace(scope=exchange.scope)
    with within_exchange(stale):
        await serve(tool).receive("sell", {}, request=request)
        kept = current_exchange()
    assert (tool.correlation_id, tool.exchange, kept) == ("c-http", exchange, stale)
    assert (exchange.fields, stale.fields) == ({"user_id": "u-1", "order": 7}, None)
    assert parent_of(spans.named("mcp.server.sell")) == ((TRACE_ID, SPAN_ID) if with_trace else None)


@pytest.mark.parametrize("trust", [False, ["10.0.0.0/8"]])
@pytest.mark.parametrize("with_trace", [True, False])
async def test_the_trace_of_a_caller_over_http_who_is_not_trusted_is_not_continued(
    serve: Any, spans: sdk.Spans, with_trace: bool, trust: Any
) -> None:
    tool = Tool()
    exchange = exchange_of("c-http")
    if with_trace:
        exchange.span_context = span_context("c" * 32, "d" * 16)
    request = SimpleNamespace(scope=exchange.scope)
    meta = {"traceparent": TRACEPARENT, "asgi-obs/correlation-id": "c-1"}
    await serve(tool, settings=Settings(trust_incoming=trust)).receive("sell", {}, request=request, meta=meta)
    assert parent_of(spans.named("mcp.server.sell")) == (("c" * 32, "d" * 16) if with_trace else None)
    assert tool.correlation_id == "c-1"


async def test_a_call_that_no_http_request_has_brought_is_trusted(serve: Any, spans: sdk.Spans) -> None:
    settings = Settings(trust_incoming=False)
    await serve(Tool(), settings=settings).receive("sell", {}, meta={"traceparent": TRACEPARENT})
    assert parent_of(spans.named("mcp.server.sell")) == (TRACE_ID, SPAN_ID)


async def test_a_request_without_an_exchange_has_nothing_of_another_one(serve: Any) -> None:
    tool = Tool()
    stale = exchange_of("c-stale")
    with within_exchange(stale):
        await serve(tool).receive("sell", {}, request=SimpleNamespace(scope={}))
    assert (tool.exchange, tool.correlation_id == "c-stale", stale.fields) == (None, False, None)


def exchange_of(correlation_id: str) -> Exchange:
    async def unused(*message: Any) -> Any: ...

    scope = http_scope("/mcp")
    exchange = Exchange(scope, unused, unused, Hooks(()), Routes(unused, None))
    exchange.correlation_id = correlation_id
    scope[SCOPE_KEY] = exchange
    return exchange


async def test_an_exception_is_raised_unchanged_and_told_without_secrets(
    serve: Any, spans: sdk.Spans, written: Any
) -> None:
    error = LookupError("token=hunter2")
    with pytest.raises(LookupError) as raised:
        await serve(Tool(error)).receive("sell", {})
    assert raised.value is error
    line = written.lines[-1]
    assert (line["level"], line["message"], line["success"]) == ("ERROR", "MCP tool error: sell", False)
    assert line["error"] == {"type": "LookupError", "message": "token=******"}
    span = spans.named("mcp.server.sell")
    assert (span.attributes or {})["error.type"] == "LookupError"
    assert [event.name for event in span.events] == ["exception"]
    assert "hunter2" not in span.to_json()


async def test_a_tool_that_says_it_failed_is_a_warning(serve: Any, spans: sdk.Spans, written: Any) -> None:
    await serve(Tool({"isError": True, "content": [{"text": "sold out"}]})).receive("sell", {})
    line = written.lines[-1]
    assert (line["level"], line["error"]) == ("WARN", {"type": "tool_error", "message": "sold out"})
    assert spans.named("mcp.server.sell").status.status_code is StatusCode.ERROR


async def test_calls_beside_each_other_do_not_mix(kind: Any, spans: sdk.Spans, written: Any) -> None:
    met = asyncio.Event()
    waiting: list[str] = []

    async def tool(arguments: Any) -> Any:
        bind(user_id=arguments["user"])
        waiting.append(arguments["user"])
        if len(waiting) == 2:
            met.set()
        await met.wait()
        log.info(arguments["user"])
        return {}

    server = observe_mcp_server(kind(tool), tracer_provider=spans.provider)
    await asyncio.gather(
        *(server.receive(user, {"user": user}, meta={"asgi-obs/correlation-id": f"c-{user}"}) for user in ("a", "b"))
    )
    for user in ("a", "b"):
        span = spans.named(f"mcp.server.{user}")
        (inside,) = (line for line in written.lines if line["message"] == user)
        assert (inside["user_id"], inside["correlation_id"]) == (user, f"c-{user}")
        assert inside["span_id"] == f"{span.context.span_id:016x}"
        assert (span.attributes or {})["user.id"] == user


async def test_what_fails_of_ours_does_not_fail_the_call(kind: Any, reported: list[str]) -> None:
    class Broken:
        def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
            return self

        def start_span(self, *args: Any, **kwargs: Any) -> Any:
            raise OSError

    tool = Tool()
    server = observe_mcp_server(kind(tool), tracer_provider=Broken())  # type: ignore[arg-type]
    assert await server.receive("sell", {"_trace_context": {}}, request=SimpleNamespace(scope=None)) == tool.result
    assert (tool.arguments, len(reported)) == ({}, 2)


async def test_a_call_whose_surroundings_are_not_understood_has_its_span(
    serve: Any, spans: sdk.Spans, reported: list[str]
) -> None:
    await serve(Tool()).receive("sell", {}, request=SimpleNamespace(scope=None))
    assert "correlation_id" not in (spans.named("mcp.server.sell").attributes or {})
    assert len(reported) == 1


async def test_without_a_span_that_records_nothing_is_described(kind: Any) -> None:
    tool = Tool()
    server = observe_mcp_server(kind(tool), tracer_provider=TracerProvider(sampler=ALWAYS_OFF))
    assert await server.receive("sell", {}) == tool.result


def test_a_server_that_is_observed_stays_as_it_is(kind: Any) -> None:
    server = kind(Tool())
    once = observe_mcp_server(server)
    middleware, handlers = list(getattr(once, "middleware", [])), dict(getattr(once, "request_handlers", {}))
    assert observe_mcp_server(once) is server
    assert (getattr(once, "middleware", []), getattr(once, "request_handlers", {})) == (middleware, handlers)


async def test_version_1_may_get_its_tools_later(spans: sdk.Spans) -> None:
    server, tool = Classic(Tool()), Tool()
    observe_mcp_server(SimpleNamespace(_mcp_server=server), tracer_provider=spans.provider)
    assert server.call_tool(validate_input=False)(tool) is tool
    await server.receive("sell", {"q": "x"})
    assert (tool.arguments, len(spans.all)) == ({"q": "x"}, 1)
    assert server.request_handlers is server.handlers
    assert server.request_handlers[sdk.types.ListToolsRequest] is None


@pytest.mark.parametrize(
    "ctx",
    [
        Ctx(None, method="tools/list"),
        Ctx(None),
        Ctx({"name": 7}),
        Ctx({"name": "sell"}, method="prompts/get"),
    ],
)
async def test_messages_that_call_no_tool_pass(spans: sdk.Spans, written: Any, ctx: Ctx) -> None:
    tool = Tool()
    assert await observe_mcp_server(Modern(tool), tracer_provider=spans.provider).pass_on(ctx) is tool.result
    assert (spans.all, [line["message"] for line in written.lines]) == ([], ["inside"])


@pytest.mark.parametrize("server", [object(), SimpleNamespace(middleware=None), SimpleNamespace(request_handlers=[])])
def test_what_is_no_server_is_rejected(server: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^server="):
        observe_mcp_server(server)


class Native(Modern):
    """A server whose first middleware makes the span, as that of version 2 does."""

    def __init__(self, tool: Tool, provider: TracerProvider) -> None:
        super().__init__(tool)
        self._tracer = provider.get_tracer("sdk")

    async def first(self, ctx: Any, call_next: Any) -> Any:
        attributes = {"mcp.method.name": ctx.method, "jsonrpc.request.id": str(ctx.request_id)}
        with self._tracer.start_as_current_span("tools/call sell", kind=SpanKind.SERVER, attributes=attributes):
            return await call_next(ctx)


async def test_the_span_of_the_sdk_is_told_what_ours_would_say(spans: sdk.Spans) -> None:
    tool = Tool()
    server = observe_mcp_server(Native(tool, spans.provider), tracer_provider=spans.provider)
    meta = {"traceparent": TRACEPARENT, "asgi-obs/correlation-id": "c-1"}
    await server.receive("sell", {"q": "x"}, meta=meta)
    (span,) = spans.all
    assert (span.name, span.instrumentation_scope and span.instrumentation_scope.name) == ("mcp.server.sell", "sdk")
    attributes = dict(span.attributes or {})
    assert (attributes["mcp.tool"], attributes["user.id"], attributes["correlation_id"]) == ("sell", "u-1", "c-1")
    assert (attributes["mcp.result.success"], tool.correlation_id) == (True, "c-1")


async def test_the_span_of_the_sdk_records_an_exception_once(spans: sdk.Spans) -> None:
    server = observe_mcp_server(Native(Tool(LookupError("gone")), spans.provider), tracer_provider=spans.provider)
    with pytest.raises(LookupError):
        await server.receive("sell", {})
    (span,) = spans.all
    assert [event.name for event in span.events] == ["exception"]
    assert (span.attributes or {})["error.message"] == "gone"


async def test_the_span_of_the_sdk_in_a_trace_that_is_not_trusted_is_not_ours(spans: sdk.Spans) -> None:
    settings = Settings(trust_incoming=False)
    server = observe_mcp_server(Native(Tool(), spans.provider), tracer_provider=spans.provider, settings=settings)
    await server.receive("sell", {}, request=SimpleNamespace(scope=exchange_of("c-1").scope))
    assert (spans.named("mcp.server.sell").parent, len(spans.all)) == (None, 2)


@pytest.mark.parametrize("argument", [{"traceparent": TRACEPARENT}, {}])
async def test_the_sdk_does_not_see_the_trace_in_an_argument_but_we_do(spans: sdk.Spans, argument: Any) -> None:
    server = observe_mcp_server(Native(Tool(), spans.provider), tracer_provider=spans.provider)
    await server.receive("sell", {"_trace_context": argument})
    ours = spans.named("mcp.server.sell")
    assert [parent_of(ours), len(spans.all)] == ([(TRACE_ID, SPAN_ID), 2] if argument else [None, 1])


@pytest.mark.parametrize(
    "other",
    [
        {"kind": SpanKind.INTERNAL, "attributes": {"mcp.method.name": "tools/call", "jsonrpc.request.id": "1"}},
        {"kind": SpanKind.SERVER, "attributes": {"http.request.method": "POST"}},
        {"kind": SpanKind.SERVER, "attributes": {"mcp.method.name": "tools/call", "jsonrpc.request.id": "2"}},
    ],
)
async def test_a_span_of_something_else_is_the_parent(spans: sdk.Spans, other: Any) -> None:
    server = observe_mcp_server(Modern(Tool()), tracer_provider=spans.provider)
    with spans.provider.get_tracer("other").start_as_current_span("other", **other) as span:
        await server.receive("sell", {})
    ours = spans.named("mcp.server.sell")
    context = span.get_span_context()
    assert parent_of(ours) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")


@pytest.fixture(params=sdk.MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("native", [True, False])
async def test_servers_of_the_sdk(
    mode: str, native: bool, spans: sdk.Spans, written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = observe_mcp_server(sdk.MCPServer("orders"), tracer_provider=spans.provider)
    if native:
        sdk.record_native_spans(monkeypatch, spans.provider)

    @server.tool()
    async def sell(item: str) -> str:
        bind(user_id="u-1")
        log.info("inside")
        return item

    @server.tool()
    async def fail() -> str:
        raise LookupError("sold out")

    async with sdk.connected(observe_mcp_server(server), mode) as session:
        client = observe_mcp_client(
            session, service="orders", tracer_provider=spans.provider, registry=CollectorRegistry()
        )
        with LogContext("c-1"):
            answer = await client.call_tool("sell", {"item": "book"})
        await client.call_tool("fail", {})
    assert sdk.text_of(answer) == "book"
    ours, theirs = spans.named("mcp.tool.sell"), spans.named("mcp.server.sell")
    assert (theirs.kind, theirs.context.trace_id) == (SpanKind.SERVER, ours.context.trace_id)
    between = {span.context.span_id: span.parent for span in spans.all}
    parent = theirs.parent
    assert parent is not None
    if parent.span_id != ours.context.span_id:  # that of the SDK stands between: it is inside of ours
        parent = between[parent.span_id]
        assert parent is not None
    assert parent.span_id == ours.context.span_id
    assert len([span for span in spans.all if span.kind is SpanKind.SERVER and "sell" in span.name]) == 1
    assert (theirs.attributes or {})["user.id"] == "u-1"
    lines = [line for line in written.lines if line["message"].endswith("sell") or line["message"] == "inside"]
    assert {line["correlation_id"] for line in lines} == {"c-1"}
    assert len(lines) == 5
    assert spans.named("mcp.server.fail").status.status_code is StatusCode.ERROR
    assert {line["level"] for line in written.lines if line["message"] == "MCP tool error: fail"} == {"WARN"}


async def test_low_level_servers_of_the_sdk(mode: str, spans: sdk.Spans) -> None:
    async def call(name: str, arguments: Any) -> str:
        assert trace.get_current_span().get_span_context().is_valid
        return f"{name} {arguments}"

    server, register = sdk.low_level(call)
    observe_mcp_server(server, tracer_provider=spans.provider)
    register()
    async with sdk.connected(server, mode) as session:
        answer = await session.call_tool("sell", {"item": "book", "_trace_context": {"traceparent": TRACEPARENT}})
    assert sdk.text_of(answer) == "sell {'item': 'book'}"
    assert parent_of(spans.named("mcp.server.sell")) == (TRACE_ID, SPAN_ID)
