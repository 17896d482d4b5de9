"""Traced requests of one Starlette or FastAPI application, in place.

The application may be observed as well (`Observability.install`, `wrap`), before or afterwards: whoever stands
outermost makes the span. A request costs what `TracingMiddleware` costs.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import TracerProvider
from starlette.applications import Starlette

from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange.middleware import SCOPE_KEY
from asgi_obs.settings import Settings
from asgi_obs.tracing.native import turn_off_tracing
from asgi_obs.tracing.server import TracingMiddleware
from asgi_obs.types import ASGIApp, Receive, Scope, Send

__all__ = ["RequestTracing", "require_traceable", "trace_requests"]


class RequestTracing:
    """`TracingMiddleware`, where there is none around it yet.

    Args:
        app: The ASGI application to wrap.
        tracer_provider: Makes the spans.
        settings: As `TracingMiddleware` takes them.
    """

    def __init__(self, app: ASGIApp, *, tracer_provider: TracerProvider, settings: Settings) -> None:
        self._app = app
        self._traced = TracingMiddleware(app, tracer_provider=tracer_provider, settings=settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Run the application in a span."""
        exchange = scope.get(SCOPE_KEY)
        if exchange is not None and any(isinstance(other, TracingMiddleware) for other in exchange.hooks.observers):
            return await self._app(scope, receive, send)
        return await self._traced(scope, receive, send)


def require_traceable(app: object) -> Starlette:
    """An application that middlewares can be added to.

    Raises:
        ConfigurationError: It is none.
    """
    if not isinstance(app, Starlette):
        raise ConfigurationError("app", app, "a FastAPI or Starlette application; TracingMiddleware(app) takes any")
    if app.middleware_stack is not None and not _is_traced(app):
        raise ConfigurationError("app", app, "an application that has not started")
    return app


def trace_requests(app: Starlette, provider: TracerProvider, settings: Settings) -> None:
    """Make spans of its requests, unless there are some already."""
    turn_off_tracing(app)
    if not _is_traced(app):
        app.add_middleware(RequestTracing, tracer_provider=provider, settings=settings)


def _is_traced(app: Starlette) -> bool:
    kinds: tuple[object, ...] = (RequestTracing, TracingMiddleware)
    return any(middleware.cls in kinds for middleware in app.user_middleware)
