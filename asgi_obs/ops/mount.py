"""The ops paths in front of any ASGI application; all the rest passes through untouched.

Costs a dictionary look-up per request, some 0.4 µs.
"""

from __future__ import annotations

import re
from typing import Any, Final

from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import SCOPE_KEY, Exchange, HttpExchange
from asgi_obs.ops.app import OpsApp, routed_path
from asgi_obs.types import ASGIApp, Observer, Receive, Scope, Send

__all__ = ["OpsMount", "mount_ops"]

_PREFIX: Final = re.compile(r"(?:/[^/{}?#\s]+)*")


def mount_ops(app: ASGIApp, ops: OpsApp, prefix: str = "") -> OpsMount:
    """Serve the ops paths in front of an application.

    Args:
        app: The application that gets everything else: other paths, WebSockets, lifespan.
        ops: The ops app.
        prefix: What its paths begin with, such as `/internal`; default nothing.

    Raises:
        ConfigurationError: `app` cannot be called, `ops` is no OpsApp, or `prefix` is not the beginning of a path.
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
        self._served = {prefix + path + slash: path for path in ops.paths for slash in ("", "/")}

    def on_start(self, exchange: Exchange) -> None:
        """Mark an exchange with one of the ops paths."""
        exchange.operational = type(exchange) is HttpExchange and routed_path(exchange.scope) in self._served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Serve one of the ops paths, or hand the scope on and return what the application returns."""
        if scope["type"] == "http":
            path = self._served.get(routed_path(scope))
            if path is not None:
                exchange = scope.get(SCOPE_KEY)
                if exchange is not None:
                    exchange.route = self._prefix + path
                return await self._ops.serve(path, scope, send)
        return await self.app(scope, receive, send)
