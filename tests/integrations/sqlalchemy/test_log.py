from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from sqlalchemy import (
    Column,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    create_engine,
    event,
    func,
    insert,
    literal,
    select,
    text,
    types,
    update,
)
from sqlalchemy.dialects.sqlite import JSON
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_obs import CorrelationIdMiddleware, LogContext
from asgi_obs.exchange import ExchangeMiddleware
from asgi_obs.integrations.sqlalchemy import instrument_sqlalchemy, queries
from asgi_obs.integrations.sqlalchemy.log import LOGGER
from asgi_obs.integrations.sqlalchemy.parameters import Parameters
from asgi_obs.redaction import redactor_for
from asgi_obs.settings import Settings
from asgi_obs.testing import drive, http_scope, websocket_scope

MASK = "******"

USERS = Table(
    "users",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("name", String),
    Column("password", String),
    Column("picture", LargeBinary),
    Column("settings", JSON),
)


@pytest.fixture
def bare() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    USERS.create(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def debug() -> Iterator[None]:
    logger = logging.getLogger(LOGGER)
    logger.setLevel(logging.DEBUG)
    yield
    logger.setLevel(logging.NOTSET)


def instrumented(engine: Engine, **options: Any) -> Engine:
    settings = Settings(environment=options.pop("environment", "testing"))
    return instrument_sqlalchemy(engine, registry=CollectorRegistry(), settings=settings, **options)


def execute(engine: Engine, statement: Any, *parameters: Any) -> None:
    with engine.begin() as connection:
        connection.execute(statement, *parameters)


@pytest.fixture
def shown(bare: Engine, written: Any, debug: None) -> Any:
    """The parameters of a statement as they are logged."""
    engine = instrumented(bare)

    def parameters(statement: Any, *parameters: Any) -> Any:
        execute(engine, statement, *parameters)
        return written.lines[-2]["parameters"]

    return parameters


def test_a_statement_is_logged_before_and_after(bare: Engine, written: Any, debug: None) -> None:
    with LogContext("c-1"):
        execute(instrumented(bare), update(USERS).where(USERS.c.id == 7).values(name="a"))

    before, after = written.lines
    assert (before["level"], before["message"], before["component"]) == ("DEBUG", "SQL Query", "asgi_obs.db")
    assert before["statement"] == "UPDATE users SET name=? WHERE users.id = ?"
    assert (before["parameters"], before["executemany"]) == ({"name": "a", "id_1": 7}, False)
    assert (after["level"], after["message"]) == ("DEBUG", "SQL Query Completed")
    assert (after["operation"], after["table"], after["rows"]) == ("update", "users", 0)
    assert after["duration_ms"] > 0
    assert len(after["fingerprint"]) == 16
    assert [line["correlation_id"] for line in written.lines] == ["c-1", "c-1"]


def test_nothing_is_logged_at_info(bare: Engine, written: Any) -> None:
    engine = instrumented(bare)
    execute(engine, select(USERS))
    with pytest.raises(OperationalError):
        execute(engine, text("select nonsense"))

    assert written.lines == []


def test_a_failing_statement_is_logged_without_what_sqlalchemy_says_of_it(
    bare: Engine, written: Any, debug: None
) -> None:
    engine = instrumented(bare)
    execute(engine, insert(USERS), {"id": 1})
    with pytest.raises(IntegrityError):
        execute(engine, insert(USERS), {"id": 1, "name": "a name"})

    failed = written.lines[-1]
    message = "UNIQUE constraint failed: users.id"
    assert (failed["level"], failed["message"]) == ("DEBUG", "SQL Query Failed")
    code = {"code": "SQLITE_CONSTRAINT_PRIMARYKEY"} if sys.version_info >= (3, 11) else {}
    assert failed["error"] == {"type": "sqlite3.IntegrityError", "message": message, **code}
    assert (failed["operation"], failed["table"]) == ("insert", "users")
    assert "a name" not in str(failed)


def test_many_sets_of_parameters_are_logged_by_name_and_not_all_of_them(shown: Any, written: Any) -> None:
    rows = [{"name": str(number), "password": "x"} for number in range(5)]
    expected = [{"name": str(number), "password": MASK} for number in range(3)]

    assert shown(insert(USERS), rows) == expected
    assert shown(insert(USERS).returning(USERS.c.id), rows) == expected
    assert [line["executemany"] for line in written.lines] == [True] * 4


def test_parameters_are_masked_by_the_name_of_their_column(shown: Any) -> None:
    in_list = select(USERS).where(USERS.c.password.in_(["a", "b"]), USERS.c.name == "n", USERS.c.id > 3)

    assert shown(insert(USERS), {"name": "a", "password": "b"}) == {"name": "a", "password": MASK}
    assert shown(in_list) == {"password_1_1": MASK, "password_1_2": MASK, "name_1": "n", "id_1": 3}


def test_a_parameter_that_has_no_column_is_masked_beside_what_is_sensitive(shown: Any) -> None:
    assert shown(select(USERS.c.id).where(func.lower(USERS.c.password) == "b")) == {"lower_1": MASK}
    assert shown(select(USERS.c.id).where(USERS.c.password == bindparam("name", "b"))) == {"name": MASK}
    assert shown(text("select id from users where password = :id"), {"id": "b"}) == {"id": MASK}
    assert shown(text("select id from users where name = :id"), {"id": "b"}) == {"id": "b"}
    assert shown(select(USERS.c.id).where(func.lower(USERS.c.name) == "b")) == {"lower_1": "b"}


@pytest.mark.parametrize("path", ["token", ("a", "token")])
def test_beside_a_sensitive_word_no_parameter_is_shown(shown: Any, path: Any) -> None:
    settings = Column("settings", types.JSON)
    statement = select(USERS.c.id).where(settings[path].as_string() == "b", USERS.c.id == 1)

    assert shown(statement) == {"settings_1": MASK, "param_1": MASK, "id_1": MASK}
    assert (
        shown(insert(USERS), [{"name": "a", "id": 1}, {"name": "token", "id": 2}]) == [{"name": MASK, "id": MASK}] * 2
    )
    assert shown(insert(USERS), {"name": "no token", "id": 3}) == {"name": "no token", "id": 3}


def test_parameters_that_have_no_names_go_by_position(bare: Engine, written: Any, debug: None) -> None:
    with instrumented(bare).connect() as connection:
        connection.exec_driver_sql("select id from users where name = ?", ("a",))
        connection.exec_driver_sql("select id from users where password = ?", ("a",))
        connection.exec_driver_sql("select id from users")
        connection.execution_options(no_parameters=True).exec_driver_sql("select id from users")

    assert [line["parameters"] for line in written.lines[::2]] == [{"1": "a"}, {"1": MASK}, {}, {}]


def test_what_is_executed_for_a_default_has_parameters_of_its_own(bare: Engine, written: Any, debug: None) -> None:
    number = Column("number", Integer, primary_key=True, default=select(literal(5)).scalar_subquery())
    table = Table("numbers", MetaData(), number, Column("name", String), implicit_returning=False)
    table.create(bare)
    execute(instrumented(bare), insert(table), {"name": "a"})

    assert [line["parameters"] for line in written.lines[::2]] == [{"1": 5}, {"number": 5, "name": "a"}]


def test_definitions_have_no_parameters(bare: Engine, written: Any, debug: None) -> None:
    Table("numbers", MetaData(), Column("number", Integer)).create(instrumented(bare), checkfirst=False)

    assert written.lines[0]["parameters"] == {}
    assert written.lines[0]["statement"].startswith("\nCREATE TABLE numbers")


def test_secrets_are_masked_by_their_looks_and_large_values_are_shortened(shown: Any) -> None:
    values = {
        "name": "postgresql://u:hidden@h/d",
        "picture": b"x" * 1000,
        "settings": {"api_key": "hidden", "theme": "dark"},
    }

    assert shown(insert(USERS), values) == {
        "name": f"postgresql://{MASK}@h/d",
        "picture": "<1000 bytes>",
        "settings": f'{{"api_key":"{MASK}","theme":"dark"}}',
    }
    assert shown(insert(USERS), {"name": "n" * 201}) == {"name": "n" * 200 + "..."}
    assert shown(insert(USERS), {"name": "n" * 200_000}) == {"name": "<200000 characters>"}


def test_no_more_than_some_parameters_are_logged(shown: Any) -> None:
    parameters = shown(select(USERS).where(USERS.c.id.in_(range(50))))

    assert len(parameters) == 21
    assert parameters["..."] == 30


@pytest.mark.parametrize("environment", ["production", "testing"])
def test_values_stay_out_of_the_log_in_production(bare: Engine, written: Any, debug: None, environment: str) -> None:
    engine = instrumented(bare, environment=environment)
    execute(engine, text("select id from users where name = 'visible' and id = :id"), {"id": 4711})
    before = written.lines[0]

    hidden = environment == "production"
    assert ("visible" not in before["statement"], "parameters" not in before) == (hidden, hidden)
    assert ("visible" not in str(written.lines), "4711" not in str(written.lines)) == (hidden, hidden)


@pytest.mark.parametrize(
    "statement",
    [
        "set password = $$hidden$$",
        "select password /* hidden */ -- hidden",
        "create role somebody login encrypted password 'hidden'",
        """update users set settings = '{"a": "hidden", "token": "hidden"}'""",
    ],
)
def test_a_statement_that_mentions_something_sensitive_is_shown_without_values(
    bare: Engine, written: Any, debug: None, statement: str
) -> None:
    engine = instrumented(bare)
    with contextlib.suppress(OperationalError), engine.connect() as connection:
        connection.exec_driver_sql(statement)

    assert statement.split()[0] in written.lines[0]["statement"]
    assert "hidden" not in str(written.lines)


class DriverError(Exception):
    sqlstate = "22P02"


@pytest.mark.parametrize("hide_parameters", [False, True])
@pytest.mark.parametrize("environment", ["production", "testing"])
def test_the_message_of_a_driver_is_shown_where_parameters_are(
    written: Any, debug: None, environment: str, hide_parameters: bool
) -> None:
    engine = instrumented(create_engine("sqlite://", hide_parameters=hide_parameters), environment=environment)

    def fail(*_: Any) -> None:
        raise DriverError('invalid input syntax for type integer: "visible"')

    event.listen(engine, "do_execute", fail)
    with pytest.raises(DriverError), engine.connect() as connection:
        connection.execute(text("select cast(:number as int)"), {"number": "x"})
    engine.dispose()

    error = written.lines[-1]["error"]
    assert (error["type"], error["code"]) == (f"{__name__}.DriverError", "22P02")
    assert ("message" in error) is (environment == "testing" and not hide_parameters)


def test_an_engine_that_hides_parameters_hides_them_here_too(written: Any, debug: None) -> None:
    engine = instrumented(create_engine("sqlite://", hide_parameters=True))
    with engine.connect() as connection:
        connection.execute(text("select :one"), {"one": 4711})
    engine.dispose()

    assert "parameters" not in written.lines[0]
    assert "4711" not in str(written.lines)


@pytest.mark.parametrize(("seconds", "slow"), [(0.499, 0), (0.5, 1)])
@pytest.mark.parametrize("statement", ["select id from users where name = 'secret'", "select nonsense"])
def test_a_slow_statement_is_a_warning_without_values(
    bare: Engine, written: Any, monkeypatch: pytest.MonkeyPatch, seconds: float, slow: int, statement: str
) -> None:
    clock = iter([10.0, 10.0 + seconds])
    monkeypatch.setattr(queries, "perf_counter", lambda: next(clock))
    with instrumented(bare, slow_seconds=0.5).connect() as connection:
        try:
            connection.execute(text(statement))
        except OperationalError:
            pass

    assert len(written.lines) == slow
    for line in written.lines:
        assert (line["level"], line["message"], line["duration_ms"]) == ("WARN", "slow SQL query", 500.0)
        assert line["operation"] == "select"
        assert "secret" not in line["statement"]
        assert "parameters" not in line


def test_no_statement_is_slow_where_that_is_off(bare: Engine, written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 1e6])
    monkeypatch.setattr(queries, "perf_counter", lambda: next(clock))
    execute(instrumented(bare, slow_seconds=0), select(USERS))

    assert written.lines == []


