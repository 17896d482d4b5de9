from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_obs.integrations.sqlalchemy.lexer import MAX_LENGTH, LexicalRules
from asgi_obs.integrations.sqlalchemy.normal import MAX_TEXT, Normal, normalize


def normal(text: str, dialect: str = "postgresql", *, generated: bool = False) -> Normal:
    return normalize(text, LexicalRules(dialect), generated=generated)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("SELECT a FROM t WHERE b = 'x' AND c > 1.5", "SELECT a FROM t WHERE b = ? AND c > ?"),
        ("SELECT  a\n\tFROM t -- why\n", "SELECT a FROM t"),
        ("SELECT a FROM t WHERE b IN (1, 2, 3)", "SELECT a FROM t WHERE b IN (?)"),
        ("SELECT a FROM t WHERE (b, c) IN ((1, 2), (3, 4))", "SELECT a FROM t WHERE (b, c) IN ((?, ?))"),
        ("SELECT a FROM t WHERE b IN (SELECT c, c FROM u)", "SELECT a FROM t WHERE b IN (SELECT c, c FROM u)"),
        ("SELECT a FROM t WHERE b IN (1, c, 2)", "SELECT a FROM t WHERE b IN (?, c)"),
        ("INSERT INTO t VALUES (1, now()), (2, now())", "INSERT INTO t VALUES (?, now())"),
        ("INSERT INTO t VALUES (1), (DEFAULT) RETURNING a", "INSERT INTO t VALUES (?), (DEFAULT) RETURNING a"),
        ("SELECT a FROM t WHERE b = -1 AND c = NULL", "SELECT a FROM t WHERE b = ? AND c = ?"),
        ("SELECT a - 1 FROM t", "SELECT a - ? FROM t"),
        ("SELECT -a FROM t", "SELECT -a FROM t"),
        ("SELECT a FROM t WHERE b IS NOT NULL AND t.true", "SELECT a FROM t WHERE b IS NOT NULL AND t.true"),
        ("SELECT -", "SELECT -"),
        ("IN", "IN"),
        ("SELECT a IN (1, 2", "SELECT a IN (?"),
        ("VALUES (1", "VALUES (?"),
        ("VALUES (1), (2, 3", "VALUES (?)"),
    ],
)
def test_values_are_not_shown(text: str, shown: str) -> None:
    assert normal(text).text == shown


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT a FROM t WHERE b = 1", "select a from t where b = 'x'"),
        ("SELECT a FROM t WHERE b = 1", "SELECT a FROM t WHERE b=%(b)s"),
        ("SELECT a FROM t WHERE b IN (1)", "SELECT a FROM t WHERE b IN (1, -2, 3)"),
        ("SELECT a FROM t", "SELECT a /* x */ FROM t /*traceparent='00-1'*/"),
        ("SELECT a FROM t WHERE b = TRUE", "SELECT a FROM t WHERE b = $1"),
        ("INSERT INTO t VALUES (1, 2)", "INSERT INTO t VALUES (1, 2), (-3, NULL), ('x', $$y$$)"),
    ],
)
def test_statements_that_differ_in_values_have_one_fingerprint(one: str, other: str) -> None:
    assert normal(one).fingerprint == normal(other).fingerprint


@pytest.mark.parametrize(
    "other",
    [
        "SELECT b FROM t",
        "SELECT a FROM u",
        'SELECT "a" FROM t',
        "SELECT a FROM t WHERE a IS NULL",
        "SELECT a, a FROM t",
    ],
)
def test_other_statements_have_another_fingerprint(other: str) -> None:
    assert normal(other).fingerprint != normal("SELECT a FROM t").fingerprint


def test_a_fingerprint_has_16_hex_digits() -> None:
    assert normal("SELECT 1").fingerprint == "b9a4c90ce4157373"


def test_the_rows_of_a_statement_that_was_cut_do_not_count() -> None:
    row = "(%s, %s), "
    one = normal("INSERT INTO t VALUES " + row * (MAX_LENGTH // len(row)) + "(1, 2)")  # noqa: S608 - not executed
    assert one.fingerprint == normal("INSERT INTO t VALUES (1, 2)").fingerprint


def test_a_list_that_was_cut_parses() -> None:
    one = normal("SELECT a FROM t WHERE b IN (" + "1, " * MAX_LENGTH + "1) AND c")  # noqa: S608 - not executed
    assert one.parsable == "SELECT a FROM t WHERE b IN (1)"


def test_a_long_statement_is_shortened() -> None:
    shown = normal("SELECT " + ", ".join(f"column_{number}" for number in range(1000))).text
    assert (len(shown), shown[-3:]) == (MAX_TEXT, "...")


def test_double_quotes_of_sqlite_may_be_a_string() -> None:
    text = 'SELECT "a", t."b" FROM "t" WHERE c = "secret"'
    assert normal(text, "sqlite").text == 'SELECT "?", t."b" FROM "t" WHERE c = "?"'
    assert normal(text, "sqlite", generated=True).text == text
    assert normal(text, "postgresql").text == text


def test_a_parser_gets_values_that_parse_everywhere() -> None:
    assert normal("SELECT a %% %s FROM t WHERE b = 'x' AND c IN (1, 2)").parsable == (
        "SELECT a % 1 FROM t WHERE b = '' AND c IN (1)"
    )


@given(st.text(), st.sampled_from(["postgresql", "sqlite", "mssql", "oracle"]))
def test_no_value_is_shown(value: str, dialect: str) -> None:
    quoted = value.replace("'", "''")
    assert normal(f"SELECT a FROM t WHERE b = '{quoted}' AND c = 1", dialect).text == (  # noqa: S608 - not executed
        "SELECT a FROM t WHERE b = ? AND c = ?"
    )


@given(st.text())
def test_no_value_is_shown_where_a_backslash_escapes(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    shown = normalize(f"SELECT a FROM t WHERE b = '{quoted}' AND c = 1", LexicalRules("mysql", True), generated=False)  # noqa: S608 - not executed
    assert shown.text == "SELECT a FROM t WHERE b = ? AND c = ?"


@given(st.text(), st.sampled_from(["''", "\\'"]))
def test_no_value_is_shown_where_it_is_unknown_whether_a_backslash_escapes(value: str, quote: str) -> None:
    backslash = "\\" if quote == "''" else "\\\\"
    quoted = value.replace("\\", backslash).replace("'", quote)
    shown = normal(f"SELECT a FROM t WHERE b = '{quoted}'", "").text  # noqa: S608 - not executed
    assert shown == "SELECT a FROM t WHERE b = ?"
