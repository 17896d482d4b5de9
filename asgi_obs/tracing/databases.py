"""Spans of the statements of a SQLAlchemy engine, by opentelemetry-instrumentation-sqlalchemy.

A statement of a recorded trace gets a comment that names it (https://google.github.io/sqlcommenter/), so that the log
of the database can be followed to the request. Its instrumentor traces all engines that are made from then on, and can
leave none of them alone again: that is for `setup_tracing`, and `trace_single_engine` for one engine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from opentelemetry import metrics, trace

from asgi_obs.engines import engine_of, root_engine
from asgi_obs.errors import MissingExtraError

if TYPE_CHECKING:
    from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
    from sqlalchemy.engine import Engine

__all__ = ["trace_engine", "trace_single_engine", "traceable_engine"]

_FEATURE: Final = "setup_tracing(db_engine=...)"
_CONTRIB: Final = "opentelemetry.instrumentation.sqlalchemy"

_without_comments: Final[WeakSet[Engine]] = WeakSet()
"""Engines whose statements get no comments, whoever comes to trace them."""


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
    if _tracer_of(engine) is None:
        _make_tracer(engine, provider, enable_commenter=engine not in _without_comments)


def trace_single_engine(
    engine: Engine, provider: trace.TracerProvider | None, *, enable_commenter: bool = True
) -> Callable[[], None]:
    """Make spans of its statements. If somebody makes them already, the options are put into force there.

    Args:
        engine: One that `root_engine` returns.
        provider: Makes the tracer; None is the one of whoever traces the engine already, else the global one, if it
            is set.
        enable_commenter: Whether statements of recorded traces get the comment; comments that somebody has left off
            stay off. False holds for `trace_engine` too, which may come later.

    Returns:
        What takes back what was put in place; to be called once.

    Raises:
        ImportError: The instrumentation is not installed.
    """
    with ExitStack() as undo:
        if not enable_commenter:
            _without_comments.add(engine)
            undo.callback(_without_comments.discard, engine)
        tracer = _tracer_of(engine)
        in_force = provider or trace.get_tracer_provider()
        if tracer is not None:
            undo.callback(_set_options(tracer, provider, enable_commenter=enable_commenter))
        elif not isinstance(in_force, (trace.ProxyTracerProvider, trace.NoOpTracerProvider)):
            _make_tracer(engine, in_force, enable_commenter=enable_commenter)
            undo.callback(_untrace, engine)
        return undo.pop_all().close


def _tracer_of(engine: Engine) -> EngineTracer | None:
    """What makes spans of its statements, whoever has put it there."""
    contrib = sys.modules.get(f"{_CONTRIB}.engine")
    if contrib is None:  # nobody can have put one there
        return None
    owners = (getattr(listener, "__self__", None) for listener in engine.dispatch.before_cursor_execute)
    return next((owner for owner in owners if isinstance(owner, contrib.EngineTracer)), None)


def _make_tracer(engine: Engine, provider: trace.TracerProvider, *, enable_commenter: bool) -> None:
    from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer

    EngineTracer(provider.get_tracer(_CONTRIB), engine, _connections(), enable_commenter=enable_commenter)  # type: ignore[no-untyped-call]


def _set_options(
    tracer: EngineTracer, provider: trace.TracerProvider | None, *, enable_commenter: bool
) -> Callable[[], None]:
    before = {"tracer": tracer.tracer, "enable_commenter": tracer.enable_commenter}
    if provider is not None:
        tracer.tracer = provider.get_tracer(_CONTRIB)
    tracer.enable_commenter = tracer.enable_commenter and enable_commenter
    return lambda: vars(tracer).update(before)


@cache
def _connections() -> metrics.UpDownCounter:
    """Made once: what is asked for before there is a meter provider is kept for ever, to be handed to it."""
    return metrics.get_meter("asgi_obs").create_up_down_counter("db.client.connections.usage", "connections")


def _untrace(engine: Engine) -> None:
    from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
    from sqlalchemy import event

    # The instrumentor itself knows no way but to remove those of all engines.
    registered = EngineTracer._remove_event_listener_params
    for entry in [entry for entry in registered if entry[0]() is engine]:
        registered.remove(entry)
        event.remove(engine, *entry[1:])
