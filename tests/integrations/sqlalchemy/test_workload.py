"""What is counted of statements of many shapes, and that their durations are the driver's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import perf_counter

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from asgi_obs.integrations.sqlalchemy import instrument_sqlalchemy
from tests.integrations.sqlalchemy.shapes import SCHEMA, SHAPES, Base, Expected, Shape, fill
from tests.postgres import Postgres

SLOW = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) SELECT sum(i) FROM n",
    "postgresql": "SELECT pg_sleep(0.05)",
}
"""Some 50 ms each: beside them what is around the driver's call takes no time."""

Counts = dict[tuple[str, str], float]


class Counted:
    """What is added to the metrics of a registry between two looks.

    Args:
        registry: The registry of the engine.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._before: dict[str, Counts] = {}

    def of(self, name: str) -> Counts:
        now = {
            (sample.labels["operation"], sample.labels["table"]): sample.value
            for metric in self._registry.collect()
            for sample in metric.samples
            if sample.name == name
        }
        before = self._before.get(name, {})
        self._before[name] = now
        return {labels: value - before.get(labels, 0) for labels, value in now.items() if value != before.get(labels)}


def counts(expected: Expected) -> Counts:
    return {pair: float(expected.count(pair)) for pair in expected}


def shapes_of(dialect: str) -> list[Shape]:
    return [shape for shape in SHAPES if shape.only in {None, dialect}]


@pytest.fixture
def sqlite_engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    event.listen(engine, "connect", lambda connection, _: connection.execute(f"ATTACH ':memory:' AS {SCHEMA}"))
    with engine.begin() as connection:
        fill(connection)
    with disposed(engine):
        yield engine


@contextmanager
def disposed(engine: Engine) -> Iterator[Engine]:
    try:
        yield engine
    finally:
        engine.dispose()


@asynccontextmanager
async def disposed_async(engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    try:
        yield engine
    finally:
        await engine.dispose()


@pytest.fixture
def filled_postgres(postgres: Postgres) -> Iterator[Postgres]:
    with disposed(create_engine(postgres.url("psycopg"))) as engine:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")
            fill(connection)
        yield postgres
        with engine.begin() as connection:
            Base.metadata.drop_all(connection)
            connection.exec_driver_sql(f"DROP SCHEMA {SCHEMA}")


def execute_sync(engine: Engine, function: Callable[[Connection], object]) -> None:
    with engine.connect() as connection:
        function(connection)
        connection.rollback()


def check_counts(engine: Engine, registry: CollectorRegistry) -> None:
    """Execute every shape, and compare what is counted of it."""
    counted = Counted(registry)
    shapes = shapes_of(engine.dialect.name)
    queries, observations = {}, {}
    for shape in shapes:
        execute_sync(engine, shape.run)
        queries[shape.name] = counted.of("db_queries_total")
        observations[shape.name] = counted.of("db_query_duration_seconds_count")
    expected = {shape.name: counts(shape.expected) for shape in shapes}
    assert queries == expected
    assert observations == expected


def test_there_are_enough_shapes() -> None:
    assert min(len(shapes_of("sqlite")), len(shapes_of("postgresql"))) >= 40


def test_every_shape_is_counted_on_sqlite(sqlite_engine: Engine) -> None:
    registry = CollectorRegistry()
    check_counts(instrument_sqlalchemy(sqlite_engine, registry=registry), registry)


def test_every_shape_is_counted_on_postgresql_with_psycopg(filled_postgres: Postgres) -> None:
    registry = CollectorRegistry()
    with disposed(create_engine(filled_postgres.url("psycopg"))) as engine:
        check_counts(instrument_sqlalchemy(engine, registry=registry), registry)


def test_every_shape_is_counted_on_postgresql_with_asyncpg(filled_postgres: Postgres) -> None:
    registry = CollectorRegistry()
    counted = Counted(registry)
    shapes = shapes_of("postgresql")
    queries, observations = {}, {}

    async def execute() -> None:
        async with disposed_async(create_async_engine(filled_postgres.url("asyncpg"))) as engine:
            instrument_sqlalchemy(engine, registry=registry)
            for shape in shapes:
                async with engine.connect() as connection:
                    await connection.run_sync(shape.run)
                    await connection.rollback()
                queries[shape.name] = counted.of("db_queries_total")
                observations[shape.name] = counted.of("db_query_duration_seconds_count")

    asyncio.run(execute())
    expected = {shape.name: counts(shape.expected) for shape in shapes}
    assert queries == expected
    assert observations == expected


class Stopwatch:
    """Measures the calls of a driver, inside of everything that listens to them."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def listen(self, engine: Engine) -> None:
        dialect = engine.dialect
        execute = dialect.do_execute

        def timed(*arguments: object) -> None:
            begun = perf_counter()
            execute(*arguments)
            self.seconds += perf_counter() - begun

        event.listen(engine, "do_execute", lambda *arguments: timed(*arguments) or True)


def slow_statements(connection: Connection) -> None:
    for _ in range(3):
        connection.exec_driver_sql(SLOW[connection.dialect.name], ())


def test_durations_are_those_of_the_driver_on_sqlite(sqlite_engine: Engine) -> None:
    registry, stopwatch = CollectorRegistry(), Stopwatch()
    stopwatch.listen(sqlite_engine)
    execute_sync(instrument_sqlalchemy(sqlite_engine, registry=registry), slow_statements)
    seen = sum(Counted(registry).of("db_query_duration_seconds_sum").values())
    assert seen == pytest.approx(stopwatch.seconds, rel=0.1)


def test_durations_are_those_of_the_driver_with_psycopg(filled_postgres: Postgres) -> None:
    registry, stopwatch = CollectorRegistry(), Stopwatch()
    with disposed(create_engine(filled_postgres.url("psycopg"))) as engine:
        stopwatch.listen(engine)
        execute_sync(instrument_sqlalchemy(engine, registry=registry), slow_statements)
    seen = sum(Counted(registry).of("db_query_duration_seconds_sum").values())
    assert seen == pytest.approx(stopwatch.seconds, rel=0.1)


def test_durations_are_those_of_the_driver_with_asyncpg(filled_postgres: Postgres) -> None:
    registry, stopwatch = CollectorRegistry(), Stopwatch()

    async def execute() -> None:
        async with disposed_async(create_async_engine(filled_postgres.url("asyncpg"))) as engine:
            stopwatch.listen(engine.sync_engine)
            async with instrument_sqlalchemy(engine, registry=registry).connect() as connection:
                await connection.run_sync(slow_statements)

    asyncio.run(execute())
    seen = sum(Counted(registry).of("db_query_duration_seconds_sum").values())
    assert seen == pytest.approx(stopwatch.seconds, rel=0.1)
