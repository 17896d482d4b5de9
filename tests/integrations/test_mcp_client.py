from __future__ import annotations

import asyncio
import copy
import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry

from asgi_obs import LogContext
from asgi_obs.errors import ConfigurationError
from asgi_obs.integrations.mcp import ObservedMcpClient, observe_mcp_client
from asgi_obs.integrations.mcp.excerpt import MAX_EXCERPT, excerpt
from asgi_obs.metrics.labels import family
from asgi_obs.tracing import propagation
from tests.integrations import mcp_sdk as sdk

pytestmark = pytest.mark.anyio

DONE = SimpleNamespace(is_error=False, content=[])


class Session:
    """Stands in for the SDK's: keeps what it is called with."""

    def __init__(self, result: Any = DONE) -> None:
        self.result = result
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.baggage: Any = None

    async def call_tool(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append((args, kwargs))
        self.baggage = baggage.get_all()
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result

    @property
    def meta(self) -> Any:
        return self.calls[-1][1]["meta"]

    @property
    def arguments(self) -> Any:
        return self.calls[-1][0][1]


@pytest.fixture
def spans() -> sdk.Spans:
    return sdk.Spans()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def observe(spans: sdk.Spans, registry: CollectorRegistry) -> Any:
    def observe(session: Any, **options: Any) -> ObservedMcpClient:
        defaults = {"service": "cognition", "tracer_provider": spans.provider, "registry": registry}
        return observe_mcp_client(session, **{**defaults, **options})

    return observe


def counted(registry: CollectorRegistry, tool: str, outcome: str) -> float | None:
    return registry.get_sample_value("mcp_tool_calls_total", {"tool": tool, "outcome": outcome})


def parent_in(traceparent: str) -> tuple[int, int]:
    _, trace_id, span_id, _ = traceparent.split("-")
    return int(trace_id, 16), int(span_id, 16)


async def test_a_call_is_passed_on_with_all_its_arguments_and_its_result_returned(observe: Any) -> None:
    session = Session()

    def progress() -> None: ...

    result = await observe(session).call_tool("search", {"q": "x"}, 30, progress_callback=progress)
    ((args, kwargs),) = session.calls
    del kwargs["meta"]
    assert (args, kwargs) == (("search", {"q": "x"}, 30), {"progress_callback": progress})
    assert result is DONE


async def test_a_call_without_arguments_stays_one(observe: Any) -> None:
    session = Session()
    await observe(session).call_tool(name="search")
    assert session.arguments is None


async def test_a_success_has_two_lines(observe: Any, written: Any) -> None:
    arguments = {"q": "x", "password": "hunter2", "nested": [{"api_key": "hunter2"}]}
    await observe(Session()).call_tool("search", arguments)
    call, response = written.lines
    assert (call["component"], call["level"], call["message"]) == (
        "asgi_obs.mcp.client", "INFO", "MCP tool call: search",
    )  # fmt: skip
    assert call["tool_name"] == "search"
    assert call["arguments"] == {"q": "x", "password": "******", "nested": [{"api_key": "******"}]}
    assert (response["level"], response["message"]) == ("INFO", "MCP tool response: search")
    assert (response["tool_name"], response["success"]) == ("search", True)
    assert response["duration_ms"] >= 0
    assert arguments["password"] == "hunter2"


async def test_a_success_has_a_span(observe: Any, spans: sdk.Spans) -> None:
    with LogContext("c-1"):
        await observe(Session()).call_tool("search", {"q": "x", "token": "hunter2"})
    (span,) = spans.all
    assert (span.name, span.kind, span.status.status_code) == ("mcp.tool.search", SpanKind.CLIENT, StatusCode.UNSET)
    assert dict(span.attributes or {}) == {
        "mcp.service": "cognition",
        "mcp.tool": "search",
        "mcp.tool.name": "search",
        "mcp.arguments": '{"q":"x","token":"******"}',
        "mcp.result.success": True,
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": "search",
        "gen_ai.operation.name": "execute_tool",
        "correlation_id": "c-1",
    }


async def test_a_call_is_counted_and_timed(observe: Any, registry: CollectorRegistry) -> None:
    client = observe(Session())
    await client.call_tool("search")
    await client.call_tool("search")
    assert counted(registry, "search", "success") == 2
    assert registry.get_sample_value("mcp_tool_call_duration_seconds_count", {"tool": "search"}) == 2


async def test_an_exception_is_raised_unchanged_and_told_without_secrets(
    observe: Any, written: Any, spans: sdk.Spans, registry: CollectorRegistry
) -> None:
    error = TimeoutError("no answer, token=hunter2")
    with pytest.raises(TimeoutError) as raised:
        await observe(Session(error)).call_tool("search")
    _, line = written.lines
    assert raised.value is error
    assert (line["level"], line["message"], line["success"]) == ("ERROR", "MCP tool error: search", False)
    assert line["error"] == {"type": "TimeoutError", "message": "no answer, token=******"}
    span = spans.named("mcp.tool.search")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "no answer, token=******")
    told = {name: value for name, value in (span.attributes or {}).items() if "error" in name or "result" in name}
    assert told == {
        "error": True,
        "error.type": "TimeoutError",
        "error.message": "no answer, token=******",
        "mcp.result.success": False,
    }
    assert "hunter2" not in span.to_json()
    assert counted(registry, "search", "error") == 1


