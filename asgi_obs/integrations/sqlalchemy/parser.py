"""Operation and table of a statement that SQLAlchemy did not write, by sqlglot.

A parse takes 0.1 to 50 ms; it gets the statement without values, so that those which differ in values only are parsed
once. The import of sqlglot takes some 70 ms, at start-up: no statement waits for it.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

import sqlglot
from sqlglot import exp

__all__ = ["OPERATIONS", "UNKNOWN", "Target", "first_word", "parse"]

OPERATIONS: Final = frozenset({"select", "insert", "update", "delete"})
"""The guide's; the fifth is `other`."""

UNKNOWN: Final = "unknown"
"""The table of what has none, or none that can be told."""

MAX_PARSED: Final = 20_000
"""Characters of a statement; one that has so many, and may have been cut, is not parsed: it has its operation only."""

MAX_KEPT: Final = 1_000
"""Statements whose target is remembered."""

_NAME: Final = r"""(?:"(?:[^"]|"")+"|`[^`]+`|\[[^\]]+\]|[^\W\d][\w$]*)"""
_QUALIFIED: Final = rf"{_NAME}(?:\s*\.\s*{_NAME})*"
_FIRST_WORD: Final = re.compile(r"(?:\s|\(|--[^\n]*(?:\n|\Z)|/\*(?:[^*]|\*(?!/))*(?:\*/|\Z))*([^\W\d]\w*)")
_EXPLAIN: Final = re.compile(
    r"(?:explain\s+(?:(?:query\s+plan|plan\s+for|analyze|verbose|extended|\([^()]*\)|format\s*=\s*\w+)\s*)*)+",
    re.IGNORECASE,
)
# Statements that sqlglot, or one of its versions, does not look into.
_COMMANDS: Final = re.compile(
    r"(?:vacuum(?:\s+(?:full|freeze|verbose|analyze|\([^()]*\)))*|lock(?:\s+tables?)?(?:\s+only)?|reindex(?:\s+table)?"
    r"|analyze(?:\s+(?:table|verbose))*|cluster|comment\s+on\s+(?:table|(?:materialized\s+)?view)"
    r"|refresh\s+materialized\s+view(?:\s+concurrently)?|optimize\s+table|repair\s+table"
    rf"|pragma\s+(?:{_NAME}\s*\.\s*)?(?:table_x?info|index_list|foreign_key_list)\s*[(=])\s*({_QUALIFIED})",
    re.IGNORECASE,
)
_REPLACE: Final = re.compile(r"replace\s+(?:into\s+)?", re.IGNORECASE)
_TABLELESS: Final = frozenset(
    (
        *("abort", "attach", "begin", "call", "checkpoint", "close", "commit", "deallocate", "declare", "detach"),
        *("discard", "do", "end", "exec", "execute", "fetch", "kill", "listen", "notify", "pragma", "prepare"),
        *("release", "reset", "rollback", "savepoint", "set", "show", "start", "unlisten", "unlock", "use", "vacuum"),
    )
)
_DIALECTS: Final = {"postgresql": "postgres", "cockroachdb": "postgres", "mssql": "tsql", "mariadb": "mysql"}
# These keep names as they are written; the others take one without quotes for lower case, as SQLAlchemy does.
_KEEPS_CASE: Final = frozenset({"mysql", "tsql", "sqlite"})
_TABLE_KINDS: Final = frozenset({None, "TABLE", "VIEW", "MATERIALIZED VIEW", "COLUMN"})
# What a statement is about comes first, then what it reads from; common table expressions are looked up by name.
_FIRST: Final = ("this", "tables", "table", "from", "from_", "joins")
_BY_NAME: Final = frozenset({"with", "with_"})


class Target(NamedTuple):
    """What a statement does.

    Attributes:
        operation: `select`, `insert`, `update`, `delete` or `other`.
        table: The main table, with its schema if it is written; `unknown` where there is none.
    """

    operation: str
    table: str


class _Quiet(threading.local):
    """Whether this thread is parsing for us: nobody else's lines of sqlglot are dropped."""

    parsing = False

    def filter(self, _: logging.LogRecord) -> bool:
        return not self.parsing


_quiet = _Quiet()


def first_word(text: str) -> str:
    """The first word of a statement, in lower case, behind comments and parentheses; empty if there is none."""
    found = _FIRST_WORD.match(text)
    return found[1].lower() if found else ""


