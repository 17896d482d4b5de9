"""What a statement is: its operation, its table, and what it has in common with those that differ in values only.

What SQLAlchemy compiled is described once, and the description stays with it; so it goes when the compiled statement
leaves SQLAlchemy's cache. Other SQL is described once for each text. Looking up either takes some tenths of a µs.

No more than the first 20,000 characters of a statement are read. A text that is new takes up to some 50 ms, and what
it takes to parse it without its values; of long texts fewer are remembered.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from asgi_obs.errors import report
from asgi_obs.integrations.sqlalchemy.lexer import MAX_LENGTH, LexicalRules
from asgi_obs.integrations.sqlalchemy.normal import Normal, normalize
from asgi_obs.integrations.sqlalchemy.parser import OPERATIONS, UNKNOWN, Target, first_word, parse
from asgi_obs.integrations.sqlalchemy.tables import target_of

if TYPE_CHECKING:
    from sqlalchemy.engine import ExecutionContext

__all__ = ["Statement", "describe"]

MAX_KEPT: Final = 1_000
"""Texts that are remembered, of statements that SQLAlchemy did not compile."""

MAX_KEPT_LONG: Final = 50
"""Long texts that are remembered."""

LONG: Final = 5_000
"""Characters; a text that has more is a long one."""

_KEY: Final = "_asgi_obs_statement"
"""The attribute of a compiled statement that holds its description."""

# Where SQLAlchemy will put the schema of an execution.
_SCHEMA: Final = re.compile(r"__\[SCHEMA_([^\]]+)\]")


class Statement(NamedTuple):
    """What a statement is.

    Attributes:
        operation: `select`, `insert`, `update`, `delete` or `other`.
        table: The main table, with its schema if it has one; `unknown` where there is none.
        fingerprint: 16 hex digits; statements that differ in values only have the same.
        text: The statement without values, for log lines; at most 2,000 characters.
    """

    operation: str
    table: str
    fingerprint: str
    text: str


def describe(text: str, context: ExecutionContext | None) -> Statement:
    """What a statement is; never raises.

    Args:
        text: The statement as the driver gets it.
        context: SQLAlchemy's context of its execution; None if there is none.
    """
    try:
        if context is None:
            return _remembered(text, "")
        compiled: Any = context.compiled
        dialect: Any = context.dialect
        if compiled is None:
            # As it was before somebody put a comment into it, which may be another one each time.
            return _remembered(getattr(context, "statement", text), dialect.name, _backslash(dialect))
        if not _is_of(text, context, compiled):
            return _remembered(text, dialect.name, _backslash(dialect))
        return compiled.__dict__.get(_KEY) or _describe_once(compiled)
    except Exception as error:  # noqa: BLE001 - fail open: a statement is more than what is told of it
        report("sqlalchemy.describe", error)
        return _unclear(text)


def _is_of(text: str, context: Any, compiled: Any) -> bool:
    """Whether a text is that of the context's own statement.

    It may have got a comment, or be a batch of an insertmanyvalues. With the same context SQLAlchemy executes what a
    statement needs beside it: the default of a column, or `SELECT scope_identity()`.
    """
    own: str = compiled.string
    return (
        text is getattr(context, "statement", None)
        or text.startswith(own[:7])  # as far as the operation goes
        or first_word(text) == first_word(own)
    )


def _describe_once(compiled: Any) -> Statement:
    rules = LexicalRules(compiled.dialect.name, _backslash(compiled.dialect))
    text = _SCHEMA.sub(lambda found: found[1], compiled.string) if compiled.schema_translate_map else compiled.string
    target = target_of(compiled)
    normal = normalize(text, rules, generated=target is not None)
    statement = _statement(target or parse(normal.parsable, rules.dialect), normal)
    setattr(compiled, _KEY, statement)
    return statement


def _backslash(dialect: Any) -> bool:
    # PostgreSQL and MySQL have asked their server.
    return getattr(dialect, "_backslash_escapes", False)


def _remembered(text: str, dialect: str, backslash: bool = False) -> Statement:  # noqa: FBT001, FBT002 - for the cache
    describe_text = _describe_short if len(text) <= LONG else _describe_long
    return describe_text(text[:MAX_LENGTH], dialect, backslash)


def _describe_text(text: str, dialect: str, backslash: bool) -> Statement:  # noqa: FBT001 - as above
    normal = normalize(text, LexicalRules(dialect, backslash), generated=False)
    return _statement(parse(normal.parsable, dialect), normal)


_describe_short: Final = lru_cache(MAX_KEPT)(_describe_text)
_describe_long: Final = lru_cache(MAX_KEPT_LONG)(_describe_text)


def _statement(target: Target, normal: Normal) -> Statement:
    return Statement(target.operation, target.table, normal.fingerprint, normal.text)


def _unclear(text: str) -> Statement:
    """What can be told of a statement when nothing else can."""
    word = first_word(text)
    return Statement(word if word in OPERATIONS else "other", UNKNOWN, "0" * 16, "")