@pytest.mark.parametrize(
    "result",
    [
        SimpleNamespace(is_error=True, content=[SimpleNamespace(text="no such order"), SimpleNamespace(data="x")]),
        SimpleNamespace(isError=True, content=[SimpleNamespace(text="no such order")]),
        SimpleNamespace(root=SimpleNamespace(isError=True, content=[SimpleNamespace(text="no such order")])),
        {"isError": True, "content": [{"type": "text", "text": "no such order"}]},
    ],
)
async def test_a_tool_that_says_it_failed_is_a_warning(
    observe: Any, written: Any, spans: sdk.Spans, registry: CollectorRegistry, result: Any
) -> None:
    assert await observe(Session(result)).call_tool("search") is result
    _, line = written.lines
    assert (line["level"], line["message"], line["success"]) == ("WARN", "MCP tool error: search", False)
    assert line["error"] == {"type": "tool_error", "message": "no such order"}
    span = spans.named("mcp.tool.search")
    assert (span.attributes or {})["error.type"] == "tool_error"
    assert span.status.status_code is StatusCode.ERROR
    assert counted(registry, "search", "tool_error") == 1


@pytest.mark.parametrize("result", [None, {}, "text", SimpleNamespace(is_error="yes")])
async def test_an_answer_that_says_nothing_of_a_failure_is_a_success(
    observe: Any, registry: CollectorRegistry, result: Any
) -> None:
    await observe(Session(result)).call_tool("search")
    assert counted(registry, "search", "success") == 1


async def test_a_call_that_is_cancelled_is_nobodys_fault(
    observe: Any, written: Any, spans: sdk.Spans, registry: CollectorRegistry
) -> None:
    started = asyncio.Event()

    class Slow(Session):
        async def call_tool(self, *args: Any, **kwargs: Any) -> Any:
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(observe(Slow()).call_tool("search"))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    _, line = written.lines
    assert (line["level"], line["message"], line["success"]) == ("INFO", "MCP tool cancelled: search", False)
    span = spans.named("mcp.tool.search")
    assert (span.status.status_code, (span.attributes or {})["mcp.result.success"]) == (StatusCode.UNSET, False)
    assert counted(registry, "search", "cancelled") == 1


async def test_trace_and_correlation_id_go_along_beside_the_meta_of_the_caller(observe: Any, spans: sdk.Spans) -> None:
    session, meta, arguments = Session(), {"tenant": "acme"}, {"q": "x"}
    with LogContext("c-1"):
        await observe(session).call_tool("search", arguments, meta=meta)
    span = spans.named("mcp.tool.search")
    assert parent_in(session.meta["traceparent"]) == (span.context.trace_id, span.context.span_id)
    assert session.meta == {
        "tenant": "acme",
        "traceparent": session.meta["traceparent"],
        "asgi-obs/correlation-id": "c-1",
    }
    assert (meta, arguments, session.arguments) == ({"tenant": "acme"}, {"q": "x"}, {"q": "x"})


async def test_a_call_outside_of_any_request_gets_a_correlation_id(observe: Any, written: Any) -> None:
    session = Session()
    await observe(session).call_tool("search")
    (ours,) = {line["correlation_id"] for line in written.lines}
    assert session.meta["asgi-obs/correlation-id"] == ours
    assert propagation.current_correlation_id() is None


async def test_a_correlation_id_that_is_none_is_not_sent(observe: Any) -> None:
    session = Session()
    with LogContext("not an\nid"):
        await observe(session).call_tool("search")
    assert list(session.meta) == ["traceparent"]


async def test_what_is_no_mapping_is_left_to_the_session(observe: Any) -> None:
    session = Session()
    await observe(session).call_tool("search", meta="odd")
    assert session.meta == "odd"


async def test_no_baggage_goes_along(observe: Any) -> None:
    session = Session()
    token = context.attach(baggage.set_baggage("user", "u-1"))
    try:
        await observe(session).call_tool("search")
        kept = dict(baggage.get_all())
    finally:
        context.detach(token)
    assert (dict(session.baggage), "baggage" in session.meta, kept) == ({}, False, {"user": "u-1"})


