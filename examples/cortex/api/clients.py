"""The other two services, as this one sees them: memory over HTTP, cognition over MCP."""

from __future__ import annotations

import json
from typing import Any

import httpx
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from asgi_obs.integrations.httpx import instrument_httpx
from asgi_obs.integrations.mcp import observe_mcp_client

TIMEOUT = 2.0
"""Seconds to wait for any one answer of the memory."""


class Memory:
    """The memory service.

    Args:
        url: Where it is.
    """

    def __init__(self, url: str) -> None:
        self._http = instrument_httpx(httpx.AsyncClient(base_url=url, timeout=TIMEOUT, trust_env=False))

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def store_input(self, user_id: str, conversation_id: str, text: str) -> None:
        """Have it remember what a user said."""
        said = {"user_id": user_id, "conversation_id": conversation_id, "text": text}
        (await self._http.post("/inputs", json=said)).raise_for_status()


class CognitionError(Exception):
    """The cognition service did not answer, or that it failed."""


class Cognition:
    """The cognition service.

    Args:
        url: Where it is.
    """

    def __init__(self, url: str) -> None:
        self._url = f"{url}/mcp"
        # As the SDK makes it, but for the proxy of the environment, which does not know the way to our own services.
        # Which library it is from depends on the SDK's version.
        client = create_mcp_http_client()
        self._http = instrument_httpx(type(client)(timeout=client.timeout, trust_env=False))

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def summary(self, user_id: str, query: str) -> str:
        """What it makes of what the user said before; CognitionError if it does not say."""
        try:
            result = await self._call_tool("get_context", {"user_id": user_id, "query": query})
        except Exception as error:
            raise CognitionError(_reason(error)) from error
        (part,) = result.content
        if getattr(result, "is_error", False) or getattr(result, "isError", False):
            raise CognitionError(part.text)
        summary: str = json.loads(part.text)["summary"]
        return summary

    async def _call_tool(self, name: str, arguments: dict[str, Any]) -> Any:
        # A session for each call: one that is kept would not outlive a restart of the service.
        async with (
            streamable_http_client(self._url, http_client=self._http) as (read, write, *_),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await observe_mcp_client(session, service="cognition").call_tool(name, arguments)


def _reason(error: BaseException) -> str:
    """What happened; the SDK's tasks put it into groups."""
    while hasattr(error, "exceptions"):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
