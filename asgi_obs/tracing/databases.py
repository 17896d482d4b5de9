"""Spans of the statements of a SQLAlchemy engine, by opentelemetry-instrumentation-sqlalchemy.

A statement of a recorded trace gets a comment that names it (https://google.github.io/sqlcommenter/), so that the log
of the database can be followed to the request. The first call has all engines traced that are made from then on: that
is how the instrumentation works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics, trace

from asgi_obs.engines import engine_of
from asgi_obs.errors import MissingExtraError

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

__all__ = ["trace_engine", "traceable_engine"]

_FEATURE: Final = "setup_tracing(db_engine=...)"


def traceable_engine(db_engine: Any) -> Engine:
    """The engine that does the work, if there is what makes spans of its statements.

    Raises:
        MissingExtraError: SQLAlchemy or its instrumentation is not installed.
        ConfigurationError: It is no engine.
    """
    try:
        import opentelemetry.instrumentation.sqlalchemy  # noqa: F401 - here to find out
    except ImportError as error:
        raise MissingExtraError(_FEATURE, "otel,sqlalchemy") from error
    return engine_of(db_engine, option="db_engine", feature=_FEATURE)


def trace_engine(engine: Engine, provider: trace.TracerProvider) -> None:
    """Make spans of its statements, unless there are some already."""
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
    from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer

    listeners = engine.dispatch.before_cursor_execute
    if any(isinstance(getattr(listener, "__self__", None), EngineTracer) for listener in listeners):
        return
    instrumentor = SQLAlchemyInstrumentor()
    if not instrumentor.is_instrumented_by_opentelemetry:
        # The versions it names are those it was tested with when it was released; it needs nothing but events.
        instrumentor.instrument(engine=engine, enable_commenter=True, tracer_provider=provider, skip_dep_check=True)
        return
    # It can be asked once only.
    connections = metrics.get_meter("asgi_obs").create_up_down_counter("db.client.connections.usage", "connections")
    tracer = provider.get_tracer("opentelemetry.instrumentation.sqlalchemy")
    EngineTracer(tracer, engine, connections, enable_commenter=True)  # type: ignore[no-untyped-call]
