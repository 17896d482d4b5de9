"""What a trace adds to a request, and what the whole stack does, against the peers: all in one run."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable

from asgi_correlation_id import CorrelationIdMiddleware as PeerCorrelationIdMiddleware
from asgi_correlation_id import correlation_id
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as ContribMiddleware
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette_exporter import PrometheusMiddleware
from starlette_exporter.optional_metrics import all_metrics

from asgi_obs import (
    CorrelationIdMiddleware,
    MetricsMiddleware,
    RequestLoggingMiddleware,
    TracingMiddleware,
)
from tests.benchmarks.contenders import json_log, starlette_app

__all__ = ["BARS", "CONTENDERS"]

_access = logging.getLogger("benchmark.peers")


def _provider(sampled: bool) -> TracerProvider:
    return TracerProvider(sampler=ParentBased(ALWAYS_ON if sampled else ALWAYS_OFF), shutdown_on_exit=False)


def _ours(sampled: bool) -> Starlette:
    app = starlette_app()
    app.add_middleware(TracingMiddleware, tracer_provider=_provider(sampled))
    return app


def _contrib(sampled: bool) -> Starlette:
    """With the stable conventions (`OTEL_SEMCONV_STABILITY_OPT_IN=http`), as ours."""
    app = starlette_app()
    app.add_middleware(ContribMiddleware, tracer_provider=_provider(sampled), exclude_spans=["send", "receive"])
    return app


def _starlette(sampled: bool) -> Starlette:
    # Imported after ours is built: where it is loaded, ours tells it to stay out, which costs us 2 µs.
    from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as StarletteMiddleware

    app = starlette_app()
    app.add_middleware(StarletteMiddleware, tracer_provider=_provider(sampled))
    return app


class _JsonAccessLog(BaseHTTPMiddleware):
    """As teams write it."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        started = time.perf_counter()
        response = await call_next(request)
        line = {
            "timestamp": time.time(),
            "level": "INFO",
            "service": "benchmark",
            "correlation_id": correlation_id.get(),
            "method": request.method,
            "path": request.url.path,
            "status_code": response.status_code,
            "duration_ms": (time.perf_counter() - started) * 1000,
            "user_agent": request.headers.get("user-agent"),
        }
        _access.info(json.dumps(line))
        return response


def _peers_stacked() -> Starlette:
    _access.setLevel(logging.INFO)
    _access.propagate = False
    app = starlette_app()
    app.add_middleware(_JsonAccessLog)
    app.add_middleware(ContribMiddleware, tracer_provider=_provider(True))
    app.add_middleware(PrometheusMiddleware, app_name="stacked", group_paths=True, optional_metrics=all_metrics)
    app.add_middleware(PeerCorrelationIdMiddleware)
    return app


def _ours_stacked() -> Starlette:
    app = starlette_app()
    app.add_middleware(RequestLoggingMiddleware, logger=json_log())
    app.add_middleware(MetricsMiddleware, registry=CollectorRegistry())
    app.add_middleware(TracingMiddleware, tracer_provider=_provider(True))
    app.add_middleware(CorrelationIdMiddleware)
    return app


CONTENDERS: dict[str, Callable[[], Starlette]] = {
    "asgi_obs trace, sampled": lambda: _ours(True),
    "asgi_obs trace, unsampled": lambda: _ours(False),
    "otel-instrumentation-asgi, sampled": lambda: _contrib(True),
    "otel-instrumentation-asgi, unsampled": lambda: _contrib(False),
    "Starlette's OpenTelemetry, sampled": lambda: _starlette(True),
    "Starlette's OpenTelemetry, unsampled": lambda: _starlette(False),
    "asgi_obs, the whole stack": _ours_stacked,
    "the peers stacked": _peers_stacked,
}

BARS = (
    ("asgi_obs trace, sampled", "otel-instrumentation-asgi, sampled", 0.4),
    ("asgi_obs trace, sampled", "Starlette's OpenTelemetry, sampled", 0.7),
    ("asgi_obs trace, unsampled", "otel-instrumentation-asgi, unsampled", 0.25),
    ("asgi_obs trace, unsampled", "Starlette's OpenTelemetry, unsampled", 0.5),
    ("asgi_obs, the whole stack", "the peers stacked", 0.15),
)
