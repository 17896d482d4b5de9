"""Which engine of SQLAlchemy is meant: of an async one the one in it, of one with other options its root."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgi_obs.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

__all__ = ["engine_of", "root_engine"]


def engine_of(engine: Any, *, option: str, feature: str) -> Engine:
    """The sync engine of what was given.

    Args:
        engine: An `Engine` or an `AsyncEngine` of SQLAlchemy 2.
        option: The name that it was given under, for the message.
        feature: What it is needed for, likewise.

    Raises:
        MissingExtraError: SQLAlchemy is not installed.
        ConfigurationError: It is no engine.
    """
    try:
        from sqlalchemy.engine import Engine
    except ImportError as error:
        raise MissingExtraError(feature, "sqlalchemy") from error
    sync_engine = getattr(engine, "sync_engine", engine)
    if not isinstance(sync_engine, Engine):
        raise ConfigurationError(option, engine, "an engine of SQLAlchemy, sync or async")
    return sync_engine


def root_engine(engine: Engine) -> Engine:
    """The engine that one with other options was made from by `execution_options()`: they share its listeners."""
    parent = getattr(engine, "_proxied", None)
    return engine if parent is None else root_engine(parent)
