"""What is kept: workspaces, conversations, messages, and who logged in when."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar

from sqlalchemy import ForeignKey, delete, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.orm.exc import StaleDataError

from examples.cortex.database import UtcDateTime, create_tables, utc_now

STATUSES = ("active", "archived")


class NotFoundError(Exception):
    """There is no such workspace or conversation, or it is somebody else's."""


class Base(DeclarativeBase):
    type_annotation_map: ClassVar = {datetime: UtcDateTime}

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: uuid.uuid4().hex)


class Workspace(Base):
    __tablename__ = "workspaces"

    owner: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    status: Mapped[str] = mapped_column(default="active")


class Conversation(Base):
    __tablename__ = "conversations"

    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"), index=True)
    title: Mapped[str]
    status: Mapped[str] = mapped_column(default="active")
    summary: Mapped[str | None] = mapped_column(default=None)


class Message(Base):
    __tablename__ = "messages"

    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), index=True)
    author: Mapped[str]
    text: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Login(Base):
    __tablename__ = "logins"

    user: Mapped[str]
    at: Mapped[datetime] = mapped_column(default=utc_now, index=True)


Row = TypeVar("Row", bound=Base)


class Store:
    """The tables, each of its methods one transaction.

    Args:
        engine: The database.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def open(self) -> None:
        """Create the tables that are not there yet."""
        await create_tables(self._engine, Base.metadata)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    async def save(self, row: Row, changes: Mapping[str, Any] | None = None) -> Row:
        """Insert a row, or change one; NotFoundError if somebody has deleted it meanwhile."""
        try:
            async with self._sessions.begin() as session:
                session.add(row)
                for name, value in (changes or {}).items():
                    setattr(row, name, value)
        except StaleDataError as error:
            raise NotFoundError(type(row).__name__.lower()) from error
        return row

    async def delete(self, row: Base) -> None:
        """Delete a row, and all that belongs to it."""
        table = type(row)
        async with self._sessions.begin() as session:
            await session.execute(delete(table).where(table.id == row.id))

    async def workspaces(self, owner: str) -> Sequence[Workspace]:
        """Those of a user."""
        return await self._all(select(Workspace).where(Workspace.owner == owner))

    async def workspace(self, owner: str, workspace_id: str) -> Workspace:
        """One of a user's, or NotFoundError."""
        return await self._one(Workspace, workspace_id, select(Workspace).where(Workspace.owner == owner))

    async def conversations(self, workspace_id: str) -> Sequence[Conversation]:
        """Those of a workspace."""
        return await self._all(select(Conversation).where(Conversation.workspace_id == workspace_id))

    async def conversation(self, owner: str, conversation_id: str) -> Conversation:
        """One of a user's, or NotFoundError."""
        query = select(Conversation).join(Workspace, Workspace.id == Conversation.workspace_id)
        return await self._one(Conversation, conversation_id, query.where(Workspace.owner == owner))

    async def messages(self, conversation_id: str, limit: int) -> Sequence[Message]:
        """The latest of a conversation, newest first."""
        query = select(Message).where(Message.conversation_id == conversation_id)
        return await self._all(query.order_by(Message.created_at.desc()).limit(limit))

    async def summary(self, conversation_id: str) -> tuple[int, str]:
        """The number of messages of a conversation, and the text of the last one."""
        own = Message.conversation_id == conversation_id
        async with self._sessions() as session:
            count = await session.scalar(select(func.count()).select_from(Message).where(own))
            latest = await session.scalar(select(Message.text).where(own).order_by(Message.created_at.desc()).limit(1))
        return count or 0, latest or ""

    async def statuses(self, table: type[Workspace | Conversation]) -> dict[str, int]:
        """How many rows have which status."""
        query = select(table.status, func.count()).group_by(table.status)
        async with self._sessions() as session:
            found = await session.execute(query)
            return {**dict.fromkeys(STATUSES, 0), **dict(found.all())}

    async def users_since(self, age: timedelta) -> int:
        """How many users have logged in since then."""
        query = select(func.count(Login.user.distinct())).where(Login.at > utc_now() - age)
        async with self._sessions() as session:
            return await session.scalar(query) or 0

    async def sizes(self) -> dict[str, int]:
        """The number of rows in every table."""
        async with self._sessions() as session:
            return {
                table.name: await session.scalar(select(func.count()).select_from(table)) or 0
                for table in Base.metadata.sorted_tables
            }

    async def _all(self, query: Any) -> Sequence[Any]:
        async with self._sessions() as session:
            return (await session.scalars(query)).all()

    async def _one(self, table: type[Row], identifier: str, query: Any) -> Row:
        found: Row | None = None
        if "\0" not in identifier:  # PostgreSQL refuses a query with one
            async with self._sessions() as session:
                found = await session.scalar(query.where(table.id == identifier))
        if found is None:
            raise NotFoundError(table.__name__.lower())
        return found
