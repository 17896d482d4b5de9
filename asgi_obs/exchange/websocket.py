"""The WebSocket exchange: handshake, messages both ways, and who closed with which code.

ASGI's WebSocket message format with the denial response extension:
https://asgi.readthedocs.io/en/latest/specs/www.html#websocket; close codes: RFC 6455, section 7.4.
"""

from __future__ import annotations

from time import perf_counter
from typing import Final

from asgi_obs.classify import INTERNAL_ERROR, NO_CLOSE_FRAME, close_code_of
from asgi_obs.errors import report
from asgi_obs.exchange.base import Exchange
from asgi_obs.exchange.hooks import Hooks
from asgi_obs.routes import Routes
from asgi_obs.types import Message, Receive, Scope, Send

__all__ = ["WebSocketExchange"]

SWITCHING_PROTOCOLS: Final = 101
NORMAL_CLOSURE: Final = 1000
NO_STATUS: Final = 1005
"""The codes of a close that names none, by the application and by the client (ASGI, RFC 6455)."""

FORBIDDEN: Final = 403
"""What a server answers when the application closes before accepting (ASGI, "Close - send event")."""

_OPENING: Final = frozenset({"websocket.accept", "websocket.http.response.start"})


class WebSocketExchange(Exchange):
    """One WebSocket session, from the handshake on.

    Attributes:
        accepted: Whether the application accepted the handshake.
        close_code: As closed by either side; `denied` for a refused handshake, `1006` for a client that
            vanished, `1011` when the application raised. None until the exchange ends.
        messages_in: Messages received so far.
        messages_out: Messages sent so far.
    """

    __slots__ = ("_closed_with", "_refused", "accepted", "close_code", "messages_in", "messages_out")

    def __init__(self, scope: Scope, receive: Receive, send: Send, hooks: Hooks, routes: Routes) -> None:
        super().__init__(scope, receive, send, hooks, routes)
        self.accepted = self._refused = False
        self._closed_with: int | None = None
        self.close_code: str | None = None
        self.messages_in = self.messages_out = 0

    async def receive(self) -> Message:
        """The server's `receive`, watched for messages and for the close."""
        message = await self._receive()
        try:
            kind = message["type"]
            if kind == "websocket.receive":
                self.messages_in += 1
                self.bytes_in += _size(message)
                self._show(message, self.hooks.message)
            elif kind == "websocket.disconnect" and self.ended_at is None and not self._finishing:
                self._closed_by_client(message.get("code"))
        except Exception as error:  # noqa: BLE001 - a malformed message is between server and application
            report("WebSocketExchange.receive", error)
        return message

    async def send(self, message: Message) -> None:
        """The server's `send`, watched: a message counts when the server has accepted it."""
        kind = None
        last = False
        try:
            kind = message["type"]
            if kind in _OPENING:
                message = self._open_response(message)
            else:
                last = self._is_last(kind, message)
                self._finishing |= last
        except Exception as error:  # noqa: BLE001 - a malformed message is between server and application
            report("WebSocketExchange.send", error)
        handed_over_at = perf_counter()
        try:
            await self._send(message)
        except BaseException as error:
            self._finishing ^= last
            if isinstance(error, OSError):  # ASGI 2.4: this is how `send` says that the client is gone
                self._client_left()
            raise
        if self.ended_at is None:
            self._accepted(kind, message, handed_over_at)
            if last:
                self._finish()

    def _is_last(self, kind: str, message: Message) -> bool:
        if kind == "websocket.http.response.body":
            return self._refused and not message.get("more_body", False)
        return kind == "websocket.close"

    def _accepted(self, kind: str | None, message: Message, handed_over_at: float) -> None:
        try:
            if kind == "websocket.send":
                self.messages_out += 1
                self.bytes_out += _size(message)
                self._show(message, self.hooks.message)
            elif kind == "websocket.http.response.body":
                self.bytes_out += len(message.get("body", b""))
            elif kind == "websocket.accept":
                self.accepted = True
                self._started(SWITCHING_PROTOCOLS, handed_over_at)
                self._show(message, self.hooks.message)
            elif kind == "websocket.http.response.start":
                self._refused = True
                self._started(int(message["status"]), handed_over_at)
            elif kind == "websocket.close":
                self._closed_by_application(message, handed_over_at)
        except Exception as error:  # noqa: BLE001 - as above
            report("WebSocketExchange.send", error)

    def _started(self, status: int, handed_over_at: float) -> None:
        self.status = status
        self.first_byte_at = handed_over_at

    def _closed_by_application(self, message: Message, handed_over_at: float) -> None:
        if self.accepted:
            code = message.get("code")
            self._closed_with = NORMAL_CLOSURE if code is None else code
        else:
            self._refused = True
            self._started(FORBIDDEN, handed_over_at)

    def _closed_by_client(self, code: int | None) -> None:
        self._closed_with = NO_STATUS if code is None else code
        if code == NO_CLOSE_FRAME or not self.accepted:
            self._client_left()
        self._finish()

    def _finish(self) -> None:
        self.ended_at = perf_counter()
        failed = self._closed_with == INTERNAL_ERROR if self.accepted else (self.status or 0) >= 500
        if not (failed and self._finishing):  # a failure of the application: an exception may yet explain it
            self._end(None)

    def _judge(self, complete: bool) -> None:  # noqa: FBT001 - as in the base
        super()._judge(complete)
        assert self.outcome is not None  # noqa: S101 - for the type checker: the line above sets it
        self.close_code = close_code_of(
            seen=self._closed_with, accepted=self.accepted, refused=self._refused, outcome=self.outcome
        )


def _size(message: Message) -> int:
    data = message.get("bytes")
    if data is not None:
        return len(data)
    text = message.get("text") or ""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
