"""The middleware that opens an exchange, or joins the one that is open.

Every asgi_obs middleware is one of these whose observer is itself. Fires for `http` and `websocket` scopes, and tells
observers that want to know of the end of a `lifespan`; anything else passes through. The outermost costs one object and
two bound methods per request; one that joins costs a dictionary look-up and a call; one that stands directly inside
another is fused with it when the stack is built and costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any, Final

from asgi_obs.errors import ConfigurationError, report_call
from asgi_obs.exchange.base import Exchange
from asgi_obs.exchange.hooks import Hooks
from asgi_obs.exchange.http import HttpExchange
from asgi_obs.exchange.websocket import WebSocketExchange
from asgi_obs.routes import Routes
from asgi_obs.types import ASGIApp, Message, Observer, Receive, RouteResolver, Scope, Send

__all__ = [
    "SCOPE_KEY",
    "ExchangeMiddleware",
    "current_exchange",
    "failed_exchange",
    "running_exchange",
    "within_exchange",
]

SCOPE_KEY: Final = "asgi_obs.exchange"
"""Where the scope of a request holds its exchange while the application runs."""

_LAST_WORDS: Final = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})

_log = logging.getLogger("asgi_obs")
_current: ContextVar[Exchange | None] = ContextVar("asgi_obs.exchange", default=None)
_said_twice: set[type] = set()


def current_exchange() -> Exchange | None:
    """The exchange this code runs in; None outside of one.

    Reaches handlers, dependencies, thread pools, background tasks and the tasks these start.
    """
    return _current.get()


@contextmanager
def within_exchange(exchange: Exchange | None) -> Iterator[None]:
    """Make an exchange the current one, where work for it runs in the context of another."""
    token = _current.set(exchange)
    try:
        yield
    finally:
        _current.reset(token)


def failed_exchange(error: BaseException | None) -> Exchange | None:
    """The exchange that `error` came out of, for whoever handles it behind the exchange: the server's log."""
    traceback = None if error is None else error.__traceback__
    while traceback is not None:
        if _opens_exchange(traceback.tb_frame):
            return _opened_by(traceback.tb_frame)
        traceback = traceback.tb_next
    return None


def running_exchange(frame: FrameType | None) -> Exchange | None:
    """The exchange that a thread is busy with whose innermost frame this is, for whoever looks from another thread."""
    while frame is not None:
        if _opens_exchange(frame):
            return _opened_by(frame)
        frame = frame.f_back
    return None


def _opens_exchange(frame: FrameType) -> bool:
    return frame.f_code is ExchangeMiddleware.__call__.__code__


def _opened_by(frame: FrameType) -> Exchange | None:
    exchange: Exchange | None = frame.f_locals.get("exchange")
    return exchange