async def in_request(engine: Engine, times: int, correlation_id: str = "c-1") -> None:
    """A request whose handler, in a thread, executes one statement some times, each with another value."""

    def handler(request: Request) -> Response:
        with Session(engine) as session:
            for number in range(times):
                session.execute(select(USERS.c.name).where(USERS.c.id == number))
        return PlainTextResponse("")

    app = CorrelationIdMiddleware(Starlette(routes=[Route("/u/{id}", handler)]), generator=lambda: correlation_id)
    await drive(app, http_scope("/u/7"))


@pytest.mark.anyio
async def test_a_statement_that_a_request_repeats_too_often_is_one_warning(bare: Engine, written: Any) -> None:
    engine = instrumented(bare, max_repeats=3)
    await in_request(engine, 3)
    assert written.lines == []

    await in_request(engine, 9, "c-2")
    line = written.line
    assert (line["level"], line["message"], line["times"]) == ("WARN", "repeated SQL query", 4)
    assert (line["method"], line["path"], line["route"]) == ("GET", "/u/7", "/u/{id}")
    assert (line["operation"], line["table"], line["correlation_id"]) == ("select", "users", "c-2")
    assert line["statement"].startswith("SELECT users.name")
    assert len(line["fingerprint"]) == 16


@pytest.mark.anyio
async def test_repeats_are_not_looked_at_where_that_is_off(bare: Engine, written: Any) -> None:
    await in_request(instrumented(bare, max_repeats=0), 50)

    assert written.lines == []