async def test_old_servers_get_the_trace_as_an_argument_of_a_copy(observe: Any, written: Any) -> None:
    session, arguments = Session(), {"q": "x"}
    with LogContext("c-1"):
        await observe(session, trace_context_argument=True).call_tool("search", arguments)
    assert session.arguments == {
        "q": "x",
        "_trace_context": {"traceparent": session.meta["traceparent"], "x-correlation-id": "c-1"},
    }
    assert (arguments, written.lines[0]["arguments"]) == ({"q": "x"}, {"q": "x"})


class Counting(dict):  # type: ignore[type-arg]
    """Arguments that know how often they were looked into."""

    looks = 0

    def items(self) -> Any:
        self.looks += 1
        return super().items()


async def test_what_nobody_wants_to_know_is_not_looked_at(observe: Any) -> None:
    arguments = Counting(q="x")
    logging.getLogger("asgi_obs.mcp.client").setLevel(logging.WARNING)
    try:
        await observe(Session(), tracer_provider=TracerProvider(sampler=ALWAYS_OFF)).call_tool("search", arguments)
    finally:
        logging.getLogger("asgi_obs.mcp.client").setLevel(logging.NOTSET)
    assert arguments.looks == 0
    await observe(Session()).call_tool("search", arguments)
    assert arguments.looks > 0


async def test_long_arguments_names_and_errors_are_cut(observe: Any, written: Any, spans: sdk.Spans) -> None:
    with pytest.raises(LookupError):
        await observe(Session(LookupError("e" * 10_000))).call_tool("t" * 10_000, {"q": "x" * 1_000_000, "r": 1})
    call, failed = written.lines
    assert len(json.dumps(call)) + len(json.dumps(failed)) < 4 * MAX_EXCERPT
    assert call["tool_name"] == "t" * 128 + "..."
    (span,) = spans.all
    assert len(str((span.attributes or {})["mcp.arguments"])) < MAX_EXCERPT + 100


async def test_texts_that_cannot_be_encoded_are_no_problem(observe: Any, spans: sdk.Spans, registry: Any) -> None:
    with LogContext("c-\ud800"):
        await observe(Session()).call_tool("tool-\ud800", {"q": "\ud800", "big": 2**80})
    (span,) = spans.all
    assert span.name == "mcp.tool.tool-?"
    assert all(str(value).encode() for value in (span.attributes or {}).values())
    assert counted(registry, "tool-?", "success") == 1


async def test_tools_without_end_do_not_make_series_without_end(observe: Any, registry: CollectorRegistry) -> None:
    family("mcp_tool_calls_total", registry, max_series=8)
    client = observe(Session())
    for number in range(20):
        await client.call_tool(f"made-up-{number}")
    assert (counted(registry, "__overflow__", "success") or 0) >= 12


async def test_calls_beside_each_other_do_not_mix(observe: Any, written: Any, spans: sdk.Spans) -> None:
    seen: dict[str, Any] = {}

    class Meeting(Session):
        waiting = 0
        met = asyncio.Event()

        async def call_tool(self, name: str, arguments: Any, *, meta: Any) -> Any:
            Meeting.waiting += 1
            if Meeting.waiting == 2:
                Meeting.met.set()
            await Meeting.met.wait()
            seen[name] = (propagation.current_correlation_id(), meta["asgi-obs/correlation-id"], meta["traceparent"])
            return DONE

    client = observe(Meeting())
    await asyncio.gather(client.call_tool("a"), client.call_tool("b"))
    for name in ("a", "b"):
        current, sent, traceparent = seen[name]
        span = spans.named(f"mcp.tool.{name}")
        lines = [line["correlation_id"] for line in written.lines if line["tool_name"] == name]
        assert lines == [current, sent]
        assert parent_in(traceparent) == (span.context.trace_id, span.context.span_id)
        assert span.parent is None
    assert seen["a"][0] != seen["b"][0]
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_all_else_is_that_of_the_session(observe: Any) -> None:
    class Entered(Session):
        protocol_version = "2026-07-28"
        inside = False

        async def __aenter__(self) -> Any:
            self.inside = True
            return self

        async def __aexit__(self, *exception: object) -> bool:
            self.inside = False
            return True

    session = Entered()
    observed = observe(session)
    async with observed as client:
        assert (client is observed, session.inside, client.protocol_version) == (True, True, "2026-07-28")
        raise LookupError  # which this session swallows
    assert session.inside is False
    with pytest.raises(AttributeError):
        _ = observed.no_such_thing


