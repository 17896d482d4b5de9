"""The services next to the API, as far as it can see: a memory over HTTP and a cognition over MCP, on loopback."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import anyio
import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.integrations import mcp_sdk as sdk

DEADLINE = 20.0
"""Seconds that anything may wait; never reached if all is well."""

NOBODY = "http://127.0.0.1:1"
"""Where no service is."""

FORGETS = "forget this"
"""What the memory answers with a 503."""

CONFUSES = "confuse me"
"""What the cognition fails at."""

TAKES_FOREVER = "think about everything"
"""What the cognition does not come back from."""


class Companions:
    """Both of them, in one server.

    Attributes:
        url: Where they are.
        inputs: What the memory was told, and the headers that came with it.
        headers: Those of every request that has called a tool of the cognition.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.inputs: list[tuple[dict[str, str], dict[str, str]]] = []
        self.headers: list[dict[str, str]] = []

    def app(self) -> Any:
        server = sdk.MCPServer("cognition")

        @server.tool()
        async def get_context(user_id: str, query: str, limit: int = 5) -> str:
            if query == CONFUSES:
                raise ValueError(query)
            if query == TAKES_FOREVER:
                await anyio.sleep_forever()
            return json.dumps({"query": query, "context": [], "summary": f"{user_id} said {query}"})

        @server.custom_route("/inputs", methods=["POST"])
        async def inputs(request: Request) -> Response:
            told = await request.json()
            self.inputs.append((told, dict(request.headers)))
            return JSONResponse({"id": len(self.inputs)}, 503 if told["text"] == FORGETS else 201)

        @server.custom_route("/health", methods=["GET"])
        async def health(request: Request) -> Response:
            return JSONResponse({"status": "healthy"})

        mcp = server.streamable_http_app()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http" and scope["path"] == "/mcp":
                self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
            await mcp(scope, receive, send)

        return app


@contextmanager
def companions_on_loopback() -> Iterator[Companions]:
    """Serve them in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        companions = Companions("http://{}:{}".format(*listener.getsockname()))
        config = uvicorn.Config(companions.app(), log_config=None, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield companions
        finally:
            server.should_exit = True
            thread.join(DEADLINE)
