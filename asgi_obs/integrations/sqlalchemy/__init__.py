"""SQLAlchemy: metrics, log lines and spans of an engine's statements, and the state of its pool.

`instrument_sqlalchemy(engine)` is all there is to call. It puts listeners on one engine and goes with it. What is
counted, and what it costs, is said in `queries` and `pools`; the log lines in `log`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, TypeVar

from opentelemetry import trace
from prometheus_client import REGISTRY, CollectorRegistry

from asgi_obs.engines import engine_of, root_engine
from asgi_obs.errors import ConfigurationError, MissingExtraError
from asgi_obs.settings import Settings
from asgi_obs.tracing.databases import trace_single_engine

_NAME: Final = "asgi_obs.integrations.sqlalchemy"

try:
    from asgi_obs.integrations.sqlalchemy.log import QueryLog
    from asgi_obs.integrations.sqlalchemy.pools import watch_pool
    from asgi_obs.integrations.sqlalchemy.queries import Queries
except ImportError as error:
    raise MissingExtraError(_NAME, "sqlalchemy") from error

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

__all__ = ["instrument_sqlalchemy", "uninstrument_sqlalchemy"]

_KEY: Final = "_asgi_obs"
"""The attribute of an engine that holds what `uninstrument_sqlalchemy` takes back: it goes with the engine."""

_changes: Final = RLock()
"""One thread at a time puts something on an engine, or takes it back."""

_AnyEngine = TypeVar("_AnyEngine")

_log = logging.getLogger("asgi_obs")


@dataclass(frozen=True)
class _Options:
    registry: CollectorRegistry = REGISTRY
    slow_seconds: float = 0.5
    max_repeats: int = 10
    enable_commenter: bool = True
    tracer_provider: trace.TracerProvider | None = None
    settings: Settings | None = None


def instrument_sqlalchemy(
    engine: _AnyEngine,
    *,
    registry: CollectorRegistry = REGISTRY,
    slow_seconds: float = 0.5,
    max_repeats: int = 10,
    enable_commenter: bool = True,
    tracer_provider: trace.TracerProvider | None = None,
    settings: Settings | None = None,
) -> _AnyEngine:
    """Observe the statements and the pool of an engine; once, however often it is asked for.

    Statements get spans if tracing is set up by then: call it after `setup_tracing`. Call it at start-up, before the
    engine is used: SQLAlchemy does not allow listeners to come or go while it calls them.

    Args:
        engine: An `Engine` or `AsyncEngine` of SQLAlchemy 2. Those that its `execution_options()` makes share its
            listeners and its pool, and so what is seen of them.
        registry: Where the metrics are scraped; default the one of `prometheus_client`.
        slow_seconds: A statement that takes so many seconds or more is logged at WARN; 0 for none.
        max_repeats: How many times one request may execute the same statement before it is logged at WARN; 0 for
            any number.
        enable_commenter: Whether a statement of a recorded trace goes to the database with a comment that names it;
            False holds for the spans of others, such as those of `setup_tracing(db_engine=...)`, too.
        tracer_provider: Makes the spans, those of others too; None is OpenTelemetry's global provider, if it is set.
        settings: Say what is logged and redacted, in place of the environment.

    Returns:
        The same engine.

    Raises:
        ConfigurationError: It is no engine, or an option has a wrong value.
    """
    options = _Options(registry, slow_seconds, max_repeats, enable_commenter, tracer_provider, settings)
    target = _target(engine, "instrument_sqlalchemy")
    observer = _Observer(target, options)
    with _changes:
        present = vars(target).get(_KEY)
        if present is None:
            observer.start()
    if present is not None and options not in (present.options, _Options()):
        _log.warning("This engine is instrumented already, and its options stay: %r", target)
    return engine


def uninstrument_sqlalchemy(engine: Any) -> None:
    """Take back all that `instrument_sqlalchemy` has done to an engine; nothing if it has not.

    Call it while nobody uses the engine: SQLAlchemy does not allow listeners to come or go while it calls them.

    Raises:
        ConfigurationError: It is no engine.
    """
    attributes = vars(_target(engine, "uninstrument_sqlalchemy"))
    with _changes:
        observer = attributes.get(_KEY)
        if observer is not None:
            observer.stop()


class _Observer:
    """All that is put on one engine."""

    def __init__(self, engine: Engine, options: _Options) -> None:
        if not isinstance(options.enable_commenter, bool):
            raise ConfigurationError("enable_commenter", options.enable_commenter, "True or False")
        provider = options.tracer_provider
        if provider is not None and not isinstance(provider, trace.TracerProvider):
            raise ConfigurationError("tracer_provider", provider, "None, or an OpenTelemetry TracerProvider")
        self.options = options
        self._engine = engine
        log = QueryLog(
            slow_seconds=options.slow_seconds, settings=options.settings, hide_parameters=engine.hide_parameters
        )
        self._queries = Queries(options.registry, log, max_repeats=options.max_repeats)

    def start(self) -> None:
        """Put it in place; if something is wrong, nothing of it."""
        with ExitStack() as undo:
            vars(self._engine)[_KEY] = self
            undo.callback(vars(self._engine).pop, _KEY)
            undo.callback(self._queries.watch(self._engine))
            undo.callback(self._watch_pool())
            undo.callback(self._trace())
            self._undo = undo.pop_all()

    def stop(self) -> None:
        """Take it back."""
        self._undo.close()

    def _watch_pool(self) -> Callable[[], None]:
        attributes = vars(self._engine)
        had_events = "_has_events" in attributes
        stop = watch_pool(self._engine, self.options.registry)
        if not had_events:
            # Who listens to an engine's disposal has SQLAlchemy call the events of all its statements, which nobody
            # listens to, and which take 3 µs.
            attributes.pop("_has_events", None)
        return stop

    def _trace(self) -> Callable[[], None]:
        options = self.options
        try:
            return trace_single_engine(self._engine, options.tracer_provider, enable_commenter=options.enable_commenter)
        except ImportError:
            _log.info("Statements have no spans without opentelemetry-instrumentation-sqlalchemy")
            return _nothing


def _nothing() -> None:
    """There are no spans of statements."""


def _target(engine: Any, feature: str) -> Engine:
    return root_engine(engine_of(engine, option="engine", feature=feature))
