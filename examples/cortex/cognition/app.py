"""The cognition service: a server of MCP at `/mcp`, inside of a Starlette application."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
from pydantic import Field
from starlette.applications import Starlette
from starlette.routing import Mount

try:
    from mcp.server.mcpserver import MCPServer
except ImportError:  # version 1 of the SDK
    from mcp.server.fastmcp import FastMCP as MCPServer

from asgi_obs import Observability, Settings, bind
from asgi_obs.health.checks import HttpCheck
from asgi_obs.integrations.httpx import instrument_httpx
from asgi_obs.integrations.mcp import observe_mcp_server
from examples.cortex.cognition.context import Contexts

MEMORY_SERVICE_URL = "http://127.0.0.1:8001"
MEMORY_ANSWERS_WITHIN = 5.0

Limit = Annotated[int, Field(ge=1, le=100)]


def create_server(contexts: Contexts) -> Any:
    """The tools."""
    server = observe_mcp_server(MCPServer("cognition"))

    @server.tool()
    async def get_context(user_id: str, query: str, limit: Limit = 5) -> str:
        """What a user has said that matters to a query, as JSON."""
        bind(user_id=user_id)
        return json.dumps(await contexts.get_context(user_id, query, limit))

    return server


def create_app(memory_url: str | None = None) -> Starlette:
    """The whole service as one ASGI application, observed.

    Args:
        memory_url: Where the memory service is; None takes `MEMORY_SERVICE_URL` from the environment.
    """
    memory_url = memory_url or os.environ.get("MEMORY_SERVICE_URL", MEMORY_SERVICE_URL)
    memory = instrument_httpx(httpx.AsyncClient(base_url=memory_url, timeout=MEMORY_ANSWERS_WITHIN, trust_env=False))
    server = create_server(Contexts(memory))
    mcp = server.streamable_http_app()

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with memory, server.session_manager.run():
            yield

    obs = Observability(Settings())
    obs.health.add("memory_service", HttpCheck(f"{memory_url}/health"))
    return obs.install(Starlette(routes=[Mount("/", mcp)], lifespan=lifespan))
