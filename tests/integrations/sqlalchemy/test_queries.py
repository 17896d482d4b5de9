from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio.to_thread
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    insert,
    literal,
    select,
    table,
    text,
)
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError, ProgrammingError, StatementError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool, StaticPool
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from asgi_obs import MetricsMiddleware
from asgi_obs.exchange import Exchange, ExchangeMiddleware, within_exchange
from asgi_obs.integrations.sqlalchemy import instrument_sqlalchemy, queries
from asgi_obs.integrations.sqlalchemy.log import QueryLog
from asgi_obs.metrics.labels import family
from asgi_obs.testing import drive, http_scope
from asgi_obs.types import Observer

DEADLINE = 10.0
"""Seconds; never reached if all is well."""

METADATA = MetaData()
USERS = Table("users", METADATA, Column("id", Integer, primary_key=True), Column("name", String))


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def engine(registry: CollectorRegistry) -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    METADATA.create_all(engine)
    yield instrument_sqlalchemy(engine, registry=registry)
    engine.dispose()


@pytest.fixture
def counts(registry: CollectorRegistry) -> Callable[[str], dict[tuple[str, ...], float]]:
    """The values of a metric by operation and table, and what other labels it has."""

    def read(name: str) -> dict[tuple[str, ...], float]:
        return {
            (
                labels["operation"],
                labels["table"],
                *(labels[other] for other in labels.keys() - {"operation", "table"}),
            ): value
            for metric in registry.collect()
            for sample_name, labels, value, *_ in metric.samples
            if sample_name == name
        }

    return read


Counts = Callable[[str], dict[tuple[str, ...], float]]


def test_a_statement_is_counted_and_timed(engine: Engine, counts: Counts) -> None:
    with engine.begin() as connection:
        connection.execute(insert(USERS), {"name": "a"})
        connection.execute(insert(USERS), {"name": "b"})
        assert connection.execute(select(USERS.c.name)).scalars().all() == ["a", "b"]

    expected = {("insert", "users"): 2, ("select", "users"): 1}
    assert counts("db_queries_total") == counts("db_query_duration_seconds_count") == expected
    assert all(seconds > 0 for seconds in counts("db_query_duration_seconds_sum").values())
    assert counts("db_query_errors_total") == {}


def test_an_executemany_is_one_statement(engine: Engine, counts: Counts) -> None:
    with engine.begin() as connection:
        connection.execute(insert(USERS), [{"name": "a"}, {"name": "b"}, {"name": "c"}])

    assert counts("db_queries_total") == {("insert", "users"): 1}


def test_each_batch_of_many_rows_is_a_statement(engine: Engine, counts: Counts) -> None:
    options = {"insertmanyvalues_page_size": 2}
    with engine.begin() as connection:
        rows = [{"name": str(number)} for number in range(5)]
        connection.execute(insert(USERS).returning(USERS.c.id), rows, execution_options=options)

    assert counts("db_queries_total") == {("insert", "users"): 3}


def test_listeners_may_come_while_a_statement_is_executed(engine: Engine, counts: Counts) -> None:
    def come(*_: Any) -> None:
        event.listen(engine, "do_execute", lambda *_: None)

    event.listen(engine, "do_execute", come)
    with engine.connect() as connection:
        connection.execute(select(USERS))

    assert counts("db_queries_total") == {("select", "users"): 1}


def test_a_statement_without_parameters_is_counted(engine: Engine, counts: Counts) -> None:
    with engine.connect().execution_options(no_parameters=True) as connection:
        connection.exec_driver_sql("select 1")

    assert counts("db_queries_total") == {("select", "unknown"): 1}


