"""A SQLAlchemy engine on SQLite or PostgreSQL, observed by asgi_obs."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import DateTime, Dialect, MetaData, TypeDecorator, event, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from asgi_obs.integrations.sqlalchemy import instrument_sqlalchemy

POSTGRESQL = {
    "connect_args": {"timeout": 3.0, "command_timeout": 5.0},
    "pool_timeout": 5.0,
}
"""Seconds to connect, to wait for an answer, and for a free connection: no request hangs with its database."""


def connect(url: str) -> AsyncEngine:
    """An engine; it connects when it is used.

    Args:
        url: `sqlite+aiosqlite:///file.db`, or `postgresql://user@host/database`.
    """
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+asyncpg")
    on_postgresql = parsed.get_backend_name() == "postgresql"
    # What users write must not get into the log with the errors.
    engine = create_async_engine(parsed, hide_parameters=True, **(POSTGRESQL if on_postgresql else {}))
    if not on_postgresql:
        event.listen(engine.sync_engine, "connect", _configure)
    return instrument_sqlalchemy(engine)


def _configure(connection: Any, _record: Any) -> None:
    """Readers do not wait for the writer, and foreign keys count."""
    cursor = connection.cursor()
    with suppress(sqlite3.OperationalError):  # locked: somebody else does it at this moment, and for all of us
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


async def create_tables(engine: AsyncEngine, metadata: MetaData) -> None:
    """Create the tables that are not there yet; several processes may do so at the same time."""
    on_sqlite = engine.dialect.name == "sqlite"
    async with engine.begin() as connection:
        await connection.execute(text("BEGIN IMMEDIATE" if on_sqlite else "SELECT pg_advisory_xact_lock(0)"))
        await connection.run_sync(metadata.create_all)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, also on SQLite, which keeps no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """The moment as it was stored."""
        return None if value is None else value.replace(tzinfo=timezone.utc)


def utc_now() -> datetime:
    """This moment, for a column of `UtcDateTime`."""
    return datetime.now(timezone.utc)
