"""An MCP server and its client over streamable HTTP, both observed."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry

from asgi_obs import CorrelationIdMiddleware, LogContext, RequestLoggingMiddleware, TracingMiddleware, bind
from asgi_obs.integrations.mcp import observe_mcp_client, observe_mcp_server
from asgi_obs.logs import StructuredLogFormatter
from asgi_obs.settings import Settings
from tests.e2e.server import serve
from tests.integrations import mcp_sdk as sdk
from tests.logs.sinks import until

pytestmark = pytest.mark.anyio

log = logging.getLogger("orders")


class Lines(logging.StreamHandler):  # type: ignore[type-arg]
    """What both sides have logged."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.setFormatter(StructuredLogFormatter(settings=Settings(service_name="orders", environment="testing")))

    @property
    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def of(self, component: str) -> list[dict[str, Any]]:
        return [line for line in self.all if line["component"] == component]

    def users(self) -> dict[str, str | None]:
        """Who was served, by the correlation ID of the request."""
        return {line["correlation_id"]: line.get("user_id") for line in self.of("asgi_obs.request")}


@pytest.fixture
def lines() -> Iterator[Lines]:
    root, lines = logging.getLogger(), Lines()
    level = root.level
    root.addHandler(lines)
    root.setLevel(logging.INFO)
    yield lines
    root.removeHandler(lines)
    root.setLevel(level)


@pytest.fixture(params=[True, False], ids=["native", "plain"])
def spans(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> sdk.Spans:
    """Those of both sides; with those that the SDK makes itself, or without."""
    spans = sdk.Spans()
    if request.param:
        sdk.record_native_spans(monkeypatch, spans.provider)
    return spans


@pytest.fixture
def url(spans: sdk.Spans) -> Iterator[str]:
    server = observe_mcp_server(sdk.MCPServer("orders"), tracer_provider=spans.provider)

    @server.tool()
    async def sell(item: str, api_key: str, ctx: sdk.Context) -> str:
        bind(user_id=item)
        for step in range(2):
            await ctx.report_progress(step, 2)
        log.info("sold %s", item)
        return json.dumps(dict(ctx.request_context.meta or {}), default=str)

    @server.tool()
    async def fail(api_key: str) -> str:
        raise LookupError(f"api_key={api_key}")

    app = TracingMiddleware(server.streamable_http_app(), tracer_provider=spans.provider)
    with serve(CorrelationIdMiddleware(RequestLoggingMiddleware(app)), ws="none") as address:
        yield f"http://{address}/mcp"


def ancestors(spans: sdk.Spans, span: Any) -> list[str]:
    by_id = {known.context.span_id: known for known in spans.all}
    names = []
    while span.parent is not None:
        span = by_id[span.parent.span_id]
        names.append(span.name)
    return names


async def test_one_trace_and_one_correlation_id_on_both_sides(url: str, spans: sdk.Spans, lines: Lines) -> None:
    heard: list[float] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        heard.append(done)

    arguments, meta = {"item": "book", "api_key": "hunter2"}, {"tenant": "acme"}
    async with sdk.connected_over_http(url) as session:
        client = observe_mcp_client(
            session, service="orders", tracer_provider=spans.provider, registry=CollectorRegistry()
        )
        with LogContext("c-1"):
            answer = await client.call_tool("sell", arguments, progress_callback=progress, meta=meta)
            failed = await client.call_tool("fail", {"api_key": "hunter2"})
    got = json.loads(sdk.text_of(answer))
    assert (got["tenant"], got["asgi-obs/correlation-id"], heard) == ("acme", "c-1", [0, 1])
    assert (arguments, meta) == ({"item": "book", "api_key": "hunter2"}, {"tenant": "acme"})
    assert "fail" in sdk.text_of(failed)
    theirs = spans.named("mcp.server.sell")
    assert theirs.kind is SpanKind.SERVER
    assert ancestors(spans, theirs)[-1] == "mcp.tool.sell"
    assert set(ancestors(spans, theirs)) <= {"mcp.tool.sell", "MCP send tools/call sell"}
    about = [line for line in lines.all if "sell" in line["message"] or "sold" in line["message"]]
    assert [line["component"] for line in about] == [
        "asgi_obs.mcp.client", "asgi_obs.mcp.server", "orders", "asgi_obs.mcp.server", "asgi_obs.mcp.client",
    ]  # fmt: skip
    assert {line["correlation_id"] for line in about} == {"c-1"}
    assert {line["trace_id"] for line in about} == {f"{theirs.context.trace_id:032x}"}
    outcomes = [line for line in lines.all if line["message"] == "MCP tool error: fail"]
    assert [(line["level"], line["success"]) for line in outcomes] == [("WARN", False)] * 2
    ours = [line for line in lines.all if line["component"].startswith("asgi_obs")]
    assert "hunter2" not in json.dumps(ours)
    named = [span for span in spans.all if span.name.startswith("mcp.")]
    assert not any("hunter2" in json.dumps(dict(span.attributes or {})) for span in named)


async def test_calls_of_others_belong_to_the_request_that_brings_them(url: str, spans: sdk.Spans, lines: Lines) -> None:
    async with sdk.connected_over_http(url) as session:
        calls = (session.call_tool("sell", {"item": item, "api_key": "x"}) for item in ("book", "pen"))
        await asyncio.gather(*calls)
    for item in ("book", "pen"):
        (sold,) = (line for line in lines.of("orders") if line["message"] == f"sold {item}")
        # The answer is there before the response has ended, and its line.
        until(lambda sold=sold: sold["correlation_id"] in lines.users())
        assert (sold["user_id"], lines.users()[sold["correlation_id"]]) == (item, item)
    servers = [span for span in spans.all if span.name == "mcp.server.sell"]
    assert len(servers) == 2
