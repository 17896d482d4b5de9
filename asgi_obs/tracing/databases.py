"""Spans of the statements of a SQLAlchemy engine, by opentelemetry-instrumentation-sqlalchemy.

A statement of a recorded trace gets a comment that names it (https://google.github.io/sqlcommenter/), so that the log
of the database can be followed to the request. Its instrumentor traces all engines that are made from then on, and can
leave none of them alone again: that is for `setup_tracing`, and `trace_single_engine` for one engine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics, trace

from asgi_obs.engines import engine_of, root_engine
from asgi_obs.errors import MissingExtraError

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

__all__ = ["trace_engine", "trace_single_engine", "traceable_engine"]

_FEATURE: Final = "setup_tracing(db_engine=...)"
_CONTRIB: Final = "opentelemetry.instrumentation.sqlalchemy"


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
    return root_engine(engine_of(db_engine, option="db_engine", feature=_FEATURE))


def trace_engine(engine: Engine, provider: trace.TracerProvider) -> None:
    """Make spans of its statements, and of those of every engine that is made from now on."""
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

    instrumentor = SQLAlchemyInstrumentor()
    if not instrumentor.is_instrumented_by_opentelemetry:
        # The versions it names are those it was tested with when it was released; it needs nothing but events.
        instrumentor.instrument(enable_commenter=True, tracer_provider=provider, skip_dep_check=True)
    trace_single_engine(engine, provider)


def trace_single_engine(
    engine: Engine, provider: trace.TracerProvider, *, enable_commenter: bool = True
) -> Callable[[], None]:
    """Make spans of its statements, unless there are some already.

    Args:
        engine: One that `root_engine` returns.
        provider: Makes the tracer.
        enable_commenter: Whether statements of recorded traces get the comment.

    Returns:
        What takes back what was put in place.

    Raises:
        ImportError: The instrumentation is not installed.
    """
    from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer

    listeners = engine.dispatch.before_cursor_execute
    if any(isinstance(getattr(listener, "__self__", None), EngineTracer) for listener in listeners):
        return _nothing
    EngineTracer(provider.get_tracer(_CONTRIB), engine, _connections(), enable_commenter=enable_commenter)  # type: ignore[no-untyped-call]
    return lambda: _untrace(engine)


@cache
def _connections() -> metrics.UpDownCounter:
    """Made once: what is asked for before there is a meter provider is kept for ever, to be handed to it."""
    return metrics.get_meter("asgi_obs").create_up_down_counter("db.client.connections.usage", "connections")


def _nothing() -> None:
    """The spans are somebody else's."""


def _untrace(engine: Engine) -> None:
    from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
    from sqlalchemy import event

    # The instrumentor itself knows no way but to remove those of all engines.
    registered = EngineTracer._remove_event_listener_params
    for entry in [entry for entry in registered if entry[0]() is engine]:
        registered.remove(entry)
        event.remove(engine, *entry[1:])