def test_what_is_executed_for_the_default_of_a_column_is_a_statement(engine: Engine, counts: Counts) -> None:
    number = Column("number", Integer, primary_key=True, default=select(literal(5)).scalar_subquery())
    numbers = Table("numbers", MetaData(), number, Column("name", String), implicit_returning=False)
    numbers.create(engine)
    before = counts("db_queries_total")
    with engine.begin() as connection:
        connection.execute(numbers.insert(), {"name": "a"})

    now = counts("db_queries_total")
    assert {labels: value - before.get(labels, 0) for labels, value in now.items() if value != before.get(labels)} == {
        ("select", "unknown"): 1,
        ("insert", "numbers"): 1,
    }


def test_a_failing_statement_is_counted_by_the_class_of_the_drivers_exception(engine: Engine, counts: Counts) -> None:
    with engine.connect() as connection, pytest.raises(OperationalError):
        connection.execute(text("select nonsense"))

    assert counts("db_queries_total") == counts("db_query_duration_seconds_count") == {("select", "unknown"): 1}
    assert counts("db_query_errors_total") == {("select", "unknown", "sqlite3.OperationalError"): 1}


def test_errors_that_others_replace_or_are_not_told_of_are_counted(engine: Engine, counts: Counts) -> None:
    @event.listens_for(engine, "handle_error")
    def replace(context: Any) -> None:
        raise LookupError

    with engine.connect() as connection, pytest.raises(LookupError):
        connection.execute(text("select nonsense"))
    with engine.connect().execution_options(skip_user_error_events=True) as connection:
        with pytest.raises(OperationalError):
            connection.execute(text("select nonsense"))

    assert counts("db_queries_total") == {("select", "unknown"): 2}
    assert counts("db_query_errors_total") == {("select", "unknown", "sqlite3.OperationalError"): 2}


def test_an_error_while_an_error_is_handled_is_counted(engine: Engine, counts: Counts) -> None:
    @event.listens_for(engine, "handle_error")
    def ask_again(context: Any) -> None:
        context.connection.execute(text("select more_nonsense"))

    with engine.connect() as connection, pytest.raises(OperationalError):
        connection.execute(text("select nonsense"))

    assert counts("db_query_errors_total") == {("select", "unknown", "sqlite3.OperationalError"): 2}


def test_a_statement_that_ends_with_no_exception_of_the_driver_is_an_error(engine: Engine, counts: Counts) -> None:
    @event.listens_for(engine, "do_execute")
    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with engine.connect() as connection, pytest.raises(KeyboardInterrupt):
        connection.execute(text("select 1"))

    assert counts("db_queries_total") == {("select", "unknown"): 1}
    assert counts("db_query_errors_total") == {("select", "unknown", "KeyboardInterrupt"): 1}


def test_what_never_reaches_the_driver_is_not_counted(engine: Engine, counts: Counts) -> None:
    with engine.connect() as connection, pytest.raises(StatementError):
        connection.execute(select(USERS).where(USERS.c.id == text(":unbound")))

    @event.listens_for(engine, "before_cursor_execute")
    def refuse(*arguments: Any) -> None:
        raise LookupError

    with engine.connect() as connection, pytest.raises(LookupError):
        connection.execute(text("select 1"))

    assert counts("db_queries_total") == counts("db_query_errors_total") == {}


def test_what_goes_wrong_after_the_driver_is_no_error_of_the_statement(engine: Engine, counts: Counts) -> None:
    @event.listens_for(engine, "after_cursor_execute")
    def refuse(*arguments: Any) -> None:
        raise LookupError

    with engine.connect() as connection, pytest.raises(LookupError):
        connection.execute(text("select 1"))

    assert counts("db_queries_total") == {("select", "unknown"): 1}
    assert counts("db_query_errors_total") == {}


