"""What the users have said, in a database of SQLAlchemy."""

from __future__ import annotations

from asyncio import Lock
from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from examples.cortex.database import UtcDateTime, create_tables, utc_now
from examples.cortex.memory.metrics import STORAGE_SIZE, operations


class Base(DeclarativeBase):
    type_annotation_map: ClassVar = {datetime: UtcDateTime}


class Input(Base):
    __tablename__ = "memory_inputs"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(index=True)
    conversation_id: Mapped[str]
    text: Mapped[str]
    size: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class MemoryStore:
    """The inputs of all users. Every method is an operation that is counted and timed.

    Args:
        engine: Where they are kept; closed with the store.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)
        self._measuring = Lock()

    async def open(self) -> None:
        """Create the table if it is not there yet, and measure what is."""
        await create_tables(self.engine, Base.metadata)
        async with self._sessions() as session:
            for user_id, size in await session.execute(
                select(Input.user_id, func.sum(Input.size)).group_by(Input.user_id)
            ):
                STORAGE_SIZE.labels(user_id=user_id).set(size)

    async def close(self) -> None:
        await self.engine.dispose()

    @operations.track("store_input")
    async def store_input(self, user_id: str, conversation_id: str, text: str) -> int:
        """Keep an input; returns its ID."""
        async with self._sessions() as session:
            kept = Input(user_id=user_id, conversation_id=conversation_id, text=text, size=len(text.encode()))
            session.add(kept)
            await session.commit()
        await self._measure(user_id)
        return kept.id

    @operations.track("get_history")
    async def get_history(self, user_id: str, limit: int) -> Sequence[Input]:
        """The latest inputs of a user, newest first."""
        query = select(Input).where(Input.user_id == user_id).order_by(Input.id.desc()).limit(limit)
        async with self._sessions() as session:
            return (await session.scalars(query)).all()

    @operations.track("clear_history")
    async def clear_history(self, user_id: str) -> int:
        """Forget a user; returns how many inputs there were."""
        async with self._sessions() as session:
            gone = await session.execute(delete(Input).where(Input.user_id == user_id))
            await session.commit()
        await self._measure(user_id)
        return gone.rowcount

    async def _measure(self, user_id: str) -> None:
        # One after the other: else a size could be set behind a newer one.
        async with self._measuring, self._sessions() as session:
            size = await session.scalar(select(func.sum(Input.size)).where(Input.user_id == user_id))
            STORAGE_SIZE.labels(user_id=user_id).set(size or 0)