@pytest.mark.parametrize(
    ("option", "options"),
    [("session", {"session": object()}), ("service", {"service": ""}), ("service", {"service": None})],
)
async def test_wrong_options_are_rejected(option: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"^{option}="):
        observe_mcp_client(**{"session": Session(), "service": "s", "registry": CollectorRegistry(), **options})


class Broken:
    """A result that cannot be looked at, and a tracer that makes no spans."""

    @property
    def root(self) -> Any:
        raise OSError

    def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def start_span(self, *args: Any, **kwargs: Any) -> Any:
        raise OSError


async def test_what_fails_of_ours_does_not_fail_the_call(
    observe: Any, registry: Any, reported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(Broken())
    monkeypatch.setattr("asgi_obs.integrations.mcp.client.context_for_meta", lambda: 1 / 0)
    assert await observe(session, tracer_provider=Broken()).call_tool("search", {"q": "x"}) is session.result
    assert (session.arguments, session.meta) == ({"q": "x"}, None)
    assert len(reported) == 3
    assert counted(registry, "search", "success") == 1


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=200)


@given(TREES)
def test_an_excerpt_is_of_the_same_kind_and_bounded(value: Any) -> None:
    short = excerpt(value, 100)
    assert isinstance(short, (type(value), str))
    assert len(json.dumps(short, ensure_ascii=False)) < 1_000


@given(st.dictionaries(st.text(max_size=20), st.lists(st.text(max_size=20), max_size=3), max_size=5))
def test_an_excerpt_of_what_fits_is_all_of_it(value: Any) -> None:
    assert excerpt(value) == value


def test_an_excerpt_of_what_has_no_end_has_one() -> None:
    loop: dict[str, Any] = {"n": 1}
    loop["more"] = [loop, (), {1}]
    assert len(json.dumps(excerpt(loop))) < 2 * MAX_EXCERPT


@pytest.mark.parametrize("mode", sdk.MODES)
async def test_sessions_of_the_sdk_keep_progress_and_meta(
    observe: Any, spans: sdk.Spans, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, heard, got = sdk.MCPServer("orders"), [], []
    sdk.record_native_spans(monkeypatch, spans.provider)

    @server.tool()
    async def work(steps: int, ctx: sdk.Context) -> str:
        got.append(dict(ctx.request_context.meta or {}))
        for step in range(steps):
            await ctx.report_progress(step + 1, steps)
        return "done"

    async def progress(done: float, total: float | None, message: str | None) -> None:
        heard.append((done, total))

    arguments, meta = {"steps": 2}, {"tenant": "acme"}
    async with sdk.connected(server, mode) as session:
        client = observe(session)
        result = await client.call_tool("work", arguments, progress_callback=progress, meta=meta)
        tools = await client.list_tools()
    assert (sdk.text_of(result), heard, len(tools.tools)) == ("done", [(1, 2), (2, 2)], 1)
    assert (arguments, meta, got[0]["tenant"]) == ({"steps": 2}, {"tenant": "acme"}, "acme")
    ours = spans.named("mcp.tool.work")
    trace_id, parent = parent_in(got[0]["traceparent"])
    inside = {span.context.span_id for span in spans.all if span.parent and span.parent.span_id == ours.context.span_id}
    assert trace_id == ours.context.trace_id
    assert parent in {ours.context.span_id, *inside}


@pytest.mark.parametrize("mode", sdk.MODES)
async def test_the_observed_client_may_be_the_one_that_is_entered(observe: Any, mode: str) -> None:
    server = sdk.MCPServer("orders")

    @server.tool()
    def ping() -> str:
        return "pong"

    async with observe(Connecting(sdk.connected(server, mode))) as client:
        assert sdk.text_of(await client.call_tool("ping")) == "pong"


class Connecting:
    """A client of either version that is not entered yet."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def __aenter__(self) -> None:
        self.session = await self._connection.__aenter__()

    async def __aexit__(self, *exception: object) -> Any:
        return await self._connection.__aexit__(*exception)

    async def call_tool(self, *args: Any, **kwargs: Any) -> Any:
        return await self.session.call_tool(*args, **kwargs)


def test_a_copy_is_one_too() -> None:
    class Session:
        async def call_tool(self, name: str, arguments: Any = None, *, meta: Any = None) -> Any: ...

    client = observe_mcp_client(Session(), service="orders", registry=CollectorRegistry())
    assert copy.copy(client)._session is client._session


def test_a_session_that_cannot_send_meta_is_rejected() -> None:
    class Old:
        async def call_tool(self, name: str, arguments: Any = None) -> Any: ...

    with pytest.raises(ConfigurationError, match=r"1\.19 or later"):
        observe_mcp_client(Old(), service="orders")
