"""The HTTP exchange: which messages count for status, first byte, end and bytes.

ASGI's HTTP message format and its extensions (path send, zero-copy send, trailers, early hints, server push):
https://asgi.readthedocs.io/en/latest/specs/www.html and https://asgi.readthedocs.io/en/latest/extensions.html.
A message that does not belong there goes through untouched; what the server makes of it is the server's answer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from time import perf_counter
from typing import Final

from asgi_obs.errors import report
from asgi_obs.exchange.base import Exchange
from asgi_obs.types import Message

__all__ = ["HttpExchange"]

_BODY: Final = "http.response.body"

# Message type -> the flag that says another one of its kind follows. A path send carries none: it is the last.
_MORE: Final = {
    _BODY: "more_body",
    "http.response.pathsend": "more_body",
    "http.response.zerocopysend": "more_body",
    "http.response.trailers": "more_trailers",
}


class HttpExchange(Exchange):
    """One HTTP request and its response."""

    __slots__ = ("_event_stream", "_response_headers", "_trailers")

    _event_stream: bool | None
    _response_headers: Iterable[tuple[bytes, bytes]]
    _trailers: bool

    @property
    def event_stream(self) -> bool:
        """Whether the response is a stream of server-sent events."""
        if self.first_byte_at is None:
            return False
        if self._event_stream is None:
            self._event_stream = _is_event_stream(self._response_headers)
        return self._event_stream

    async def receive(self) -> Message:
        """The server's `receive`, watched for body bytes and for a client that leaves."""
        message = await self._receive()
        try:
            kind = message["type"]
            if kind == "http.request":
                self.bytes_in += len(message.get("body", b""))
                if self.hooks.body:
                    self._show(message, self.hooks.body)
            elif kind == "http.disconnect" and not self._finishing:
                self._client_left()
        except Exception as error:  # noqa: BLE001 - a malformed message is between server and application
            report("HttpExchange.receive", error)
        return message

    async def send(self, message: Message) -> None:
        """The server's `send`, watched: a message counts when the server has accepted it."""
        more = handed_over_at = None
        size = 0
        last = False
        try:
            kind = message["type"]
            if kind == "http.response.start":
                if not isinstance(message.get("headers", ()), (list, tuple)):
                    # An iterator can be read but once, and that is for the server to do.
                    message = {**message, "headers": list(message["headers"])}
                if self.hooks.response_start:
                    message = self._open_response(message)
                handed_over_at = perf_counter()
            elif kind in _MORE and self.status is not None:
                more = bool(message.get(_MORE[kind], False))
                last = not more and self._trailers is (kind == "http.response.trailers")
                self._finishing |= last
                size = len(message.get("body", b"")) if kind == _BODY else _file_size(kind, message)
        except Exception as error:  # noqa: BLE001 - as above
            report("HttpExchange.send", error)
        try:
            await self._send(message)
        except BaseException as error:
            self._finishing ^= last
            if isinstance(error, OSError):  # ASGI 2.4: this is how `send` says that the client is gone
                self._client_left()
            raise
        try:
            if more is not None:
                if self.ended_at is None:
                    self._sent(message, size, last)
            elif handed_over_at is not None:
                self._started(message, handed_over_at)
        except Exception as error:  # noqa: BLE001 - as above
            report("HttpExchange.send", error)

    def _started(self, message: Message, handed_over_at: float) -> None:
        status = int(message["status"])
        # An informational response (103 as a start message) announces the real one; 101 is a final answer.
        if self.status is None and (status >= 200 or status == 101):
            self.status = status
            self.first_byte_at = handed_over_at
            self._trailers = bool(message.get("trailers", False))
            self._response_headers = message.get("headers", ())
            self._event_stream = None
            if self.hooks.message and self.event_stream:
                self._show(message, self.hooks.message)

    def _sent(self, message: Message, size: int, last: bool) -> None:  # noqa: FBT001 - as Exchange._judge
        if self.method != "HEAD":
            self.bytes_out += size
            if self.hooks.body and message["type"] == _BODY:
                self._show(message, self.hooks.body)
        if self.hooks.message and self.event_stream:
            self._show(message, self.hooks.message)
        if last:
            self.ended_at = perf_counter()
            if self.status is not None and self.status < 500:  # a 5xx: an exception may yet explain it
                self._end(None)


def _is_event_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    for name, value in headers:
        if len(name) == 12 and name.lower() == b"content-type":
            return value[:17].lower() == b"text/event-stream"
    return False


def _file_size(kind: str, message: Message) -> int:
    if kind == "http.response.pathsend":
        return os.stat(message["path"]).st_size  # noqa: PTH116 - one system call; a Path would be built for it
    if kind == "http.response.zerocopysend":
        count: int | None = message.get("count")
        if count is None:  # all that is left of the file
            descriptor = message["file"].fileno()
            offset = message.get("offset")
            return os.fstat(descriptor).st_size - (os.lseek(descriptor, 0, os.SEEK_CUR) if offset is None else offset)
        return count
    return 0