def test_those_who_call_the_driver_themselves_are_called_once_and_counted(
    registry: CollectorRegistry, counts: Counts
) -> None:
    calls: list[str] = []

    def calling(name: str) -> Callable[..., bool]:
        def execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
            calls.append(name)
            context.dialect.do_execute(cursor, statement, parameters, context)
            return True

        return execute

    def looking(*arguments: Any) -> None:
        calls.append("looks")

    engine = create_engine("sqlite://", poolclass=StaticPool)
    event.listen(engine, "do_execute", looking)
    instrument_sqlalchemy(engine, registry=registry)
    event.listen(engine, "do_execute", calling("first"))
    event.listen(engine, "do_execute", calling("second"))
    with engine.connect() as connection:
        assert connection.execute(text("select 1")).scalar() == 1
    engine.dispose()

    assert calls == ["looks", "first"]
    assert counts("db_queries_total") == {("select", "unknown"): 1}


def test_a_listener_of_all_engines_stands_in_front_and_is_called_once(engine: Engine, counts: Counts) -> None:
    calls: list[str] = []

    def look(_cursor: Any, statement: str, *_: Any) -> None:
        calls.append(statement)

    event.listen(Engine, "do_execute", look)
    try:
        with engine.connect() as connection:
            connection.execute(text("select 1"))
    finally:
        event.remove(Engine, "do_execute", look)

    assert calls == ["select 1"]
    assert counts("db_queries_total") == {("select", "unknown"): 1}


class Composed:
    """A statement as some drivers take it: no text."""

    def __str__(self) -> str:
        return "select 1"


def test_a_statement_that_is_no_text_is_executed_all_the_same(engine: Engine) -> None:
    @event.listens_for(engine, "do_execute")
    def compose(cursor: Any, statement: Any, *_: Any) -> bool:
        cursor.execute(str(statement))
        return True

    statement: Any = Composed()
    with engine.connect() as connection:
        assert connection.exec_driver_sql(statement).scalar() == 1


