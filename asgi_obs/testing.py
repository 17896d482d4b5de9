"""Drive an ASGI application in a test, message by message, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from asgi_obs.types import ASGIApp, Message, Scope

__all__ = ["drive", "http_scope", "websocket_scope"]


def http_scope(path: str = "/", method: str = "GET", headers: Iterable[tuple[bytes, bytes]] = (), **more: Any) -> Scope:
    """An HTTP scope as a server makes it; `more` adds or replaces keys."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": quote(path, errors="surrogatepass").encode(),
        "query_string": b"",
        "root_path": "",
        "headers": list(headers),
        "client": ("203.0.113.7", 50_000),
        "server": ("testserver", 80),
        "state": {},
        **more,
    }


def websocket_scope(path: str = "/", headers: Iterable[tuple[bytes, bytes]] = (), **more: Any) -> Scope:
    """A WebSocket scope as a server makes it; `more` adds or replaces keys."""
    scope = http_scope(path, headers=headers, **{"type": "websocket", "scheme": "ws", "subprotocols": [], **more})
    del scope["method"]
    return scope


async def drive(app: ASGIApp, scope: Scope, incoming: Iterable[Message] | None = None) -> list[Message]:
    """Run the application on one scope and return what it sent.

    Args:
        app: The application; what it raises is raised here.
        scope: From `http_scope` or `websocket_scope`.
        incoming: What `receive` returns, in order; default one empty request body, or a WebSocket that
            connects. Behind the last of them `receive` waits for ever, as a server does while a client stays.
    """
    opening: Message = (
        {"type": "http.request", "body": b"", "more_body": False}
        if scope["type"] == "http"
        else {"type": "websocket.connect"}
    )
    waiting = iter([opening] if incoming is None else incoming)
    sent: list[Message] = []

    async def receive() -> Message:
        for message in waiting:
            return message
        await asyncio.get_running_loop().create_future()
        raise AssertionError  # pragma: no cover - nobody resolves that future

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent
