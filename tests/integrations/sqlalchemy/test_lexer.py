from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_obs.integrations.sqlalchemy.lexer import MAX_LENGTH, LexicalRules, tokens_of

DIALECTS = ["postgresql", "sqlite", "mysql", "mariadb", "mssql", "oracle", "cockroachdb", "snowflake", ""]


POSTCOMPILE = "__[POSTCOMPILE_a_1~~CAST(~~REPL~~ AS INTEGER[])~~]"
"""Of a type that puts something around each value."""

HOSTILE = ["[", "__[POSTCOMPILE_", "__[POSTCOMPILE_a~~b", "%(a", "E''\n", "\n", "$a", "/*", "'\\"]


def kinds(text: str, dialect: str = "postgresql", *, backslash: bool = False) -> list[tuple[str, str]]:
    return [(token.kind, token.text) for token in tokens_of(text, LexicalRules(dialect, backslash))]


@pytest.mark.parametrize(
    ("dialect", "literal"),
    [
        ("postgresql", "'it''s'"),
        ("postgresql", "'C:\\'"),
        ("postgresql", r"E'it\'s'"),
        ("postgresql", "E'a'\n  'it\\'s'"),
        ("postgresql", "$$it's$$"),
        ("postgresql", "$body$it's $$ $body$"),
        ("postgresql", "U&'\\0041'"),
        ("postgresql", "X'ff'"),
        ("postgresql", "'never ends"),
        ("sqlite", "'C:\\'"),
        ("mssql", "N'x'"),
        ("oracle", "q'[it's]'"),
        ("oracle", "nq'!it's!'"),
        ("oracle", "Q'{it's}'"),
        ("mysql", '"x"'),
        ("", r"'it\'s' and what follows"),
        ("snowflake", r"'it\'s' and what follows"),
    ],
)
def test_a_string_is_one_token(dialect: str, literal: str) -> None:
    assert kinds(literal, dialect) == [("string", literal)]


def test_a_backslash_escapes_a_quote_where_the_server_says_so() -> None:
    assert kinds(r"'it\'s'", "mysql", backslash=True) == [("string", r"'it\'s'")]
    assert kinds("'it\\", "mysql", backslash=True) == [("string", "'it\\")]


@pytest.mark.parametrize(
    ("dialect", "name"),
    [("postgresql", '"a""b"'), ("mysql", "`a``b`"), ("mssql", "[a]]b]"), ("sqlite", "[it's]"), ("sqlite", '"it\'s"')],
)
def test_a_name_in_quotes_is_one_token(dialect: str, name: str) -> None:
    assert kinds(name, dialect) == [("quoted", name)]


@pytest.mark.parametrize("text", ['"never ends', "`never ends"])
def test_a_name_that_never_ends_is_no_name(text: str) -> None:
    assert kinds(text) == [("unterminated", text)]


@pytest.mark.parametrize("dialect", ["mssql", "sqlite"])
def test_a_name_in_brackets_that_never_ends_takes_the_rest(dialect: str) -> None:
    assert kinds("[a] [never ends [b", dialect) == [("quoted", "[a]"), ("unterminated", "[never ends [b")]


def test_brackets_of_others_are_signs() -> None:
    assert kinds("a[b]") == [("word", "a"), ("sign", "["), ("word", "b"), ("sign", "]")]


@pytest.mark.parametrize("number", ["1", "1.5", "1e-5", "1.5E+10", ".5", "0xFF", "1_000"])
def test_a_number_is_one_token(number: str) -> None:
    assert kinds(number) == [("number", number)]


@pytest.mark.parametrize(
    "placeholder", ["?", "?1", ":name", "%s", "%(a b)s", "$1", "@p1", "__[POSTCOMPILE_a~b_1]", POSTCOMPILE]
)
def test_a_placeholder_of_any_driver_is_one_token(placeholder: str) -> None:
    assert kinds(placeholder, "sqlite") == [("placeholder", placeholder)]


def test_a_question_mark_is_an_operator_of_postgresql() -> None:
    assert kinds("data ? key") == [("word", "data"), ("sign", "?"), ("word", "key")]


def test_a_cast_is_no_placeholder() -> None:
    assert kinds("$1::int") == [("placeholder", "$1"), ("sign", "::"), ("word", "int")]


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        ("postgresql", "a -- it's\n b"),
        ("postgresql", "a /* it's /* more */ here */ b"),
        ("sqlite", "a /* it's /* more */ b"),
        ("mysql", "a # it's\n b"),
        ("mysql", "a -- it's\n b"),
    ],
)
def test_comments_are_left_out(dialect: str, text: str) -> None:
    assert kinds(text, dialect) == [("word", "a"), ("word", "b")]


def test_a_comment_that_never_ends_takes_the_rest() -> None:
    assert kinds("a /* b /* */ c") == [("word", "a")]


def test_two_dashes_are_no_comment_of_mysql_without_a_space() -> None:
    assert kinds("5--1", "mysql") == [("number", "5"), ("sign", "-"), ("sign", "-"), ("number", "1")]


def test_what_is_behind_the_limit_is_ignored() -> None:
    assert kinds(" " * MAX_LENGTH + "a") == []


@given(st.text(), st.sampled_from(DIALECTS), st.booleans())
@example("'" * 1000, "", False)
@example("$" * 1000, "postgresql", False)
def test_any_text_has_tokens_that_are_in_it(text: str, dialect: str, backslash: bool) -> None:
    tokens = tokens_of(text, LexicalRules(dialect, backslash))
    assert [token.text for token in tokens if token.text not in text] == []


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("repeated", HOSTILE)
def test_a_long_hostile_text_has_tokens_that_are_in_it(dialect: str, repeated: str) -> None:
    text = "E''" + repeated * (5 * MAX_LENGTH // len(repeated)) + "x"
    tokens = kinds(text, dialect)
    assert tokens[0][0] == "string"
    assert [token for _, token in tokens if token not in text] == []