def test_the_time_is_that_of_the_driver(
    engine: Engine, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(queries, "perf_counter", lambda: now[0])

    def passes(seconds: float) -> Callable[..., None]:
        def listener(*arguments: Any) -> None:
            now[0] += seconds

        return listener

    event.listen(engine, "before_cursor_execute", passes(1000))
    event.listen(engine, "do_execute", passes(0.25))
    event.listen(engine, "after_cursor_execute", passes(1000))
    with engine.connect() as connection:
        connection.execute(text("select 1"))

    labels = {"operation": "select", "table": "unknown"}
    assert registry.get_sample_value("db_query_duration_seconds_sum", labels) == 0.25


def test_comments_that_others_add_make_no_other_statement(engine: Engine, counts: Counts) -> None:
    commented: list[str] = []

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def comment(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        commented.append(f"/* {len(commented)} */ {statement} /* from users */")
        return commented[-1], parameters

    exchange: Any = Remembering()
    with within_exchange(exchange), engine.connect() as connection:
        for _number in range(3):
            connection.execute(text("select 1"))
            connection.execute(select(USERS.c.name))

    assert len(commented) == 6
    assert len(exchange.fingerprints) == 2


def test_statements_of_a_dialect_that_gets_to_know_its_server_are_not_counted(
    postgres: Any, registry: CollectorRegistry, counts: Counts
) -> None:
    engine = instrument_sqlalchemy(create_engine(postgres.url("psycopg"), pool_pre_ping=True), registry=registry)
    engine.connect().close()
    with engine.connect() as connection:
        connection.execute(text("select 1"))
    engine.dispose()

    assert counts("db_queries_total") == {("select", "unknown"): 1}


@pytest.mark.anyio
async def test_an_error_of_a_driver_that_sqlalchemy_adapts_is_the_drivers(
    postgres: Any, registry: CollectorRegistry, counts: Counts
) -> None:
    engine = instrument_sqlalchemy(create_async_engine(postgres.url("asyncpg")), registry=registry)
    async with engine.connect() as connection:
        with pytest.raises(ProgrammingError):
            await connection.execute(text("select nonsense"))
    await engine.dispose()

    assert counts("db_query_errors_total") == {("select", "unknown", "asyncpg.exceptions.UndefinedColumnError"): 1}


class Remembering:
    """In the place of an exchange."""

    outcome = None

    def __init__(self) -> None:
        self.fingerprints: set[str] = set()

    def use_database(self, fingerprint: str, seconds: float) -> int:
        self.fingerprints.add(fingerprint)
        return 1


class Waiting:
    """An async engine of SQLite with a function that waits: `select wait()`."""

    def __init__(self) -> None:
        self.started, self.released = threading.Event(), threading.Event()
        self.engine = create_async_engine("sqlite+aiosqlite://", poolclass=NullPool)
        event.listen(self.engine.sync_engine, "connect", self._add_function)

    def _add_function(self, connection: Any, _record: Any) -> None:
        connection.create_function("wait", 0, self._wait)

    def _wait(self) -> int:
        self.started.set()
        return int(self.released.wait(DEADLINE))


@pytest.mark.anyio
async def test_a_cancelled_statement_is_an_error_and_leaves_nothing(
    registry: CollectorRegistry, counts: Counts
) -> None:
    waiting = Waiting()
    engine = instrument_sqlalchemy(waiting.engine, registry=registry)

    async def ask() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("select wait()"))

    task = asyncio.create_task(ask())
    assert await anyio.to_thread.run_sync(waiting.started.wait, DEADLINE)
    task.cancel()
    waiting.released.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert counts("db_queries_total") == counts("db_query_duration_seconds_count") == {("select", "unknown"): 1}
    assert counts("db_query_errors_total") == {("select", "unknown", "asyncio.exceptions.CancelledError"): 1}


@pytest.mark.parametrize(("step", "place"), [("_count", "succeeded"), ("_count", "failed"), ("_log", "begins")])
def test_what_goes_wrong_here_does_not_reach_the_statement(
    registry: CollectorRegistry, reported: list[str], step: str, place: str
) -> None:
    log = QueryLog(slow_seconds=0, settings=None, hide_parameters=False)
    broken = queries.Queries(registry, log, max_repeats=0)
    setattr(broken, step, None)
    engine = create_engine("sqlite://")
    broken.watch(engine)
    with engine.connect() as connection:
        if place == "failed":
            with pytest.raises(OperationalError):
                connection.execute(text("select nonsense"))
        else:
            assert connection.execute(text("select 1")).scalar() == 1
    engine.dispose()

    assert f"sqlalchemy.Queries.{place}" in reported


def test_tables_beyond_the_cap_of_the_metrics_are_not_kept(registry: CollectorRegistry) -> None:
    log = QueryLog(slow_seconds=0, settings=None, hide_parameters=False)
    few = queries.Queries(registry, log, max_repeats=0)
    family("db_queries_total", registry, max_series=4)
    engine = create_engine("sqlite://", poolclass=StaticPool)
    few.watch(engine)
    with engine.connect() as connection:
        for number in range(10):
            with pytest.raises(OperationalError):
                connection.execute(select(text("1")).select_from(table(f"t{number}")))
    engine.dispose()

    assert len(few._known) == 2


class Asked(Observer):
    """How many statements each request had, by path."""

    def __init__(self) -> None:
        self.queries: dict[str, int | None] = {}

    def on_end(self, exchange: Exchange) -> None:
        use = exchange.database
        self.queries[exchange.path] = None if use is None else use.queries


@pytest.fixture
def asked() -> Asked:
    return Asked()


def an_app(asked: Asked, *handlers: Callable[[Request], Any]) -> ExchangeMiddleware:
    """An application with a route for each handler, by its name."""
    routes = [Route(f"/{handler.__name__}", handler) for handler in handlers]
    return ExchangeMiddleware(Starlette(routes=routes), observers=[asked])


async def get(app: Any, path: str) -> None:
    await drive(app, http_scope(path))


def ask(engine: Engine) -> None:
    with Session(engine) as session:
        session.execute(text("select 1"))


async def ask_async(engine: AsyncEngine) -> None:
    async with async_sessionmaker(engine)() as session:
        await session.execute(text("select 1"))


@pytest.mark.anyio
async def test_interleaved_requests_are_counted_each_on_its_own(asked: Asked, registry: CollectorRegistry) -> None:
    engine = instrument_sqlalchemy(create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool), registry=registry)
    first_waits, second_is_done = asyncio.Event(), asyncio.Event()

    async def first(request: Request) -> Response:
        await ask_async(engine)
        first_waits.set()
        await asyncio.wait_for(second_is_done.wait(), DEADLINE)
        await ask_async(engine)
        await ask_async(engine)
        return PlainTextResponse("")

    async def second(request: Request) -> Response:
        await asyncio.wait_for(first_waits.wait(), DEADLINE)
        await ask_async(engine)
        await ask_async(engine)
        second_is_done.set()
        return PlainTextResponse("")

    app = MetricsMiddleware(an_app(asked, first, second), registry=registry)
    await asyncio.gather(get(app, "/first"), get(app, "/second"))
    await engine.dispose()

    assert asked.queries == {"/first": 3, "/second": 2}
    for path, expected in asked.queries.items():
        labels = {"method": "GET", "endpoint": path}
        assert registry.get_sample_value("http_request_db_queries_sum", labels) == expected


