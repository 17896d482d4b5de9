"""The application that is measured, and who is put around it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from asgi_correlation_id import CorrelationIdMiddleware as PeerCorrelationIdMiddleware
from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator import Instrumentator
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette_exporter import PrometheusMiddleware
from starlette_exporter.optional_metrics import all_metrics

from asgi_obs import (
    CorrelationIdMiddleware,
    MetricsMiddleware,
    RequestLoggingMiddleware,
    Settings,
    StructuredLogFormatter,
)
from asgi_obs.logs.setup import StdoutHandler

ROUTES = 20


async def _endpoint(request: Request) -> JSONResponse:
    return JSONResponse({"id": request.path_params["item_id"]})


def starlette_app() -> Starlette:
    """Twenty parametrised routes; the one that is asked for stands in the middle."""
    return Starlette(routes=[Route(f"/resource{i}/{{item_id}}", _endpoint) for i in range(ROUTES)])


def _with(middleware: type, **options: Any) -> Starlette:
    app = starlette_app()
    app.add_middleware(middleware, **options)
    return app


def _instrumentator() -> Starlette:
    """With the one of our figures that it has and leaves out by default: requests in progress."""
    app = starlette_app()
    Instrumentator(registry=CollectorRegistry(), should_instrument_requests_inprogress=True).instrument(app)
    return app


def _starlette_exporter() -> Starlette:
    """Likewise, with body sizes."""
    return _with(PrometheusMiddleware, app_name="bench", group_paths=True, optional_metrics=all_metrics)


def json_log() -> str:
    """A logger of its own with the handler and formatter of `setup_logging`; returns its name."""
    handler = StdoutHandler()
    handler.setFormatter(StructuredLogFormatter("bench", settings=Settings(environment="production")))
    logger = logging.getLogger("bench.request")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO)
    return logger.name


def _id_metrics_log() -> Starlette:
    app = starlette_app()
    app.add_middleware(RequestLoggingMiddleware, logger=json_log())
    app.add_middleware(MetricsMiddleware, registry=CollectorRegistry())
    app.add_middleware(CorrelationIdMiddleware)
    return app


CONTENDERS: dict[str, Callable[[], Starlette]] = {
    "asgi_obs id": lambda: _with(CorrelationIdMiddleware),
    "asgi-correlation-id": lambda: _with(PeerCorrelationIdMiddleware),
    "asgi_obs metrics": lambda: _with(MetricsMiddleware, registry=CollectorRegistry()),
    "prometheus-fastapi-instrumentator": _instrumentator,
    "starlette_exporter": _starlette_exporter,
    "asgi_obs log": lambda: _with(RequestLoggingMiddleware, logger=json_log()),
    "asgi_obs id + metrics + log": _id_metrics_log,
}
