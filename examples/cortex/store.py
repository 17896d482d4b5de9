"""Workspaces, conversations and messages in SQLite, through SQLAlchemy's asyncio engine."""

from __future__ import annotations

import uuid
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import ForeignKey, event, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


def _new_id() -> str:
    return uuid.uuid4().hex


def _now() -> datetime:
    return datetime.now(timezone.utc)


class Base(DeclarativeBase):
    pass


class Workspace(Base):
    __tablename__ = "workspaces"

    id: Mapped[str] = mapped_column(primary_key=True, default=_new_id)
    owner: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]


class Conversation(Base):
    __tablename__ = "conversations"

    id: Mapped[str] = mapped_column(primary_key=True, default=_new_id)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"), index=True)
    title: Mapped[str]
    summary: Mapped[str | None] = mapped_column(default=None)


class Message(Base):
    __tablename__ = "messages"

    id: Mapped[str] = mapped_column(primary_key=True, default=_new_id)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id"), index=True)
    author: Mapped[str]
    text: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=_now)


class Store:
    """The database.

    Args:
        url: A SQLAlchemy URL with an asyncio driver, such as `sqlite+aiosqlite:////tmp/cortex.db`.
    """

    def __init__(self, url: str) -> None:
        # What users write must not get into the log with the statements.
        self._engine = create_async_engine(url, hide_parameters=True)
        event.listen(self._engine.sync_engine, "connect", _configure)
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)

    async def open(self) -> None:
        """Create the tables that are not there yet."""
        async with self._engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)

    async def close(self) -> None:
        await self._engine.dispose()

    def session(self) -> AsyncSession:
        """A new session, for one request or one background task: `async with store.session() as session`."""
        return self._sessions()

    async def ping(self) -> None:
        """Raise unless the database answers."""
        async with self._engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def sizes(self) -> dict[str, int]:
        """The number of rows in every table."""
        async with self.session() as session:
            return {
                table.name: await session.scalar(select(func.count()).select_from(table)) or 0
                for table in Base.metadata.sorted_tables
            }


def _configure(connection: Any, _record: Any) -> None:
    """Readers do not wait for the writer, and foreign keys count."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
