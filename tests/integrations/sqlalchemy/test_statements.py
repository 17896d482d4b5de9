from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, event, insert, literal_column, select, text
from sqlalchemy.engine import Engine

from asgi_obs.integrations.sqlalchemy import statements
from asgi_obs.integrations.sqlalchemy.statements import LONG, MAX_KEPT, MAX_KEPT_LONG, Statement, describe
from tests.integrations.sqlalchemy.shapes import USERS, Base

DEADLINE = 10.0
"""Seconds; never reached if all is well."""

CHAIN = ["c0 AS (SELECT 1)", *(f"c{n} AS (TABLE c{n - 1} UNION TABLE c{n - 1})" for n in range(1, 40))]
"""Common table expressions: to look into each wherever it is named would never end."""

OPERATIONS = {"select", "insert", "update", "delete", "other"}


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://")
    event.listen(engine, "connect", lambda connection, _: connection.execute("ATTACH ':memory:' AS shop"))
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@contextmanager
def described(engine: Engine, comment: str = "") -> Iterator[list[Statement]]:
    """The statements that are executed, each with its context."""
    seen: list[Statement] = []

    def listener(_: Any, __: Any, statement: str, parameters: Any, context: Any, ___: bool) -> tuple[str, Any]:
        seen.append(describe(statement + comment, context))
        return statement, parameters

    event.listen(engine, "before_cursor_execute", listener, retval=True)
    yield seen
    event.remove(engine, "before_cursor_execute", listener)


def execute(engine: Engine, *executed: Any, comment: str = "") -> list[Statement]:
    with described(engine, comment) as seen, engine.connect() as connection:
        for statement in executed:
            connection.execute(statement)
    return seen


def test_a_statement_that_was_compiled_is_described_once(engine: Engine) -> None:
    one, other = execute(engine, select(USERS.c.id).where(USERS.c.id == 1), select(USERS.c.id).where(USERS.c.id == 2))
    assert one == ("select", "users", one.fingerprint, "SELECT users.id FROM users WHERE users.id = ?")
    assert other is one


def test_the_number_of_elements_makes_no_difference(engine: Engine) -> None:
    one, other = execute(engine, select(USERS).where(USERS.c.id.in_([1])), select(USERS).where(USERS.c.id.in_([1, 2])))
    assert one == other
    assert one.text.endswith("IN (?)")


def test_the_number_of_rows_makes_no_difference(engine: Engine) -> None:
    rows = [{"id": number, "name": "x"} for number in range(3)]
    one, other = execute(engine, insert(USERS).values(rows[:1]), insert(USERS).values(rows[1:]))
    assert one == other


def test_a_literal_of_a_statement_that_was_compiled_is_not_shown(engine: Engine) -> None:
    (statement,) = execute(engine, select(literal_column("'secret'")))
    assert "secret" not in statement.text


def test_names_of_a_statement_that_was_compiled_are_shown(engine: Engine) -> None:
    (statement,) = execute(engine, select(Base.metadata.tables["order"]))
    assert statement.text == 'SELECT "order".id, "order"."group" FROM "order"'


def test_a_comment_of_others_makes_no_difference(engine: Engine) -> None:
    executed = select(USERS.c.id), text("SELECT id FROM users")
    assert execute(engine, *executed, comment=" /*traceparent='1'*/") == execute(engine, *executed)


def test_what_is_executed_beside_a_statement_is_another(engine: Engine) -> None:
    seen = []

    def listener(_: Any, __: Any, ___: str, ____: Any, context: Any, _____: bool) -> None:
        seen.append(describe("SELECT scope_identity() AS lastrowid", context))

    event.listen(engine, "before_cursor_execute", listener)
    with engine.connect() as connection:
        connection.execute(insert(USERS).values(id=1, name="x"))
    assert [statement[:2] for statement in seen] == [("select", "unknown")]


