"""Everything at once: the recommended order, and the ops paths in front.

From the outside in: correlation ID, trace, metrics, log. The ID is there first, because all others carry it; the
log line is written first when the exchange ends, while the span is still open. Built directly inside one another
the four are fused: one call, one wrapper.
"""

from __future__ import annotations

from typing import Any, TypeVar

from opentelemetry.trace import TracerProvider
from prometheus_client import REGISTRY, CollectorRegistry
from starlette.applications import Starlette

from asgi_obs.correlation import CorrelationIdMiddleware
from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import ExchangeMiddleware
from asgi_obs.health import HealthRegistry
from asgi_obs.logs import RequestLoggingMiddleware
from asgi_obs.metrics import MetricsMiddleware
from asgi_obs.ops import OpsApp, mount_ops
from asgi_obs.ops.auth import Authorize
from asgi_obs.settings import Settings
from asgi_obs.tracing import TracingMiddleware
from asgi_obs.tracing.native import turn_off_tracing
from asgi_obs.types import ASGIApp, RouteResolver

__all__ = ["Observability", "observe"]

_App = TypeVar("_App")


class Observability:
    """The whole stack for one service.

    Args:
        settings: None reads them from the environment.
        registry: Where the metrics live; None is prometheus-client's global registry.
        health: The checks behind `/health` and `/health/ready`; None starts an empty registry.
        tracer_provider: Makes the spans; None is OpenTelemetry's global provider.
        route_resolver: Tells the route templates of a framework that is not known here.
        authorize: A credential of your own for the ops paths; see `OpsApp`.

    Attributes:
        settings: The settings in force.
        registry: The metrics registry.
        health: The health registry; add checks to it at any time.
        ops: The ops application: `/metrics`, `/health`, `/health/ready`, `/health/live` and, with a credential,
            `/info`, `/loggers`, `/tasks`.

    Raises:
        SettingsError: An environment variable has a value that is not allowed.
        ConfigurationError: The registry holds foreign metrics under names of ours.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        registry: CollectorRegistry | None = None,
        health: HealthRegistry | None = None,
        tracer_provider: TracerProvider | None = None,
        route_resolver: RouteResolver | None = None,
        authorize: Authorize | None = None,
    ) -> None:
        self.settings = Settings() if settings is None else settings
        self.registry = REGISTRY if registry is None else registry
        self.health = HealthRegistry() if health is None else health
        self.ops = OpsApp(health=self.health, registry=self.registry, settings=self.settings, authorize=authorize)
        self._tracer_provider = tracer_provider
        self._route_resolver = route_resolver

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """The application observed from outside, with the ops paths in front of its own."""
        ops = mount_ops(app, self.ops)
        stack: ASGIApp = RequestLoggingMiddleware(ops, settings=self.settings)
        stack = MetricsMiddleware(stack, registry=self.registry, unmatched=self.settings.metrics_unmatched)
        stack = TracingMiddleware(stack, tracer_provider=self._tracer_provider, settings=self.settings)
        stack = CorrelationIdMiddleware(stack)
        return ExchangeMiddleware(stack, observers=[ops], route_resolver=self._route_resolver)

    def install(self, app: _App) -> _App:
        """Put the stack around a FastAPI or Starlette application, in place and outermost.

        Outside `ServerErrorMiddleware`, so that the 500 it makes is seen and carries the correlation ID. May be
        called before or after the first request; middlewares added afterwards go inside.

        Returns:
            The same object.

        Raises:
            ConfigurationError: The application is of a kind that has no place for it; use `wrap`.
        """
        if not isinstance(app, Starlette):
            raise ConfigurationError("app", app, "a FastAPI or Starlette application; wrap() takes any ASGI app")
        turn_off_tracing(app)
        build = app.build_middleware_stack
        app.build_middleware_stack = lambda: self.wrap(build())  # type: ignore[method-assign]
        if app.middleware_stack is not None:
            app.middleware_stack = self.wrap(app.middleware_stack)
        return app


def observe(app: ASGIApp, **options: Any) -> ASGIApp:
    """`Observability(**options).wrap(app)`."""
    return Observability(**options).wrap(app)
