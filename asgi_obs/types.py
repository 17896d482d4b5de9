"""The ASGI aliases and the Protocols of every extension point.

Whatever a user may plug in has its shape written down here: an observer of exchanges, a route
resolver, an ID generator and its validator, a source of extra metric labels, a clock.

The ASGI terms are those of the specification, https://asgi.readthedocs.io/en/latest/specs/main.html.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from starlette.types import Message, Receive, Scope, Send

if TYPE_CHECKING:
    from asgi_obs.exchange import Exchange

__all__ = [
    "ASGIApp",
    "Clock",
    "IdGenerator",
    "IdValidator",
    "LabelSource",
    "Message",
    "Observer",
    "Receive",
    "RouteResolver",
    "Scope",
    "Send",
]

ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[Any]]
"""An ASGI 3 application. What it returns is passed on to the server untouched."""

Clock: TypeAlias = Callable[[], float]
"""Seconds on a clock that never goes back, such as `time.perf_counter`."""

IdGenerator: TypeAlias = Callable[[], str]
"""Makes a new correlation ID: printable ASCII, safe as a header value."""

IdValidator: TypeAlias = Callable[[str], bool]
"""Says whether an inbound correlation ID (decoded as latin-1) may be used as it is."""

LabelSource: TypeAlias = "Callable[[Exchange], Mapping[str, str]]"
"""Gives the values of the extra metric labels of an exchange that has ended."""


@runtime_checkable
class RouteResolver(Protocol):
    """Tells the route template of a request from its scope."""

    def __call__(self, scope: Scope, /) -> str | None:
        """Return the template (`/items/{item_id}`), or None when this resolver does not know.

        Called after the framework has routed: when the exchange ends, and before that for every
        `Exchange.resolve_route()`. It may raise: there is no template then, and the failure is counted.
        """
        ...


class Observer(Protocol):
    """Sees one exchange after another; subclass it and write the hooks that are needed.

    A hook is called in the middle of a request: it must not block. What it raises is caught, counted in
    `asgi_obs_internal_errors_total{component}` and never reaches the request. An observer serves many
    exchanges at once: what belongs to a request is kept on the exchange (`exchange.bind()`), never on `self`.
    """

    def on_start(self, exchange: Exchange) -> Callable[[], object] | None:
        """Called when the exchange is opened, or joined if the observer sits further in.

        Returns:
            None, or a function that undoes what was done to the context (resets a ContextVar). It is called
            without arguments when the application has returned, in the same task and context; an end hook
            may run in another one, where a token is not valid. It may be called before `on_return` or after.
        """
        return None

    def on_response_start(self, exchange: Exchange, message: Message) -> None:
        """Called before the start of a response is handed to the server.

        Args:
            exchange: The exchange; its `status` is not set yet.
            message: `http.response.start`, `websocket.accept` or `websocket.http.response.start`. It is
                a copy of this exchange's own: headers may be replaced (`message["headers"] = [...]`),
                but the list that was there belongs to the application and must not be changed in place.
        """
        return None

    def on_message(self, exchange: Exchange, message: Message) -> None:
        """Called when a message of a WebSocket or of an event stream has passed.

        These are the accept and every message either way; the start of the response and every chunk.
        """
        return None

    def on_body(self, exchange: Exchange, message: Message) -> None:
        """Called when a piece of the body of an HTTP request or response has passed; not for HEAD's responses.

        Args:
            exchange: The exchange; the bytes of this piece are counted already.
            message: `http.request`, before the application gets it, or `http.response.body`, when the server has
                accepted it. It belongs to them and must not be changed. Files that the server sends itself
                (`http.response.pathsend`, `http.response.zerocopysend`) are not shown.
        """
        return None

    def on_end(self, exchange: Exchange) -> None:
        """Called once, when the exchange has ended: every field of it is final.

        Runs at the moment the server accepted the last message, before any background task; after a
        5xx it runs when the application has returned, so that `exchange.exception` is known. The task may
        be another one than that of `on_start`.
        """
        return None

    def on_return(self, exchange: Exchange) -> None:
        """Called when the application has returned or raised: after the last background task.

        `exchange.late_exception` is what it raised after the exchange had ended.
        """
        return None

    async def on_shutdown(self) -> None:
        """Called when the application has shut down, before the server is told so: at the end of its lifespan.

        The server waits for it: it must be bounded in time. Not called where an application has no lifespan.
        """
        return None
