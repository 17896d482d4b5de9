"""Set up tracing: the provider, the way to the collector, and spans of requests and statements.

Called once by the application, at start-up; whoever does not call it has whatever provider somebody else has set.
Nothing of the SDK is imported before it is called.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from prometheus_client import REGISTRY

from asgi_obs.errors import MissingExtraError
from asgi_obs.metrics.catalogue import create
from asgi_obs.settings import Settings
from asgi_obs.tracing.application import require_traceable, trace_requests
from asgi_obs.tracing.databases import trace_engine, traceable_engine
from asgi_obs.tracing.otlp import destinations_of
from asgi_obs.tracing.variables import flag_of, require_span_limits

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

__all__ = ["setup_tracing"]

RELEVANT: Final = ("service_name", "version", "environment", "otlp_endpoint", "otlp_insecure")
"""The settings that make a provider."""

_UNKNOWN: Final = "unknown_service"

_log = logging.getLogger("asgi_obs")


class _InForce:
    """What the last call has found or put in place."""

    provider: trace.TracerProvider | None = None
    relevant: tuple[object, ...] = ()


def setup_tracing(app: Any = None, db_engine: Any = None, *, settings: Settings | None = None) -> trace.Tracer:
    """Send spans to the collector, in batches and in the background.

    Where: to `OTLP_ENDPOINT`, over gRPC or HTTP; OpenTelemetry's own variables win, and `OTEL_SDK_DISABLED` is obeyed.
    A provider that was set before, by the application or an agent, is used as it is. May be called again, for another
    application or engine.

    Args:
        app: A FastAPI or Starlette application whose requests get spans, and which flushes them when it shuts down.
        db_engine: A SQLAlchemy engine, sync or async, whose statements get spans.
        settings: Default: read from the environment.

    Returns:
        A tracer for spans of your own, with the name of the service.

    Raises:
        ConfigurationError: An argument or an environment variable is wrong; the message names what is allowed. Nothing
            has been changed then.
        MissingExtraError: The extra `otel` is not installed; with `db_engine`, or `sqlalchemy`.
    """
    settings = Settings() if settings is None else settings
    traceable = None if app is None else require_traceable(app)
    if flag_of("OTEL_SDK_DISABLED"):
        provider: trace.TracerProvider = trace.NoOpTracerProvider()
    else:
        engine = None if db_engine is None else traceable_engine(db_engine)
        provider = _provider(settings)
        if engine is not None:
            trace_engine(engine, provider)
    if traceable is not None:
        trace_requests(traceable, provider, settings)
    return provider.get_tracer(settings.service_name)


def _provider(settings: Settings) -> trace.TracerProvider:
    """The global provider, set now if it has not been set before."""
    relevant = tuple(getattr(settings, name) for name in RELEVANT)
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        provider = _new_provider(settings)
        trace.set_tracer_provider(provider)
    elif provider is not _InForce.provider:
        _log.info("A tracer provider is set already, and is used as it is: %s", type(provider).__qualname__)
    elif relevant != _InForce.relevant:
        names = ", ".join(Settings.variables()[name] for name in RELEVANT)
        _log.warning("setup_tracing was called before; what it was told then of %s stays in force", names)
        return provider
    _InForce.provider, _InForce.relevant = provider, relevant
    return provider


def _new_provider(settings: Settings) -> trace.TracerProvider:
    require_span_limits()
    try:
        from opentelemetry.sdk.trace import TracerProvider

        from asgi_obs.tracing.export import BoundedSpanProcessor
    except ImportError as error:
        raise MissingExtraError("setup_tracing", "otel") from error
    destinations = destinations_of(settings)
    create("trace_spans_dropped_total", REGISTRY)  # to be seen where there is no `Observability`
    processors = [BoundedSpanProcessor(destination.make_exporter, destination.name) for destination in destinations]
    provider = TracerProvider(resource=_resource(settings))  # which shuts itself down at exit
    for processor in processors:
        provider.add_span_processor(processor)
    return provider


def _resource(settings: Settings) -> Resource:
    """Who makes the spans; what OpenTelemetry's variables and detectors say of it wins."""
    from opentelemetry.sdk.resources import Resource

    detected = Resource.create()
    # What the SDK calls a service that has no name: `unknown_service:python`.
    known = {name for name, value in detected.attributes.items() if not str(value).startswith(_UNKNOWN)}
    ours = {
        "service.name": settings.service_name if settings.service_name != _UNKNOWN else "",
        "service.version": settings.version if settings.version != "unknown" else "",
        "deployment.environment.name": settings.environment,
    }
    return detected.merge(Resource({name: value for name, value in ours.items() if value and name not in known}))
