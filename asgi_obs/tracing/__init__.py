"""OpenTelemetry traces: one SERVER span per exchange."""

from asgi_obs.tracing.server import TracingMiddleware

__all__ = ["TracingMiddleware"]
