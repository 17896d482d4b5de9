"""The SDK that is installed, version 1 or 2, as the tests need it; and what they have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import mcp.types as types
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

Call = Callable[[str, Any], Awaitable[str]]

try:
    from mcp import Client
    from mcp.server.lowlevel import Server
    from mcp.server.mcpserver import Context, MCPServer
    from mcp.shared import _otel

    NATIVE = True
    """Whether the SDK makes spans and sends the trace itself."""

    MODES = ("auto", "legacy")
    """The ways to talk to a server in memory."""

    def connected(server: Any, mode: str) -> AbstractAsyncContextManager[Any]:
        return Client(server, mode=mode)

    def connected_over_http(url: str) -> AbstractAsyncContextManager[Any]:
        return Client(url)

    def low_level(call: Call) -> tuple[Any, Callable[[], None]]:
        """A server, and what registers its tools after it was made: nothing."""

        async def on_call_tool(ctx: Any, params: Any) -> Any:
            text = await call(params.name, params.arguments)
            return types.CallToolResult(content=[types.TextContent(type="text", text=text)])

        async def on_list_tools(ctx: Any, params: Any) -> Any:
            return types.ListToolsResult(tools=[])

        return Server("low", on_call_tool=on_call_tool, on_list_tools=on_list_tools), lambda: None

    def record_native_spans(monkeypatch: Any, provider: TracerProvider) -> None:
        monkeypatch.setattr(_otel, "_tracer", provider.get_tracer("mcp-python-sdk"))

except ImportError:  # pragma: no cover - version 1
    from mcp.client.session import ClientSession
    from mcp.client.streamable_http import streamable_http_client
    from mcp.server.fastmcp import Context
    from mcp.server.fastmcp import FastMCP as MCPServer
    from mcp.server.lowlevel import Server
    from mcp.shared.memory import create_connected_server_and_client_session

    NATIVE = False
    MODES = ("legacy",)

    def connected(server: Any, mode: str) -> AbstractAsyncContextManager[Any]:
        return create_connected_server_and_client_session(server)

    @asynccontextmanager
    async def connected_over_http(url: str) -> AsyncIterator[Any]:
        async with streamable_http_client(url) as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            yield session

    def low_level(call: Call) -> tuple[Any, Callable[[], None]]:
        server: Any = Server("low")

        async def call_tool(name: str, arguments: Any) -> Any:
            return [types.TextContent(type="text", text=await call(name, arguments))]

        async def list_tools() -> Any:
            return []

        server.list_tools()(list_tools)
        return server, lambda: server.call_tool()(call_tool)

    def record_native_spans(monkeypatch: Any, provider: TracerProvider) -> None: ...


__all__ = [
    "MODES",
    "NATIVE",
    "Context",
    "MCPServer",
    "Spans",
    "connected",
    "connected_over_http",
    "low_level",
    "record_native_spans",
    "text_of",
    "types",
]


class Spans:
    """A provider, and the spans it has made that have ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        (span,) = (span for span in self.all if span.name == name)
        return span


def text_of(result: Any) -> str:
    """What a tool has answered."""
    (part,) = result.content
    return part.text
