"""A statement without its values: what statements that differ in values only have in common.

Literals and placeholders are all `?`, the elements of an IN list and the rows of a VALUES that are the same then are
one, and comments are gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

from asgi_obs.integrations.sqlalchemy.lexer import LexicalRules, Token, tokens_of

__all__ = ["MAX_TEXT", "Normal", "normalize"]

MAX_TEXT: Final = 2_000
"""Characters of a statement that a log line has."""

# Databases to which double quotes are one thing only.
_STRICT: Final = frozenset({"postgresql", "cockroachdb", "mssql", "oracle", "mysql", "mariadb"})
_VALUES: Final = frozenset({"string", "number", "placeholder", "unterminated"})
_CONSTANTS: Final = frozenset({"null", "true", "false"})
# Behind these NULL is no value, and has its name as a column behind a dot.
_KEEPS_CONSTANT: Final = frozenset({"is", "not", "."})
_MINUS: Final = frozenset({"-", "+"})
_STARTS_OPERAND: Final = frozenset("(,=<>*/%|[&") | {
    *("select", "in", "values", "and", "or", "not", "between", "when", "then", "else", "limit", "offset", "by", "like"),
    *("return", "returning", "default", "set", "distinct", "on", "having", "where", "case"),
}
_SUBQUERY: Final = frozenset({"select", "with", "values", "table"})
# What the parser gets for a value.
_STAND_INS: Final = {"string": "''", "number": "1", "placeholder": "1"}
_BEFORE_NAME: Final = r"(?:\b(?:from|join|into|update|table|index|on|as|exists|only)\s*|\.)"
_MAYBE_STRING: Final = re.compile(rf'({_BEFORE_NAME})?"(?:[^"]|"")*"(\.)?', re.IGNORECASE)


class Normal(NamedTuple):
    """What a statement is without its values.

    Attributes:
        fingerprint: 16 hex digits that such statements have in common.
        text: For people; shortened.
        parsable: For a parser: SQL that asks for the same of the same tables. A parenthesis that is open where the
            statement was cut is closed.
    """

    fingerprint: str
    text: str
    parsable: str


def normalize(text: str, rules: LexicalRules, *, generated: bool) -> Normal:
    """Take the values out of a statement.

    Args:
        text: The statement.
        rules: What its words look like.
        generated: SQLAlchemy wrote it, and so what is in double quotes is a name. SQLite (and who knows which other)
            takes it for a string where no column has that name: then it may be a value, and is not shown.
    """
    tokens = list(_without_repeats(list(_without_values(tokens_of(text, rules)))))
    key = " ".join(token.text if token.kind == "quoted" else token.text.lower() for token in tokens)
    shown = _join(tokens, {})
    if not generated and rules.dialect not in _STRICT:
        shown = _MAYBE_STRING.sub(lambda found: found[0] if found[1] or found[2] else '"?"', shown)
    if len(shown) > MAX_TEXT:
        shown = f"{shown[: MAX_TEXT - 3]}..."
    return Normal(_digest(key), shown, _join(tokens, _STAND_INS) + ")" * _depth(tokens))


def _depth(tokens: list[Token]) -> int:
    signs = [token.text for token in tokens if token.kind == "sign"]
    return signs.count("(") - signs.count(")")


def _digest(key: str) -> str:
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _join(tokens: list[Token], stand_ins: dict[str, str]) -> str:
    parts = (f" {written}" if token.gap else written for token in tokens for written in (_write(token, stand_ins),))
    return "".join(parts).strip()


def _write(token: Token, stand_ins: dict[str, str]) -> str:
    return stand_ins.get(token.kind, "%" if stand_ins and token.text == "%%" else token.text)


def _without_values(tokens: list[Token]) -> Iterator[Token]:
    """Every value as `?`, and its sign with it."""
    before = ""
    held: Token | None = None  # a sign that may be that of a number
    for token in tokens:
        word = token.text.lower() if token.kind != "quoted" else token.text
        is_value = token.kind in _VALUES or (word in _CONSTANTS and before not in _KEEPS_CONSTANT)
        if held is not None and not is_value:
            yield held
        gap = token.gap if held is None or not is_value else held.gap
        held = None
        if is_value:
            yield Token(token.kind if token.kind in _VALUES else "number", "?", gap)
            word = "?"
        elif word in _MINUS and (before in _STARTS_OPERAND or not before):
            held = token
        else:
            yield token
        before = word
    if held is not None:
        yield held


def _without_repeats(tokens: list[Token]) -> Iterator[Token]:
    """The elements of `IN (...)` and the rows of `VALUES (...), (...)` once each."""
    place = 0
    while place < len(tokens):
        token = tokens[place]
        yield token
        place += 1
        word = token.text.lower()
        if word in {"in", "values"} and token.kind == "word" and _text(tokens, place) == "(":
            elements, place = _elements(tokens, place) if word == "in" else _rows(tokens, place)
            yield from _once(tokens, elements)


def _text(tokens: list[Token], place: int) -> str:
    return tokens[place].text.lower() if place < len(tokens) else ""


def _once(tokens: list[Token], elements: list[tuple[int, int]]) -> Iterator[Token]:
    seen = set()
    for start, end in elements:
        element = " ".join(token.text.lower() for token in tokens[start:end]).lstrip(", ")
        if element not in seen:
            seen.add(element)
            yield from tokens[start:end]


def _elements(tokens: list[Token], start: int) -> tuple[list[tuple[int, int]], int]:
    """Where the elements of a list are, each with what is in front of it, and the place behind them."""
    if _text(tokens, start + 1) in _SUBQUERY:
        return [], start
    elements: list[tuple[int, int]] = [(start, start + 1)]
    depth, begun = 0, start + 1
    for place in range(start, len(tokens)):
        word = tokens[place].text
        depth += (word == "(") - (word == ")")
        if depth == 0 or (depth == 1 and word == ","):
            elements.append((begun, place))
            begun = place
        if depth == 0:
            return elements, place
    # The statement was cut in its middle, and so may be the last.
    return elements, len(tokens)


def _rows(tokens: list[Token], start: int) -> tuple[list[tuple[int, int]], int]:
    rows: list[tuple[int, int]] = []
    depth, begun = 0, start
    for place in range(start, len(tokens)):
        word = tokens[place].text
        depth += (word == "(") - (word == ")")
        if depth == 0 and word == ")":
            rows.append((begun, place + 1))
            begun = place + 1
            if _text(tokens, begun) != "," or _text(tokens, begun + 1) not in {"(", ""}:
                return rows, begun
    return rows or [(start, len(tokens))], len(tokens)