@pytest.mark.anyio
async def test_interleaved_requests_in_threads_are_counted_each_on_its_own(asked: Asked, engine: Engine) -> None:
    first_waits, second_is_done = threading.Event(), threading.Event()

    def first(request: Request) -> Response:
        ask(engine)
        first_waits.set()
        assert second_is_done.wait(DEADLINE)
        ask(engine)
        return PlainTextResponse("")

    def second(request: Request) -> Response:
        assert first_waits.wait(DEADLINE)
        for _number in range(3):
            ask(engine)
        second_is_done.set()
        return PlainTextResponse("")

    app = an_app(asked, first, second)
    await asyncio.gather(get(app, "/first"), get(app, "/second"))

    assert asked.queries == {"/first": 2, "/second": 3}


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_session_in_a_thread_belongs_to_the_request(asked: Asked, engine: Engine) -> None:
    async def handler(request: Request) -> Response:
        await anyio.to_thread.run_sync(ask, engine)
        return PlainTextResponse("")

    await get(an_app(asked, handler), "/handler")

    assert asked.queries == {"/handler": 1}


@pytest.mark.anyio
async def test_sessions_side_by_side_belong_to_the_request(asked: Asked) -> None:
    engine = create_async_engine("sqlite+aiosqlite://", poolclass=NullPool)
    instrument_sqlalchemy(engine, registry=CollectorRegistry())

    async def handler(request: Request) -> Response:
        await asyncio.gather(*(ask_async(engine) for _ in range(5)))
        return PlainTextResponse("")

    await get(an_app(asked, handler), "/handler")
    await engine.dispose()

    assert asked.queries == {"/handler": 5}


@pytest.mark.anyio
async def test_a_failing_statement_is_one_of_the_requests(asked: Asked, engine: Engine) -> None:
    def handler(request: Request) -> Response:
        with pytest.raises(OperationalError), engine.connect() as connection:
            connection.execute(text("select nonsense"))
        return PlainTextResponse("")

    await get(an_app(asked, handler), "/handler")

    assert asked.queries == {"/handler": 1}


@pytest.mark.anyio
async def test_what_a_background_task_asks_is_not_the_requests(asked: Asked, engine: Engine, counts: Counts) -> None:
    async def handler(request: Request) -> Response:
        return PlainTextResponse("", background=BackgroundTask(ask, engine))

    await get(an_app(asked, handler), "/handler")

    assert asked.queries == {"/handler": None}
    assert counts("db_queries_total") == {("select", "unknown"): 1}
