from __future__ import annotations

import logging

import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st

from asgi_obs.integrations.sqlalchemy import parser
from asgi_obs.integrations.sqlalchemy.parser import MAX_PARSED, Target, first_word, parse

READ = [
    ("SELECT * FROM t", "t"),
    ("SELECT * FROM s.t", "s.t"),
    ("SELECT * FROM c.s.t", "c.s.t"),
    ('SELECT * FROM "Order"', "Order"),
    ("SELECT * FROM Users AS u, other", "users"),
    ("SELECT * FROM a JOIN b ON a.x = b.x", "a"),
    ("SELECT * FROM (SELECT * FROM deep) AS x JOIN b ON TRUE", "deep"),
    ("(SELECT a FROM t) UNION SELECT b FROM u", "t"),
    ("WITH x AS (SELECT * FROM t) SELECT * FROM x", "t"),
    ("WITH t AS (SELECT * FROM t) SELECT * FROM t", "t"),
    ("WITH RECURSIVE t AS (SELECT 1 UNION ALL SELECT * FROM t) SELECT * FROM t", "unknown"),
    ("WITH RECURSIVE x AS (SELECT a FROM t UNION ALL SELECT a FROM x) SELECT * FROM x", "t"),
    ("WITH x AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM x", "t"),
    ("SELECT EXISTS (SELECT 1 FROM t)", "t"),
    ("SELECT * FROM generate_series(1, 1)", "unknown"),
    ("SELECT * FROM generate_series(1, 1), t", "t"),
    ("SELECT 1", "unknown"),
    ("SELECT * FROM a; SELECT 1", "a"),
    ("WITH x AS (SELECT 1) SELECT * FROM x, x AS y, t", "t"),
]
WRITTEN = [
    ("INSERT INTO s.t (a) VALUES (1)", Target("insert", "s.t")),
    ("INSERT INTO t SELECT * FROM u", Target("insert", "t")),
    ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", Target("insert", "t")),
    ("REPLACE INTO t VALUES (1)", Target("insert", "t")),
    ("UPDATE t SET a = 1 FROM u", Target("update", "t")),
    ("UPDATE u SET a = 1 FROM users u", Target("update", "users")),
    ("UPDATE s.t SET a = 1", Target("update", "s.t")),
    ("UPDATE ONLY t SET a = 1", Target("update", "t")),
    ("DELETE FROM t USING u WHERE t.a = u.a", Target("delete", "t")),
]
OTHER = [
    ("EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM t", "t"),
    ("EXPLAIN ANALYZE DELETE FROM t", "t"),
    ("EXPLAIN QUERY PLAN SELECT * FROM t", "t"),
    ("EXPLAIN " * 10_000, "unknown"),
    ("PRAGMA main.table_info(t)", "t"),
    ("PRAGMA foreign_keys = 1", "unknown"),
    ("VACUUM", "unknown"),
    ("VACUUM (FULL) s.t", "s.t"),
    ("LOCK TABLE t IN SHARE MODE", "t"),
    ("REFRESH MATERIALIZED VIEW CONCURRENTLY t", "t"),
    ("ANALYZE t", "t"),
    ("COMMENT ON TABLE t IS ''", "t"),
    ("comment on table t is ''", "t"),
    ("COMMENT ON MATERIALIZED VIEW s.t IS NULL", "s.t"),
    ("COMMENT ON FUNCTION f(int) IS ''", "unknown"),
    ("TRUNCATE TABLE t", "t"),
    ("COPY t FROM ''", "t"),
    ("MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE", "t"),
    ("CREATE TABLE s.t (a int)", "s.t"),
    ("CREATE INDEX i ON t (a)", "t"),
    ("CREATE FUNCTION f() RETURNS int AS '' LANGUAGE sql", "unknown"),
    ("DROP TABLE IF EXISTS t", "t"),
    ("DROP INDEX i", "unknown"),
    ("ALTER TABLE t ADD a int", "t"),
    ("BEGIN", "unknown"),
    ("SET a = 1", "unknown"),
    ("CALL f(1)", "unknown"),
    ("", "unknown"),
    (";", "unknown"),
]


@pytest.mark.parametrize(("text", "table"), READ)
def test_the_table_of_what_is_read_is_the_first_real_one(text: str, table: str) -> None:
    assert parse(text, "postgresql").table == table


@pytest.mark.parametrize(("text", "target"), WRITTEN)
def test_the_table_of_what_is_written_is_that(text: str, target: Target) -> None:
    assert parse(text, "postgresql") == target


@pytest.mark.parametrize(("text", "table"), OTHER)
def test_the_others_have_a_table_too_where_there_is_one(text: str, table: str) -> None:
    assert parse(text, "postgresql") == Target("other", table)


@pytest.mark.parametrize(
    ("dialect", "text", "table"),
    [
        ("sqlite", "SELECT * FROM Users", "Users"),
        ("mysql", "SELECT * FROM `Users`", "Users"),
        ("mssql", "SELECT TOP 1 * FROM [dbo].[My Users]", "dbo.My Users"),
        ("oracle", "SELECT * FROM USERS", "users"),
        ("none that is known", "SELECT * FROM users", "users"),
        ("none, with a comma", "SELECT * FROM users", "users"),
    ],
)
def test_names_are_those_that_sqlalchemy_has(dialect: str, text: str, table: str) -> None:
    assert parse(text, dialect).table == table


@pytest.mark.parametrize(
    ("text", "operation"),
    [
        ("SELECT FROM FROM WHERE", "select"),
        ("(update set set", "update"),
        ("nonsense of somebody", "other"),
        ("SELECT " + "1, " * MAX_PARSED + "1 FROM t", "select"),  # noqa: S608 - not executed
    ],
)
def test_what_does_not_parse_has_its_operation(text: str, operation: str) -> None:
    assert parse(text, "postgresql") == Target(operation, "unknown")


@pytest.mark.parametrize("text", ["SELECT", "  -- c\n (/* d */ select", "((SELECT 1))"])
def test_the_first_word_is_behind_comments_and_parentheses(text: str) -> None:
    assert first_word(text) == "select"


@pytest.mark.parametrize("text", ["", "/* never ends", "-- x", "/**/" * 5_000 + "1", "(" * 5_000])
def test_there_may_be_no_first_word(text: str) -> None:
    assert first_word(text) == ""


def test_nothing_is_logged_of_what_does_not_parse(caplog: pytest.LogCaptureFixture) -> None:
    parse("GRANT nonsense TO somebody FOR something", "postgresql")
    parse("CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END", "sqlite")
    assert caplog.messages == []


def test_what_others_parse_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    parse("SELECT 1 FROM t", "postgresql")
    sqlglot.parse_one("EXPLAIN SELECT 1")
    assert [record.name for record in caplog.records if record.levelno == logging.WARNING] == ["sqlglot"]


def test_no_statement_waits_for_an_import() -> None:
    assert vars(parser)["sqlglot"] is sqlglot


@given(st.text(), st.sampled_from(["postgresql", "sqlite", "mysql", "mssql", "oracle", ""]))
def test_any_text_has_a_target(text: str, dialect: str) -> None:
    assert parse(text, dialect).operation in {"select", "insert", "update", "delete", "other"}