@lru_cache(MAX_KEPT)
def parse(text: str, dialect: str) -> Target:
    """What a statement does.

    Args:
        text: The statement, without values.
        dialect: The name that SQLAlchemy has for the database.
    """
    word = first_word(text)
    if word == "explain":
        return Target("other", parse(_EXPLAIN.sub("", text, count=1), dialect).table)
    if word == "replace":
        text, word = _REPLACE.sub("INSERT INTO ", text, count=1), "insert"
    if found := _COMMANDS.match(text):
        return Target("other", parse(f"SELECT * FROM {found[1]}", dialect).table)  # noqa: S608 - parsed only
    operation = word if word in OPERATIONS else "other"
    if not word or word in _TABLELESS or len(text) >= MAX_PARSED:
        return Target(operation, UNKNOWN)
    return _parsed(text, _DIALECTS.get(dialect, dialect)) or _parsed(text, "") or Target(operation, UNKNOWN)


def _parsed(text: str, dialect: str) -> Target | None:
    logging.getLogger("sqlglot").addFilter(_quiet)  # once, however often it is called
    _quiet.parsing = True
    try:
        known = sqlglot.Dialect.get(dialect)
        tree: Any = sqlglot.parse(text, read=known, error_level=sqlglot.ErrorLevel.IMMEDIATE)[0]
        return _target(tree, fold=dialect not in _KEEPS_CASE)
    except Exception:  # noqa: BLE001 - of hostile text it raises anything, RecursionError too
        return None
    finally:
        _quiet.parsing = False


def _target(tree: Any, *, fold: bool) -> Target | None:
    if isinstance(tree, exp.Command):
        return None  # it was not looked into
    kind = tree.args.get("kind")
    is_definition = isinstance(tree, (exp.Create, exp.Drop, exp.Alter, exp.Comment))
    if is_definition and kind not in (_TABLE_KINDS | {"INDEX"} if isinstance(tree, exp.Create) else _TABLE_KINDS):
        return Target("other", UNKNOWN)
    table = next(_tables(tree, _ctes(tree), set()), None)
    if isinstance(tree, (exp.Update, exp.Delete)):
        table = _unaliased(tree, table)
    return Target(_operation(tree), UNKNOWN if table is None else _name(table, fold=fold))


def _operation(tree: Any) -> str:
    kinds = {"insert": exp.Insert, "update": exp.Update, "delete": exp.Delete, "select": exp.Query}
    return next((name for name, kind in kinds.items() if isinstance(tree, kind)), "other")


def _ctes(tree: Any) -> dict[str, Any]:
    return {cte.alias.lower(): cte for cte in reversed(list(tree.find_all(exp.CTE)))}


def _tables(node: Any, ctes: dict[str, Any], seen: set[int]) -> Iterator[exp.Table]:
    """The real tables of a statement: its own first, then those it reads from, left to right.

    Args:
        node: Where to look.
        ctes: The common table expressions that can be named there; None for what is no table.
        seen: The `id` of those that were looked into: once is enough.
    """
    if isinstance(node, exp.Table):
        if not isinstance(node.this, exp.Identifier):  # a function
            return
        name = node.name.lower()
        if node.args.get("db") or name not in ctes:
            yield node
        elif (cte := ctes[name]) and id(cte) not in seen:
            seen.add(id(cte))
            # In its own body the name is that of a table; if it is recursive, its own.
            inside = {**ctes, name: None}
            if not cte.parent.recursive:
                del inside[name]
            yield from _tables(cte.this, inside, seen)
        return
    if hasattr(node, "args"):  # an expression, whose class has been called by several names
        rest = [name for name in node.args if name not in _FIRST and name not in _BY_NAME]
        for name in (*_FIRST, *rest):
            value = node.args.get(name)
            for child in value if isinstance(value, list) else [value]:
                yield from _tables(child, ctes, seen)


def _unaliased(tree: Any, table: exp.Table | None) -> exp.Table | None:
    """The table that is meant by the name after UPDATE or DELETE, which may be an alias that comes later."""
    if table is None or table.args.get("db"):
        return table
    same = (other for other in tree.find_all(exp.Table) if other is not table and other.alias == table.name)
    return next(same, table)


def _name(table: Any, *, fold: bool) -> str:
    return ".".join(part.name.lower() if fold and not part.quoted else part.name for part in table.parts)
