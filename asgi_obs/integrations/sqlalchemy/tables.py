"""Operation and table of a statement that SQLAlchemy compiled: from its own tree, without a parser.

The table is the left-most real one that the statement reads from: aliases, subqueries, common table expressions, joins
and unions are followed down to it. A joined-table inheritance is its base. With a `schema_translate_map` it has the
schema that it was declared with, not that of this execution: there may be one for each tenant.

Where a statement has no table, all of it is looked at: each element once, and no more than `MAX_VISITED` of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import CompoundSelect, Select, TableClause, TextClause
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.selectable import AliasedReturnsRows, FromGrouping, Join, SelectStatementGrouping, TextualSelect

from asgi_obs.integrations.sqlalchemy.parser import UNKNOWN, Target

__all__ = ["target_of"]

MAX_VISITED: Final = 500
"""Elements of a statement that are looked at for its table; what is behind them is not found."""


def target_of(compiled: Any) -> Target | None:
    """What a compiled statement does; None if it has to be parsed, as SQL that is not SQLAlchemy's is in it.

    Args:
        compiled: The `Compiled` of a statement or a DDL element.
    """
    if compiled.is_ddl:
        return _target_of_ddl(compiled.statement)
    state = compiled.dml_compile_state or compiled.compile_state
    statement = state.statement if state is not None else compiled.statement
    source = next(_sources(statement, {}), None)
    if isinstance(statement, UpdateBase):
        operation = statement.__visit_name__
    elif isinstance(statement, (Select, CompoundSelect)):
        operation = "select"
    else:
        return None
    if isinstance(source, TextClause):
        return None
    return Target(operation, UNKNOWN if source is None else source.fullname)


def _target_of_ddl(statement: Any) -> Target | None:
    element = getattr(statement, "element", None)
    table = element if isinstance(element, TableClause) else getattr(element, "table", None)
    if table is None and element is None:
        return None  # DDL("...")
    return Target("other", UNKNOWN if table is None else table.fullname)


def _sources(element: Any, seen: dict[int, Any]) -> Iterator[Any]:
    """The tables of an element, left to right; a `TextClause` where SQL was written by hand.

    Args:
        element: Where to look.
        seen: Elements that were looked at, by their `id`; each is held, so that no other gets the same.
    """
    if isinstance(element, (TableClause, TextClause)):
        yield element
    elif _is_new(element, seen):
        if isinstance(element, Select):
            yield from _sources_of_select(element, seen)
        for child in _children(element):
            yield from _sources(child, seen)


def _is_new(element: Any, seen: dict[int, Any]) -> bool:
    is_new = id(element) not in seen and len(seen) < MAX_VISITED
    if is_new:
        seen[id(element)] = element
    return is_new


def _children(element: Any) -> tuple[Any, ...]:
    if isinstance(element, Join):
        return element.left, element.right
    if isinstance(element, CompoundSelect):
        return tuple(element.selects)
    if isinstance(element, UpdateBase):
        return (element.table,)
    if isinstance(element, (AliasedReturnsRows, FromGrouping, SelectStatementGrouping, TextualSelect)):
        return (element.element,)
    return ()


def _sources_of_select(select: Any, seen: dict[int, Any]) -> Iterator[Any]:
    for source in select.get_final_froms():
        yield from _sources(source, seen)
    # Without tables of its own it may ask for what is in others: `SELECT EXISTS (SELECT ...)`.
    for nested in _selects_in(select, seen):
        yield from _sources(nested, seen)


def _selects_in(element: Any, seen: dict[int, Any]) -> Iterator[Any]:
    for child in element.get_children():
        if isinstance(child, (Select, CompoundSelect)):
            yield child
        elif _is_new(child, seen):
            yield from _selects_in(child, seen)
