"""The ops paths in front of any ASGI application; all the rest passes through untouched.

Costs two dictionary look-ups per request, some 0.8 µs. The lifespan of the application is the service's: when it has
started its health groups are checked and `OPS_PORT` is listened on, when it is about to end readiness fails first.
"""

from __future__ import annotations

import re
from typing import Any, Final

from asgi_obs.errors import ConfigurationError, report
from asgi_obs.exchange import SCOPE_KEY, Exchange, HttpExchange
from asgi_obs.ops.app import OpsApp, routed_path
from asgi_obs.ops.endpoint import Endpoint
from asgi_obs.ops.port import OpsServer
from asgi_obs.types import ASGIApp, Message, Observer, Receive, Scope, Send

__all__ = ["OpsMount", "mount_ops"]

_PREFIX: Final = re.compile(r"(?:/[^/{}?#\s]+)*")
_LAST_WORDS: Final = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})


def mount_ops(app: ASGIApp, ops: OpsApp, prefix: str = "") -> OpsMount:
    """Serve the ops paths in front of an application.

    With `OPS_PORT` only the bare readiness and liveness are; all else is on that port, which is served from inside the
    process, without the prefix.

    Args:
        app: The application that gets everything else: other paths, WebSockets, lifespan.
        ops: The ops app.
        prefix: What its paths begin with, such as `/internal`; default nothing.

    Raises:
        ConfigurationError: `app` cannot be called, `ops` is no OpsApp, or `prefix` is not the beginning of a path.
        MissingExtraError: There is an `OPS_PORT`, and no uvicorn.
    """
    return OpsMount(app, ops, prefix=prefix)


class OpsMount(Observer):
    """An application with the ops paths in front of it; see `mount_ops`.

    As an observer of the exchanges around it, it marks those of the ops paths when they start, so that nobody
    has to wait for the end to know.
    """

    def __init__(self, app: ASGIApp, ops: OpsApp, *, prefix: str = "") -> None:
        if not callable(app):
            raise ConfigurationError("app", app, "an ASGI application")
        if not isinstance(ops, OpsApp):
            raise ConfigurationError("ops", ops, "an OpsApp")
        if not isinstance(prefix, str) or _PREFIX.fullmatch(prefix) is None:
            raise ConfigurationError("prefix", prefix, "'' or a path such as /internal, with no slash at its end")
        self.app = app
        self._ops = ops
        self._prefix = prefix
        settings = ops.settings
        self._server = OpsServer(ops, settings.ops_host, settings.ops_port) if settings.ops_port else None

    def on_start(self, exchange: Exchange) -> None:
        """Mark an exchange with one of the ops paths."""
        exchange.operational = type(exchange) is HttpExchange and self._match(exchange.scope) is not None

    def _match(self, scope: Scope) -> tuple[Endpoint, str] | None:
        path = routed_path(scope)
        if self._prefix:
            if not path.startswith(self._prefix):
                return None
            path = path[len(self._prefix) :]
        match = self._ops.match(path)
        return match if match is None or self._server is None or match[0].access == "open" else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Serve one of the ops paths, or hand the scope on and return what the application returns."""
        kind = scope["type"]
        if kind == "lifespan":
            lifespan = _Lifespan(self._ops, self._server, receive, send)
            return await self.app(scope, lifespan.receive, lifespan.send)
        if self._ops.lifecycle.attach() and self._server is not None:
            self._start_late(self._server)
        if kind == "http":
            match = self._match(scope)
            if match is not None:
                exchange = scope.get(SCOPE_KEY)
                if exchange is not None:
                    exchange.route = self._prefix + match[0].path
                await self._ops.serve(match, scope, receive, send)
                return None
        return await self.app(scope, receive, send)

    def _start_late(self, server: OpsServer) -> None:
        """Without a lifespan the first request is the start, and too late to fail."""
        try:
            server.start()
        except Exception as error:  # noqa: BLE001 - fail open: the request is not to blame
            report("OpsMount.server", error)


class _Lifespan:
    """The lifespan of the application, seen from outside; https://asgi.readthedocs.io/en/latest/specs/lifespan.html.

    Args:
        ops: The ops app.
        server: Its own server, if it has one.
        receive: The server's `receive`.
        send: The server's `send`.
    """

    def __init__(self, ops: OpsApp, server: OpsServer | None, receive: Receive, send: Send) -> None:
        self._ops = ops
        self._server = server
        self._receive = receive
        self._send = send
        self._failed = False

    async def receive(self) -> Message:
        """The next message for the application."""
        if self._failed:
            return {"type": "lifespan.shutdown"}
        message = await self._receive()
        if message["type"] == "lifespan.startup":
            self._ops.lifecycle.begin()
        else:
            await self._ops.lifecycle.drain()
        return message

    async def send(self, message: Message) -> None:
        """A message from the application."""
        kind = message["type"]
        if kind in _LAST_WORDS:
            await self._end()
        if self._failed:
            return  # the server knows already, and the application has cleaned up
        if kind == "lifespan.startup.complete":
            message = self._started(message)
        await self._send(message)

    def _started(self, message: Message) -> Message:
        """The message that the application has started; or that it has not, with what is wrong."""
        try:
            self._ops.health.validate()
            if self._server is not None:
                self._server.start()
        except ConfigurationError as error:
            self._failed = True
            return {"type": "lifespan.startup.failed", "message": str(error)}
        return message

    async def _end(self) -> None:
        if self._server is not None:
            await self._server.stop()
        self._ops.lifecycle.end()
