"""Correlation IDs: one ID for everything that happens because of one request.

`CorrelationIdMiddleware` takes the ID from the request header or makes one, shows it to the application
(`get_correlation_id()`, `request.state.correlation_id`) and to every log record, and echoes it in the response,
also in a 500 made by the framework and in the answer to a WebSocket handshake. It fires when the exchange is
opened and when the response starts, and costs about 2 µs.
"""

from __future__ import annotations

import logging
import os
import re
import time
from typing import Final

from asgi_obs.errors import ConfigurationError, report
from asgi_obs.exchange import Exchange, ExchangeMiddleware, current_exchange
from asgi_obs.types import ASGIApp, IdGenerator, IdValidator, Message, Observer

__all__ = [
    "CorrelationIdMiddleware",
    "get_correlation_id",
    "hex_id",
    "is_valid_correlation_id",
    "ulid",
    "uuid4",
    "uuid7",
]

HEADER: Final = "X-Correlation-ID"

_VALID_ID: Final = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header name: RFC 9110, section 5.6.2."""

_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The hex digit with the two bits of the variant: RFC 9562, section 4.1."""

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""https://github.com/ulid/spec"""

_STOCK: Final = 64
_log = logging.getLogger("asgi_obs")
_hex_ids: list[str] = []
_uuids: list[str] = []
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows cannot fork
    # A child process must not hand out the IDs that its parent has in stock.
    os.register_at_fork(after_in_child=_hex_ids.clear)
    os.register_at_fork(after_in_child=_uuids.clear)


def get_correlation_id() -> str | None:
    """The correlation ID of the exchange this code runs in; None outside of one.

    Works in handlers, dependencies, thread pools, background tasks and exception handlers.
    """
    exchange = current_exchange()
    return None if exchange is None else exchange.correlation_id


def hex_id() -> str:
    """32 random hex digits: `9f86d081884c7d659a2feaa0c55ad015`."""
    try:
        return _hex_ids.pop()
    except IndexError:
        return _take_one(_random_hex(), _hex_ids)


def uuid4() -> str:
    """A random UUID (RFC 9562, section 5.4): `550e8400-e29b-41d4-a716-446655440000`."""
    try:
        return _uuids.pop()
    except IndexError:
        fresh = [f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:]}" for h in _random_hex()]
        return _take_one(fresh, _uuids)


def _random_hex() -> list[str]:
    # One system call for many IDs: a call for each would cost more than all the rest of the middleware.
    digits = os.urandom(16 * _STOCK).hex()
    return [digits[i : i + 32] for i in range(0, len(digits), 32)]


def _take_one(fresh: list[str], stock: list[str]) -> str:
    """One of the fresh IDs for the caller, which no other thread can take; the rest for the stock."""
    own = fresh.pop()
    stock.extend(fresh)
    return own


def uuid7() -> str:
    """A UUID that sorts by time, in milliseconds (RFC 9562, section 5.7)."""
    h = hex_id()
    t = f"{time.time_ns() // 1_000_000:012x}"
    return f"{t[:8]}-{t[8:]}-7{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:]}"


def ulid() -> str:
    """26 characters that sort by time, in milliseconds: `01ARZ3NDEKTSV4RRFFQ69G5FAV`."""
    number = (time.time_ns() // 1_000_000 << 80) | int(hex_id()[:20], 16)
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def is_valid_correlation_id(value: str) -> bool:
    """The default validator: 1 to 128 characters of `A-Za-z0-9._~:/+=@-`."""
    return _VALID_ID.fullmatch(value) is not None


_OWN_GENERATORS: Final = (uuid4, uuid7, ulid, hex_id)


def _checked(generator: IdGenerator) -> IdGenerator:
    """A generator of somebody else, whose IDs become header values and parts of log lines only if they can."""

    def generate() -> str:
        correlation_id = generator()
        is_text = isinstance(correlation_id, str) and correlation_id
        if not (is_text and correlation_id.isascii() and correlation_id.isprintable()):
            raise ConfigurationError("generator", correlation_id, "a function that returns printable ASCII")
        return correlation_id

    return generate


class CorrelationIdMiddleware(ExchangeMiddleware, Observer):
    """Gives every exchange a correlation ID.

    The ID is stored in `scope["state"]["correlation_id"]` and on the exchange, and replaces any value of the
    response header. A WebSocket that is refused by a bare `websocket.close` gets none: ASGI has no headers there.

    Args:
        app: The ASGI application to wrap.
        header: The header to read and to write.
        generator: Makes an ID where the request has none, or none that is valid: `uuid4` (default), `uuid7`,
            `ulid`, `hex_id`, or your own. Where that fails, or returns what is not printable ASCII, `uuid4` does.
        validator: Says which inbound IDs to keep; one that is not printable never is. Of several header lines
            the first valid one counts; a rejected value is never logged. A validator that raises rejects.
        request_header: Write the ID into the request's headers too, for applications that read it there.

    Raises:
        ConfigurationError: `header` is not a header name, or `generator` or `validator` cannot be called.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        header: str = HEADER,
        generator: IdGenerator = uuid4,
        validator: IdValidator = is_valid_correlation_id,
        request_header: bool = False,
    ) -> None:
        if not isinstance(header, str) or _TOKEN.fullmatch(header) is None:
            raise ConfigurationError("header", header, "a header name, such as X-Correlation-ID")
        if not callable(generator):
            raise ConfigurationError("generator", generator, "a callable without arguments that returns an ID")
        if not callable(validator):
            raise ConfigurationError("validator", validator, "a callable that takes an ID and returns a bool")
        self._key = header.lower().encode("ascii")
        self._generator = generator if generator in _OWN_GENERATORS else _checked(generator)
        self._validator = validator
        self._request_header = request_header
        super().__init__(app, observers=(self,))

    def on_start(self, exchange: Exchange) -> None:
        """Take or make the ID, and show it to the application."""
        correlation_id = self._inbound(exchange) if self._key in exchange.headers else None
        if correlation_id is None:
            try:
                correlation_id = self._generator()
            except Exception as error:  # noqa: BLE001 - fail open: a request without an ID would be worse
                report("CorrelationIdMiddleware.generator", error)
                correlation_id = uuid4()
        exchange.correlation_id = correlation_id
        scope = exchange.inner_scope
        scope.setdefault("state", {})["correlation_id"] = correlation_id
        if self._request_header:
            others = [item for item in scope["headers"] if item[0] != self._key]
            scope["headers"] = [*others, (self._key, correlation_id.encode("latin-1"))]

    def on_response_start(self, exchange: Exchange, message: Message) -> None:
        """Write the ID into the response's headers, in place of any that is there."""
        if exchange.correlation_id is not None:
            key = self._key
            headers = [item for item in message.get("headers", ()) if item[0].lower() != key]
            headers.append((key, exchange.correlation_id.encode("latin-1")))
            message["headers"] = headers

    def _inbound(self, exchange: Exchange) -> str | None:
        for name, value in exchange.scope["headers"]:
            if name == self._key:
                text: str = value.decode("latin-1")
                try:
                    if self._validator(text) and text.isprintable():
                        return text
                except Exception as error:  # noqa: BLE001 - fail open: what cannot be judged is not kept
                    report("CorrelationIdMiddleware.validator", error)
        _log.debug("inbound correlation ID rejected: %d bytes", len(exchange.headers[self._key]))
        return None
