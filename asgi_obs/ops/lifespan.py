"""The lifespan of an application, seen from outside; https://asgi.readthedocs.io/en/latest/specs/lifespan.html.

When it begins the service does, when it has started the groups of health are checked and `OPS_PORT` is listened on,
when it is about to end readiness fails first.
"""

from __future__ import annotations

from typing import Final

from asgi_obs.errors import ConfigurationError
from asgi_obs.ops.lifecycle import Lifecycle
from asgi_obs.ops.port import OpsServer
from asgi_obs.types import Message, Receive, Send

__all__ = ["Lifespan"]

_LAST_WORDS: Final = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})


class Lifespan:
    """Stands between a server and an application.

    Args:
        lifecycle: How the service comes and goes.
        server: The server of `OPS_PORT`, if there is one.
        receive: The server's `receive`.
        send: The server's `send`.
    """

    def __init__(self, lifecycle: Lifecycle, server: OpsServer | None, receive: Receive, send: Send) -> None:
        self._lifecycle = lifecycle
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
            self._lifecycle.begin()
        else:
            await self._lifecycle.drain()
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
            self._lifecycle.validate()
            if self._server is not None:
                self._server.start()
        except ConfigurationError as error:
            self._failed = True
            return {"type": "lifespan.startup.failed", "message": str(error)}
        return message

    async def _end(self) -> None:
        if self._server is not None:
            await self._server.stop()
        self._lifecycle.end()