class ExchangeMiddleware:
    """Shows every exchange to its observers.

    Args:
        app: The ASGI application to wrap.
        observers: Who is told, from the outermost to the innermost.
        route_resolver: Asked first for the route template of a request, before the built-in resolvers. Of
            several middlewares' resolvers the outermost is asked.

    Raises:
        ConfigurationError: `app` or `route_resolver` cannot be called.
    """

    def __init__(
        self, app: ASGIApp, *, observers: Sequence[Observer] = (), route_resolver: RouteResolver | None = None
    ) -> None:
        if not callable(app):
            raise ConfigurationError("app", app, "an ASGI application")
        if route_resolver is not None and not callable(route_resolver):
            raise ConfigurationError("route_resolver", route_resolver, "a callable that takes a scope")
        self.app = app
        self.route_resolver = route_resolver
        self._inner = app
        observers = tuple(observers)
        if isinstance(app, ExchangeMiddleware) and type(app).__call__ is ExchangeMiddleware.__call__:
            self._inner = app._inner
            self.route_resolver = route_resolver or app.route_resolver
            observers += _newcomers(app.hooks.observers, observers)
        self.hooks: Hooks = Hooks(observers)
        self._routes = Routes(app, self.route_resolver)
        self._join_plan: tuple[Hooks, Hooks, Hooks] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Open or join the exchange of this scope, and run the application in it."""
        exchange = scope.get(SCOPE_KEY)
        if exchange is not None:
            return await self._join(exchange, scope, receive, send)
        kind = scope["type"]
        if kind == "http":
            exchange = HttpExchange(scope, receive, send, self.hooks, self._routes)
        elif kind == "websocket":
            exchange = WebSocketExchange(scope, receive, send, self.hooks, self._routes)
        else:
            if kind == "lifespan" and self.hooks.shutdown:
                send = _shutting_down(send, self.hooks.shutdown)
            return await self._inner(scope, receive, send)
        scope[SCOPE_KEY] = exchange
        token = _current.set(exchange)
        undo = exchange.start(self.hooks)
        try:
            result = await self._inner(scope, exchange.receive, exchange.send)
        except BaseException as error:
            exchange.returned(error)
            # Its traceback holds the frames of the application, and these our `send`: without this only the
            # garbage collector could free them all.
            exchange.exception = exchange.late_exception = None
            raise
        else:
            exchange.returned(None)
            return result
        finally:
            if undo is not None:
                _restore(undo)
            try:  # noqa: SIM105 - `suppress` would cost every request more than the reset itself
                _current.reset(token)
            except ValueError:  # closed by the garbage collector, in a context that never was this one
                pass
            # Scope and exchange hold each other: without this only the garbage collector could free them.
            scope.pop(SCOPE_KEY, None)
            if exchange.inner_scope is not scope:
                exchange.inner_scope.pop(SCOPE_KEY, None)

    async def _join(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> Any:
        newcomers, joined = self._plan_join(exchange.hooks)
        exchange.inner_scope = scope
        if self.route_resolver is not None:
            exchange.use_routes(self._routes)
        exchange.hooks = joined
        undo = exchange.start(newcomers)
        try:
            return await self._inner(scope, receive, send)
        finally:
            if undo is not None:
                _restore(undo)

    def _plan_join(self, present: Hooks) -> tuple[Hooks, Hooks]:
        """Our hooks that are not there yet, and all together: the same for every request of a stack."""
        plan = self._join_plan
        if plan is None or plan[0] is not present:
            newcomers = Hooks(_newcomers(self.hooks.observers, present.observers))
            plan = self._join_plan = (present, newcomers, Hooks(present.observers + newcomers.observers))
        return plan[1], plan[2]


def _shutting_down(send: Send, hooks: Sequence[Callable[[], Awaitable[object]]]) -> Send:
    """The `send` of a lifespan, which calls some hooks before it says that the application has shut down."""

    async def send_after_hooks(message: Message) -> None:
        if message["type"] in _LAST_WORDS:
            for hook in hooks:
                try:
                    await hook()
                except Exception as error:  # noqa: BLE001 - fail open: an observer never breaks a shutdown
                    report_call(hook, error)
        await send(message)

    return send_after_hooks


def _restore(undo: list[Callable[[], object]]) -> None:
    while undo:
        restore = undo.pop()
        try:
            restore()
        except Exception as error:  # noqa: BLE001 - fail open: an observer never breaks a request
            report_call(restore, error)


def _newcomers(observers: Sequence[Observer], present: Sequence[Observer]) -> tuple[Observer, ...]:
    """The observers that are not there yet. Of one middleware class, the outermost is enough."""
    kinds = {type(observer) for observer in present if isinstance(observer, ExchangeMiddleware)}
    known = {id(observer) for observer in present}
    newcomers = []
    for observer in observers:
        kind = type(observer)
        if kind not in kinds and id(observer) not in known:
            newcomers.append(observer)
        elif id(observer) not in known and kind not in _said_twice:
            _said_twice.add(kind)
            _log.warning("%s is in the stack twice: the inner one does nothing", kind.__name__)
    return tuple(newcomers)
