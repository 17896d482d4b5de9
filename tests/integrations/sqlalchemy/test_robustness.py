"""Whatever goes wrong with a database: no gauge sticks, no timer is lost, every error counts once, nothing grows."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, NullPool, QueuePool, TextClause, create_engine, event, exc, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import greenlet_spawn

from asgi_obs import Settings
from asgi_obs.integrations.sqlalchemy import instrument_sqlalchemy
from tests.metrics.process.event_loops import soon
from tests.postgres import Postgres

POOL = {"pool_size": 2, "max_overflow": 1, "pool_timeout": 0.05}

SETTINGS = Settings()
"""To read them for each of many engines would take longer than all the rest."""

INTERRUPTED = text("WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT count(interrupt()) FROM n")
WHO = text("SELECT pg_backend_pid()")
SLEEP = text("SELECT pg_sleep(60)")
KILL = text("SELECT pg_terminate_backend(:pid, 30000)")  # waits until it is gone


class Signals:
    """What a registry shows of statements and pools."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def total(self, name: str) -> float:
        """The sum over the series of a sample."""
        return sum(sample.value for sample in self._samples(name))

    @property
    def errors(self) -> dict[str, float]:
        """The errors, by exception."""
        return {sample.labels["exception"]: sample.value for sample in self._samples("db_query_errors_total")}

    @property
    def queries(self) -> float:
        """The statements; the timers of all have ended."""
        queries, timed = self.total("db_queries_total"), self.total("db_query_duration_seconds_count")
        assert queries == timed
        return queries

    @property
    def checked_out(self) -> float:
        return self.total("db_pool_connections_checked_out")

    @property
    def series(self) -> int:
        return sum(len(family.samples) for family in self._registry.collect())

    def _samples(self, name: str) -> list:
        return [sample for family in self._registry.collect() for sample in family.samples if sample.name == name]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def signals(registry: CollectorRegistry) -> Signals:
    return Signals(registry)


@pytest.fixture
def sqlite(registry: CollectorRegistry, tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path}/test.db", poolclass=QueuePool, **POOL)
    yield instrument_sqlalchemy(engine, registry=registry)
    engine.dispose()


@pytest.fixture
def kill(postgres: Postgres) -> Callable[[int], object]:
    """Ends the server's process behind a connection."""

    def kill_backend(pid: int) -> None:
        with create_engine(postgres.url("psycopg"), poolclass=NullPool).connect() as connection:
            assert connection.scalar(KILL, {"pid": pid}) is True

    return kill_backend


class TestGrowth:
    def test_ten_thousand_engines_leave_nothing(self, registry, signals) -> None:
        make_engines(200, registry)
        objects, threads, series = len(gc.get_objects()), set(threading.enumerate()), signals.series
        make_engines(10_000, registry)
        assert len(gc.get_objects()) < objects + 1_000  # what is kept of engines would be a hundred thousand
        assert {one for one in set(threading.enumerate()) - threads if not one.name.startswith("asgi_obs.")} == set()
        assert (signals.series, signals.total("db_pool_size"), signals.checked_out) == (series, 0, 0)

    def test_engines_that_were_used_leave_no_memory(self, registry) -> None:
        tracemalloc.start()
        make_engines(100, registry, every=1)
        before, _ = tracemalloc.get_traced_memory()
        make_engines(200, registry, every=1)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert after - before < 200 * 500  # bytes; of an engine that stays it would be thousands


def make_engines(number: int, registry: CollectorRegistry, every: int = 100) -> None:
    """Engines that are dropped; some of them were used."""
    for i in range(number):
        engine = instrument_sqlalchemy(create_engine("sqlite://"), registry=registry, settings=SETTINGS)
        if i % every == 0:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
            engine.dispose()  # of the driver's connections: those of SQLite are to be closed
    del engine
    gc.collect()


class TestSqlite:
    def test_an_engine_that_is_disposed_of_in_mid_query(self, sqlite, signals) -> None:
        pool = sqlite.pool
        disposed = []

        def dispose() -> int:
            sqlite.dispose()
            disposed.append(signals.checked_out)
            return 1

        event.listen(sqlite, "connect", lambda connection, record: connection.create_function("dispose", 0, dispose))
        with sqlite.connect() as connection:
            assert connection.scalar(text("SELECT dispose()")) == 1
        assert (disposed, signals.queries, signals.errors, signals.checked_out) == ([1], 1, {}, 0)
        pool.dispose()  # it got its connection back
        with sqlite.connect() as connection:
            assert (connection.scalar(text("SELECT 1")), signals.checked_out) == (1, 1)

    def test_a_query_that_is_interrupted(self, sqlite, signals) -> None:
        event.listen(
            sqlite,
            "connect",
            lambda connection, record: connection.create_function("interrupt", 0, connection.interrupt),
        )
        with pytest.raises(exc.DBAPIError), sqlite.connect() as connection:
            connection.execute(INTERRUPTED)
        assert (signals.queries, signals.errors, signals.checked_out) == (1, {"sqlite3.OperationalError": 1}, 0)

    def test_an_exhausted_pool(self, sqlite, signals) -> None:
        with sqlite.connect(), sqlite.connect(), sqlite.connect():
            with pytest.raises(exc.TimeoutError):
                sqlite.connect()
        assert (signals.total("db_pool_timeouts_total"), signals.queries, signals.checked_out) == (1, 0, 0)
        with sqlite.connect() as connection:
            assert (connection.scalar(text("SELECT 1")), signals.queries) == (1, 1)