def test_the_schema_is_the_declared_one(engine: Engine) -> None:
    declared = Table("items", MetaData(), Column("id", Integer), schema="tenant")
    with described(engine) as seen, engine.connect() as connection:
        connection.execute(select(declared), execution_options={"schema_translate_map": {"tenant": "shop"}})
    assert [statement[:2] for statement in seen] == [("select", "tenant.items")]
    assert seen[0].text == "SELECT tenant.items.id FROM tenant.items"


def test_text_is_described_once(engine: Engine) -> None:
    with described(engine) as seen, engine.connect() as connection:
        connection.exec_driver_sql("SELECT id FROM users WHERE name = 'secret'")
        connection.exec_driver_sql("SELECT id FROM users WHERE name = 'secret'")
    assert seen[0][:2] == ("select", "users")
    assert seen[0].text == "SELECT id FROM users WHERE name = ?"
    assert seen[1] is seen[0]


def test_a_context_is_not_needed() -> None:
    assert describe("DELETE FROM users", None)[:2] == ("delete", "users")


def test_what_is_remembered_is_bounded() -> None:
    for number in range(MAX_KEPT + 10):
        describe(f"BEGIN {number}", None)
        describe(f"BEGIN {number} {'x' * LONG}", None)
    caches = statements._describe_short, statements._describe_long
    assert [cache.cache_info().currsize for cache in caches] == [MAX_KEPT, MAX_KEPT_LONG]


def test_a_long_text_is_described_once() -> None:
    text = "SELECT id FROM users WHERE id IN (" + "1, " * 50_000
    one, other = describe(text + "2)", None), describe(text + "3)", None)
    assert one[:2] == ("select", "users")
    assert other is one


def test_a_statement_that_was_compiled_goes_with_its_engine() -> None:
    engine = create_engine("sqlite://")
    compiled: list[weakref.ref[Any]] = []

    def listener(_: Any, __: Any, statement: str, ___: Any, context: Any, ____: bool) -> None:
        describe(statement, context)
        compiled.append(weakref.ref(context.compiled))

    event.listen(engine, "before_cursor_execute", listener)
    with engine.connect() as connection:
        connection.execute(select(1))
    engine.dispose()
    del engine, connection
    gc.collect()
    assert [reference() for reference in compiled] == [None]


@pytest.mark.parametrize(("word", "operation"), [("select", "select"), ("nonsense", "other")])
def test_a_failure_is_reported_and_the_operation_told(reported: list[str], word: str, operation: str) -> None:
    statement = describe(f"{word} from", object())  # type: ignore[arg-type]
    assert statement == (operation, "unknown", "0" * 16, "")
    assert reported == ["sqlalchemy.describe"]


@pytest.mark.parametrize(
    "hostile",
    [
        "(" * 100_000,
        "SELECT " + "(" * 900 + "1" + ")" * 900,
        "SELECT '" + "''" * 100_000,
        "/*" * 100_000,
        '"' * 100_001,
        "IN (" * 20_000,
        "VALUES (" * 10_000,
        "CASE WHEN " * 1_000,
        "SELECT " * 1_000,
        "SELECT " + "[" * 100_000,
        "SELECT " + "__[POSTCOMPILE_a~~b" * 5_000,
        f"WITH {', '.join(CHAIN)} TABLE c39",
    ],
    ids=lambda hostile: f"{hostile[:8]}...",
)
def test_a_hostile_text_is_a_statement(hostile: str, reported: list[str]) -> None:
    # In another thread: coverage.py sees nothing more of one that has run out of its stack.
    with ThreadPoolExecutor(1) as executor:
        statement = executor.submit(describe, hostile, None).result(DEADLINE)
    assert (statement.operation in OPERATIONS, statement.table, reported) == (True, "unknown", [])


@given(st.one_of(st.text(), st.binary().map(lambda data: data.decode("utf-8", "surrogateescape"))))
@example("\ud800 select")
def test_any_text_is_a_statement(anything: str) -> None:
    statement = describe(anything, None)
    assert statement.operation in OPERATIONS
    assert (len(statement.fingerprint), len(statement.text) <= 2_000) == (16, True)
    assert statement.fingerprint != "0" * 16  # nothing was reported
