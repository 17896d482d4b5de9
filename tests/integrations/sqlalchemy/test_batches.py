from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import ForeignKey, create_engine, func, insert, select
from sqlalchemy.engine import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload
from sqlalchemy.pool import StaticPool

from asgi_obs.exchange import ExchangeMiddleware, current_exchange
from asgi_obs.integrations.sqlalchemy import instrument_sqlalchemy
from asgi_obs.testing import drive, http_scope

pytestmark = pytest.mark.anyio

PARENTS = 1_201
"""In three batches."""


class Base(DeclarativeBase):
    pass


class Parent(Base):
    __tablename__ = "parents"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    children: Mapped[list[Child]] = relationship(back_populates="parent")


class Child(Base):
    __tablename__ = "children"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("parents.id"))
    parent: Mapped[Parent] = relationship(back_populates="children")


ROWS = [{"id": number, "number": 1} for number in range(1, PARENTS + 1)]


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def repeats(engine: Engine, written: Any) -> Any:
    """How many statements a request repeats, and how many it has."""
    instrument_sqlalchemy(engine, registry=CollectorRegistry(), max_repeats=1)

    async def run(work: Callable[[Session], Any]) -> tuple[int, int]:
        queries: list[int] = []

        async def app(*_: Any) -> None:
            with Session(engine) as session:
                work(session)
                session.commit()
            queries.append(current_exchange().database.queries)

        await drive(ExchangeMiddleware(app), http_scope("/x"))
        return sum(line["message"] == "repeated SQL query" for line in written.lines), queries[0]

    return run


def fill(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(insert(Parent), ROWS)
        connection.execute(insert(Child), [{"id": row["id"], "parent_id": row["id"]} for row in ROWS])


async def test_the_batches_of_one_insert_repeat_nothing(repeats: Any) -> None:
    many = insert(Parent).returning(Parent.id)
    options = {"insertmanyvalues_page_size": 100}

    assert await repeats(lambda session: session.execute(many, ROWS, execution_options=options)) == (0, 13)


async def test_inserts_in_a_loop_repeat_one_another(repeats: Any) -> None:
    def loop(session: Session) -> None:
        for number in range(3):
            session.execute(insert(Parent).returning(Parent.id), ROWS[number * 2 : number * 2 + 2])

    assert await repeats(loop) == (1, 3)


@pytest.mark.parametrize("loaded", [(Parent, Parent.children), (Child, Child.parent)])
async def test_the_batches_of_one_load_repeat_nothing(engine: Engine, repeats: Any, loaded: tuple[Any, Any]) -> None:
    fill(engine)
    entity, attribute = loaded

    loading = select(entity).options(selectinload(attribute))

    assert await repeats(lambda session: session.scalars(loading).all()) == (0, 4)


async def test_loads_in_a_loop_repeat_one_another(engine: Engine, repeats: Any) -> None:
    fill(engine)

    def loop(session: Session) -> None:
        for number in (1, 2, 3):
            statement = select(Parent).where(func.abs(Parent.id) == number)
            session.scalars(statement.options(selectinload(Parent.children))).all()

    assert await repeats(loop) == (2, 6)


async def test_a_statement_in_a_loop_repeats_itself(engine: Engine, repeats: Any) -> None:
    statement = select(Parent)

    assert await repeats(lambda session: [session.execute(statement) for _ in range(3)]) == (1, 3)
