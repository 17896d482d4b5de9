"""The websocket_* families: sessions that are open, how they ended and how long they took, and their messages.

Part of `MetricsMiddleware`. A session counts as open from its accept on; a message counts when it passes.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from asgi_obs.exchange import Exchange, WebSocketExchange
from asgi_obs.metrics.catalogue import create
from asgi_obs.metrics.labels import EndpointLabel, Family, family
from asgi_obs.types import Message

__all__ = ["WebSocketMetrics", "WebSocketSession"]


class WebSocketMetrics:
    """Moves the websocket_* families.

    Args:
        registry: Where they are scraped.
        endpoint: Makes the endpoint label.
        max_series: The cap on the series of each.
    """

    def __init__(self, registry: CollectorRegistry, *, endpoint: EndpointLabel, max_series: int) -> None:
        self._endpoint = endpoint
        self._active: Gauge = create("websocket_connections_active", registry)
        self._connections: Family[Counter] = family("websocket_connections_total", registry, max_series=max_series)
        self._messages: Family[Counter] = family("websocket_messages_total", registry, max_series=max_series)
        self._duration: Family[Histogram] = family(
            "websocket_session_duration_seconds", registry, max_series=max_series
        )

    def accepted(self) -> WebSocketSession:
        """The application accepts a handshake."""
        self._active.inc()
        return WebSocketSession(self.messages)

    def messages(self, exchange: Exchange, direction: str) -> Callable[[], None]:
        """What counts the messages of a session in one direction; the route is that of this moment."""
        endpoint = self._endpoint(exchange.resolve_route(), exchange)
        return self._messages.child((endpoint, direction)).inc

    def ended(self, exchange: WebSocketExchange, session: WebSocketSession | None) -> None:
        """A session ended, or a handshake was denied: then there is no session."""
        if session is not None:
            self._active.dec()
        if exchange.operational:
            return
        endpoint = self._endpoint(exchange.route, exchange)
        self._connections.child((endpoint, str(exchange.close_code))).inc()
        if session is not None:
            self._duration.child((endpoint,)).observe(exchange.duration)


class WebSocketSession:
    """What is remembered of one session: what counts its messages, looked up at the first in each direction.

    Args:
        messages: Takes the exchange and the direction, and returns what counts.
    """

    __slots__ = ("_messages", "_received", "_sent")

    def __init__(self, messages: Callable[[Exchange, str], Callable[[], None]]) -> None:
        self._messages = messages
        self._received: Callable[[], None] | None = None
        self._sent: Callable[[], None] | None = None

    def message(self, exchange: Exchange, message: Message) -> None:
        """Count a message; by now the session is routed, which it need not be when it is accepted."""
        if message["type"] == "websocket.receive":
            if self._received is None:
                self._received = self._messages(exchange, "in")
            self._received()
        else:
            if self._sent is None:
                self._sent = self._messages(exchange, "out")
            self._sent()
