from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_obs.redaction.values import (
    bare_end,
    block_end,
    bracket_end,
    closing_quote,
    expression_end,
    line_end,
    opening_quote,
    value_end,
)


def content(text: str) -> str:
    """What is in the string that the text begins with."""
    opening = opening_quote(text, 0)
    assert opening is not None
    return text[opening.end() : closing_quote(text, opening)[0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"x", "y"', "x"),
        ("b'x'", "x"),
        (r'"a\"b" c', r"a\"b"),
        (r'"a\\", c', r"a\\"),
        (r'"a\\" b", c', r'a\\" b'),
        ("'it''s' c", "it''s"),
        ("'it's' c", "it's"),
        ('"""a"b""" c', 'a"b'),
        ('"" c', ""),
        ('"cut off', "cut off"),
        ('"cut off\nnext', "cut off"),
        ('"cut off\n  more\nnext', "cut off\n  more"),
        ('"""cut off\nnext', "cut off\nnext"),
        (r"\"x\", \"y\"", "x"),
        (r"\"a\\\"b\", c", r"a\\\"b"),
        (r'\"cut" c', "cut"),
        ("`x` y", "x"),
    ],
)
def test_a_string_ends_at_its_own_quote(text: str, expected: str) -> None:
    assert content(text) == expected


@given(st.text(), st.integers(1, 4))
def test_json_within_json_ends_where_it_should(text: str, depth: int) -> None:
    written = json.dumps(text)
    for _ in range(depth):
        written = json.dumps(written)[1:-1]

    assert len(content(f"{written}, and more")) == len(written) - 2 * (written.index('"') + 1)


def test_what_has_no_quote_is_no_string() -> None:
    assert opening_quote("x'", 0) is None


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("(a)b", 3),
        ("[a, (b), {c}] d", 13),
        ("{'}': '\\''} d", 11),
        ('{"a": "]"} d', 10),
        ("(it's) d", 6),
        ("(b'x)') d", 7),
        ("(a", 2),
        ("('a", 3),
        ("(a\nb", 2),
        ("(a\n b\n c\nd", 8),
        ("(\n  a\n) b", 7),
        ("(a\r\n b) c", 7),
        ("('a\n', b) c", 9),
    ],
)
def test_a_bracket_ends_where_it_is_closed(text: str, end: int) -> None:
    assert bracket_end(text, 0) == end


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("a b", 1),
        ("a,b", 1),
        ("a&b", 1),
        ("a;b", 1),
        ("a'", 1),
        ("a'b c", 3),
        ("a)b c", 3),
        ("a) c", 1),
        ("a(b c) d", 6),
        ("a<b c", 3),
        ("a</b>", 1),
        ("<a b> c", 5),
        ("<a b", 2),
        (r"a\b c", 3),
        (r"a\nb", 1),
        (r"a\\nb", 1),
        (r"a\"", 1),
        ("a\\", 2),
        ("", 0),
    ],
)
def test_a_bare_value_ends_at_what_separates(text: str, end: int) -> None:
    assert bare_end(text, 0) == end


def test_a_bracket_below_which_the_lines_are_indented_less_is_not_closed_by_them() -> None:
    text = "    f(\n  File 'a', line 7\n    )"

    assert bracket_end(text, 5) == 6


def test_a_bracket_does_not_reach_over_many_lines_that_are_not_indented() -> None:
    assert bracket_end("[\n" + "a\n" * 1000 + "]", 0) == 1
    assert bracket_end("[\n" + " a\n" * 1000 + "]", 0) == 3003


@pytest.mark.parametrize(("text", "end"), [("'a b' c", 5), ("a b", 1)])
def test_a_value_ends_with_quotes_or_without(text: str, end: int) -> None:
    assert value_end(text, 0) == end


@pytest.mark.parametrize(
    ("text", "end"),
    [("a or 'b' c", 8), ("a or b or f('c') d", 16), ("a | b = c d", 9), ("a or b", 1), ("a and b = 'c'", 1), ("a", 1)],
)
def test_an_expression_ends_with_its_last_text(text: str, end: int) -> None:
    assert expression_end(text, 1) == end


@pytest.mark.parametrize(("text", "end"), [("a\nb", 1), ("a\r\n", 1), (r"a\nb", 1), ("ab", 2)])
def test_a_line_ends_also_with_an_escape(text: str, end: int) -> None:
    assert line_end(text, 0) == end


@pytest.mark.parametrize(("text", "end"), [("  a\n  b\nc", 7), ("  a\n   b", 8), ("a\n b", 0)])
def test_a_block_ends_where_its_indentation_does(text: str, end: int) -> None:
    assert block_end(text, 0) == end
