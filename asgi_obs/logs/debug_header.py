"""A header that has one request logged at DEBUG: signed, so that only those who know `OPS_TOKEN` can send it.

    X-Debug-Log: <seconds since 1970 until which it holds>.<HMAC-SHA256 in hexadecimal digits>

What is signed is `asgi_obs debug log v1:` and the seconds as they are sent; the key is the token. In a shell:

    expires=$(($(date +%s) + 600))
    signature=$(printf 'asgi_obs debug log v1:%s' $expires | openssl dgst -sha256 -hmac "$OPS_TOKEN" -r | cut -d' ' -f1)
    curl -H "X-Debug-Log: $expires.$signature" https://shop.example.org/items/3

Looked at when an exchange starts, if there is a token: costs a dictionary look-up. A header that does not hold is
ignored, and nothing says so: anybody could send any number of them.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from typing import Final

from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import Exchange
from asgi_obs.logs.audit import audit_log
from asgi_obs.logs.selected import is_selected, selection
from asgi_obs.types import Clock, Observer

__all__ = ["DEBUG_HEADER", "LONGEST", "DebugHeader", "sign_debug_header"]

DEBUG_HEADER: Final = "X-Debug-Log"

LONGEST: Final = 3600
"""Seconds for which a header may hold: whoever has seen one can send it again."""

_NAME: Final = DEBUG_HEADER.lower().encode("ascii")
_PURPOSE: Final = b"asgi_obs debug log v1:"
_DIGITS: Final = 12
"""Enough for the next 30,000 years; what is longer takes long to be read as a number."""


def sign_debug_header(token: str, expires_at: float) -> str:
    """The value of an `X-Debug-Log` header.

    Args:
        token: The `OPS_TOKEN` of the service.
        expires_at: Until when it holds, in seconds since 1970; at most `LONGEST` ahead.

    Raises:
        ConfigurationError: The token is empty, or `expires_at` is not such a number.
    """
    if not isinstance(token, str) or not token:
        raise ConfigurationError("token", "", "the OPS_TOKEN of the service")
    if isinstance(expires_at, bool) or not isinstance(expires_at, (int, float)) or not 0 < expires_at < 10**_DIGITS:
        raise ConfigurationError("expires_at", expires_at, "seconds since 1970")
    until = str(int(expires_at)).encode("ascii")
    return f"{until.decode('ascii')}.{_signature(token.encode(), until).decode('ascii')}"


class DebugHeader(Observer):
    """Has requests that carry the header logged at DEBUG, from here to the return of the application.

    Tasks and threads that they start with a copy of their context are too, as long. Each such line has
    `debug_request`, and each use is in the audit log.

    Args:
        token: What the header is signed with.
        clock: Tells the time, in seconds since 1970.
    """

    def __init__(self, token: str, clock: Clock = time.time) -> None:
        self._key = token.encode()
        self._clock = clock

    def on_start(self, exchange: Exchange) -> Callable[[], object] | None:
        """Look for the header."""
        value = exchange.headers.get(_NAME)
        if value is None or not self._holds(value) or is_selected(exchange):
            return None
        exchange.bind(debug_request=True)
        audit_log("debug_log", outcome="success", method=exchange.method, path=exchange.path)
        selection.add(exchange)
        return selection.end

    def _holds(self, value: bytes) -> bool:
        until, _, signature = value.partition(b".")
        if not until.isdigit() or len(until) > _DIGITS:
            return False
        # In constant time, and before the date: whoever cannot sign learns nothing of our clock either.
        is_genuine = hmac.compare_digest(signature, _signature(self._key, until))
        return is_genuine and 0 < int(until) - self._clock() <= LONGEST


def _signature(key: bytes, until: bytes) -> bytes:
    return hmac.new(key, _PURPOSE + until, "sha256").hexdigest().encode("ascii")