class TestPostgres:
    @pytest.fixture
    def engine(self, postgres: Postgres, registry: CollectorRegistry) -> Iterator[Engine]:
        engine = create_engine(postgres.url("psycopg"), **POOL)
        yield instrument_sqlalchemy(engine, registry=registry)
        engine.dispose()

    def test_a_dropped_connection(self, engine, signals, kill) -> None:
        with engine.connect() as connection:
            kill(connection.scalar(WHO))
            with pytest.raises(exc.DBAPIError):
                connection.execute(WHO)
        assert (signals.queries, signals.errors, signals.checked_out) == (2, {"psycopg.errors.AdminShutdown": 1}, 0)
        with engine.connect() as connection:
            connection.execute(WHO)
        assert (signals.queries, signals.checked_out) == (3, 0)

    def test_a_connection_that_is_collected(self, engine, signals) -> None:
        connection = engine.raw_connection()
        assert signals.checked_out == 1
        del connection
        assert signals.checked_out == 0


@pytest.mark.anyio
class TestAsyncPostgres:
    @pytest.fixture
    async def engine(self, postgres: Postgres, registry: CollectorRegistry) -> AsyncIterator[AsyncEngine]:
        engine = create_async_engine(postgres.url("asyncpg"), **POOL)
        yield instrument_sqlalchemy(engine, registry=registry)
        await engine.dispose()

    async def test_cancelled_queries(self, engine, signals) -> None:
        outcomes = await asyncio.gather(*(within(0.2, execute(engine, SLEEP)) for _ in range(3)))
        assert outcomes == ["timeout"] * 3
        assert (signals.queries, signals.errors, signals.checked_out) == (
            3,
            {"asyncio.exceptions.CancelledError": 3},
            0,
        )
        assert await asyncio.gather(*(execute(engine, text("SELECT 1")) for _ in range(3))) == [1, 1, 1]
        assert (signals.queries, signals.checked_out) == (6, 0)

    async def test_one_who_is_cancelled_while_waiting_for_a_connection(self, engine, signals, registry) -> None:
        patient = create_async_engine(engine.url, pool_size=1, max_overflow=0)
        instrument_sqlalchemy(patient, registry=registry)
        async with patient.connect():
            assert await within(0.05, execute(patient, WHO)) == "timeout"
            assert (signals.queries, signals.checked_out) == (0, 1)
        assert (signals.total("db_pool_wait_seconds_count"), signals.total("db_pool_timeouts_total")) == (2, 0)
        assert signals.checked_out == 0
        await patient.dispose()

    async def test_an_engine_that_is_disposed_of_in_mid_query(self, engine, signals) -> None:
        pool = engine.pool
        async with engine.connect() as connection:
            asked = asyncio.ensure_future(connection.scalar(text("SELECT 1 FROM pg_sleep(0.05)")))
            await asyncio.sleep(0)  # it begins
            await engine.dispose()
            assert (await asked, signals.checked_out) == (1, 1)
        await greenlet_spawn(pool.dispose)  # it got its connection back
        assert (signals.queries, signals.errors, signals.checked_out) == (1, {}, 0)

    async def test_dropped_connections(self, engine, signals, kill) -> None:
        async with engine.connect() as connection:
            await asyncio.to_thread(kill, await connection.scalar(WHO))
            with pytest.raises(exc.DBAPIError):
                await connection.execute(WHO)
        assert (signals.queries, sum(signals.errors.values()), signals.checked_out) == (2, 1, 0)
        await execute(engine, WHO)
        assert (signals.queries, signals.checked_out) == (3, 0)

    async def test_an_exhausted_pool(self, engine, signals) -> None:
        async with engine.connect(), engine.connect(), engine.connect():
            with pytest.raises(exc.TimeoutError):
                await engine.connect()
        assert (signals.total("db_pool_timeouts_total"), signals.queries, signals.checked_out) == (1, 0, 0)
        await execute(engine, WHO)
        assert signals.checked_out == 0

    async def test_a_connection_that_is_collected(self, engine, signals) -> None:
        connections = [await engine.raw_connection()]
        assert signals.checked_out == 1
        with pytest.warns(exc.SAWarning, match="garbage collector"):
            connections.clear()
        assert signals.checked_out == 0
        await execute(engine, WHO)
        assert signals.checked_out == 0

    async def test_a_server_that_dies_in_mid_query(self, own_postgres, registry, signals) -> None:
        engine = create_async_engine(own_postgres.url("asyncpg"), **POOL)
        instrument_sqlalchemy(engine, registry=registry)
        await execute(engine, WHO)
        asked = [asyncio.ensure_future(execute(engine, SLEEP)) for _ in range(2)]
        await soon(lambda: signals.checked_out == 2)
        await asyncio.to_thread(own_postgres.stop)
        failed = await asyncio.gather(*asked, execute(engine, WHO), return_exceptions=True)
        assert [isinstance(error, (exc.DBAPIError, OSError)) for error in failed] == [True] * 3
        assert (signals.queries, sum(signals.errors.values()), signals.checked_out) == (3, 2, 0)
        await asyncio.to_thread(own_postgres.start)
        await execute(engine, WHO)
        assert (signals.queries, signals.checked_out) == (4, 0)
        await engine.dispose()


async def execute(engine: AsyncEngine, statement: TextClause) -> object:
    async with engine.connect() as connection:
        return await connection.scalar(statement)


async def within(seconds: float, work: Awaitable[object]) -> object:
    try:
        return await asyncio.wait_for(work, seconds)
    except asyncio.TimeoutError:
        return "timeout"
