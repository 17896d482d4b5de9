"""OpenTelemetry traces: one SERVER span per exchange, and context that goes along with work.

`setup_tracing` sends spans to a collector; `TracingMiddleware` makes them; `carry_context`, `inject_context` and
`extract_context` take context to threads and other processes.
"""

from asgi_obs.tracing.propagation import carry_context, extract_context, inject_context
from asgi_obs.tracing.server import TracingMiddleware
from asgi_obs.tracing.setup import setup_tracing

__all__ = ["TracingMiddleware", "carry_context", "extract_context", "inject_context", "setup_tracing"]
