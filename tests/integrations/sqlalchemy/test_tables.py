from __future__ import annotations

import pytest
from sqlalchemy import Column, Integer, MetaData, Sequence, Table, column, func, select, table, text, update
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.schema import DDL, AddConstraint, CreateSchema, CreateSequence, CreateTable, DropTable, SetTableComment
from sqlalchemy.sql.schema import UniqueConstraint

from asgi_obs.integrations.sqlalchemy.parser import Target
from asgi_obs.integrations.sqlalchemy.tables import target_of

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
