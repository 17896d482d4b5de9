from __future__ import annotations

import pytest
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    Select,
    Sequence,
    Table,
    column,
    func,
    literal,
    or_,
    select,
    table,
    text,
    update,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.schema import DDL, AddConstraint, CreateSchema, CreateSequence, CreateTable, DropTable, SetTableComment
from sqlalchemy.sql.schema import UniqueConstraint

from asgi_obs.integrations.sqlalchemy.parser import Target
from asgi_obs.integrations.sqlalchemy.tables import MAX_VISITED, target_of

USERS = Table("users", MetaData(), Column("id", Integer), UniqueConstraint("id", name="once"), comment="x", schema="s")
ONCE = next(constraint for constraint in USERS.constraints if constraint.name == "once")
DIALECT = postgresql.dialect()


@pytest.mark.parametrize(
    ("element", "target"),
    [
        (CreateTable(USERS), Target("other", "s.users")),
        (DropTable(USERS), Target("other", "s.users")),
        (SetTableComment(USERS), Target("other", "s.users")),
        (AddConstraint(ONCE), Target("other", "s.users")),
        (CreateSequence(Sequence("numbers")), Target("other", "unknown")),
        (CreateSchema("s"), Target("other", "unknown")),
    ],
)
def test_ddl_is_about_a_table(element, target: Target) -> None:
    assert target_of(element.compile(dialect=DIALECT)) == target


@pytest.mark.parametrize("element", [DDL("DROP TABLE x"), text("SELECT 1"), select(column("a")).select_from(text("x"))])
def test_what_was_written_by_hand_has_to_be_parsed(element) -> None:
    assert target_of(element.compile(dialect=DIALECT)) is None


def test_a_join_that_is_updated_is_its_first_table() -> None:
    users, others = table("users", column("id")), table("others", column("id"))
    statement = update(users.join(others, users.c.id == others.c.id)).values({users.c.id: 1})
    assert target_of(statement.compile(dialect=mysql.dialect())) == Target("update", "users")


def test_a_union_in_parentheses_is_followed() -> None:
    limited = select(USERS.c.id).limit(1)
    assert target_of(limited.union_all(limited).compile(dialect=DIALECT)) == Target("select", "s.users")


def test_a_table_is_found_in_what_is_compared() -> None:
    inner = select(func.count()).select_from(USERS).scalar_subquery()
    assert target_of(select(func.now()).where(inner > 1).compile(dialect=DIALECT)) == Target("select", "s.users")


LEVELS = 14
"""Each would take three times as long as the one before, if it were looked at each time it is met."""


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[Select]:
    """The selects whose tables were asked for."""
    selects: list[Select] = []
    final_froms = Select.get_final_froms

    def asked(select: Select) -> object:
        selects.append(select)
        assert len(selects) <= LEVELS  # it fails here rather than never to end
        return final_froms(select)

    monkeypatch.setattr(Select, "get_final_froms", asked)
    return selects


def test_subqueries_without_a_table_are_looked_at_once(looked_at: list[Select]) -> None:
    inner = select(literal(1).label("id")).subquery()
    for _ in range(LEVELS - 2):
        inner = select(inner.c.id).where(inner.c.id > 0).subquery()
    assert target_of(select(inner.c.id).compile(dialect=DIALECT)) == Target("select", "unknown")
    assert len(looked_at) == LEVELS


def test_common_table_expressions_that_are_joined_to_themselves_are_looked_at_once(looked_at: list[Select]) -> None:
    inner = select(func.unnest(literal("x")).label("id")).cte("c0")
    for level in range(1, LEVELS - 1):
        other = inner.alias()
        inner = select(inner.c.id).join_from(inner, other, inner.c.id == other.c.id).cte(f"c{level}")
    assert target_of(select(inner.c.id).compile(dialect=DIALECT)) == Target("select", "unknown")
    assert len(looked_at) == LEVELS


def test_a_table_behind_too_much_is_not_found() -> None:
    first = select(func.count()).select_from(USERS).scalar_subquery()
    many = or_(*(func.now() > number for number in range(MAX_VISITED)))
    assert target_of(select(first).where(many).compile(dialect=DIALECT)) == Target("select", "s.users")
    assert target_of(select(func.now()).where(many, first > 1).compile(dialect=DIALECT)) == Target("select", "unknown")
