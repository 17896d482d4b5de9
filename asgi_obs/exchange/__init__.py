"""The exchange: one HTTP request and its response, or one WebSocket session, seen from outside the app.

The outermost `ExchangeMiddleware` opens the exchange: it stores it in the scope and wraps `receive` and
`send` once. Those further in join it and wrap nothing.

    on_start ── app ── on_response_start ── … ── last message accepted: on_end ── app returned: on_return
                                                 (after a 5xx, on_end waits for the return)

The clock, status, outcome and byte rules are in `docs/design.md`; the judgement is in `asgi_obs.classify`.
"""

from asgi_obs.exchange.base import Exchange
from asgi_obs.exchange.database import DatabaseUse
from asgi_obs.exchange.http import HttpExchange
from asgi_obs.exchange.middleware import (
    SCOPE_KEY,
    ExchangeMiddleware,
    current_exchange,
    failed_exchange,
    running_exchange,
    within_exchange,
)
from asgi_obs.exchange.websocket import WebSocketExchange

__all__ = [
    "SCOPE_KEY",
    "DatabaseUse",
    "Exchange",
    "ExchangeMiddleware",
    "HttpExchange",
    "WebSocketExchange",
    "current_exchange",
    "failed_exchange",
    "running_exchange",
    "within_exchange",
]