@pytest.mark.anyio
async def test_repeats_of_a_session_and_of_what_outlives_a_request_are_no_warning(bare: Engine, written: Any) -> None:
    engine = instrumented(bare, max_repeats=3)

    def repeat() -> None:
        for _ in range(9):
            execute(engine, select(USERS))

    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        repeat()
        await socket.close()

    async def handler(request: Request) -> Response:
        return PlainTextResponse("", background=BackgroundTask(repeat))

    app = ExchangeMiddleware(Starlette(routes=[WebSocketRoute("/talk", talk), Route("/u", handler)]))
    await drive(app, websocket_scope("/talk"))
    await drive(app, http_scope("/u"))

    assert written.lines == []


def test_repeats_outside_of_requests_are_nobodys(bare: Engine, written: Any) -> None:
    engine = instrumented(bare, max_repeats=1)
    for _ in range(5):
        execute(engine, select(USERS))

    assert written.lines == []


@pytest.mark.anyio
async def test_lines_from_a_thread_have_the_correlation_id_of_the_request(
    bare: Engine, written: Any, debug: None
) -> None:
    await in_request(instrumented(bare), 1, "c-3")

    assert [line["message"] for line in written.lines] == ["SQL Query", "SQL Query Completed"]
    assert [line["correlation_id"] for line in written.lines] == ["c-3", "c-3"]


class Context:
    """In the place of SQLAlchemy's, for a statement of the driver's own."""

    executemany = False


@given(
    st.text(),
    st.dictionaries(st.text(), st.one_of(st.none(), st.integers(), st.text(), st.binary(), st.dates())),
)
def test_no_sensitive_parameter_is_ever_shown(statement: str, parameters: dict[str, Any]) -> None:
    redactor = redactor_for(Settings())
    given = {**parameters, "password": "5ecret-value", "password_1": b"5ecret-value"}
    shown = Parameters(redactor).shown(f"select password {statement}", (given,), Context())

    assert "5ecret-value" not in str(shown)
