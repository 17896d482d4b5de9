"""The workload: statements of many shapes, and what is to be counted of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Sequence,
    String,
    Table,
    column,
    delete,
    exists,
    func,
    insert,
    inspect,
    lateral,
    literal,
    select,
    table,
    text,
    true,
    union_all,
    update,
    values,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    subqueryload,
)
from sqlalchemy.schema import DDL, CreateIndex, CreateTable, DropIndex, DropTable

SCHEMA = "shop"
"""On SQLite a database that is attached under this name."""


class Base(DeclarativeBase):
    metadata = MetaData()


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    addresses: Mapped[list[Address]] = relationship(back_populates="user", order_by="Address.id")


class Address(Base):
    __tablename__ = "addresses"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    user: Mapped[User] = relationship(back_populates="addresses")


class Employee(Base):
    __tablename__ = "employees"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "employee"}  # noqa: RUF012 - as SQLAlchemy's


class Manager(Employee):
    __tablename__ = "managers"
    id: Mapped[int] = mapped_column(ForeignKey("employees.id"), primary_key=True)
    office: Mapped[str]
    __mapper_args__ = {"polymorphic_identity": "manager"}  # noqa: RUF012 - as above


USERS = User.__table__
ADDRESSES = Address.__table__
ITEMS = Table("items", Base.metadata, Column("id", Integer, primary_key=True), Column("name", String), schema=SCHEMA)
ORDER = Table("order", Base.metadata, Column("id", Integer, primary_key=True), Column("group", String))
NUMBERED = Table("numbered", Base.metadata, Column("id", Integer, Sequence("numbers"), primary_key=True))
PASSING = Table("passing", MetaData(), Column("id", Integer, primary_key=True), Column("name", String))
PASSING_INDEX = Index("ix_passing", PASSING.c.name)
LIGHT = table("users", column("id"), column("name"))
LIGHT_ITEMS = table("items", column("id"), schema=SCHEMA)

Expected = list[tuple[str, str]]
"""Operation and table of each statement."""


class Shape(NamedTuple):
    """What is executed, and what is to be counted of it."""

    name: str
    run: Callable[[Connection], object]
    expected: Expected
    only: str | None = None


SHAPES: list[Shape] = []


def shape(*expected: str, only: str | None = None) -> Callable[[Callable[[Connection], object]], Callable[..., object]]:
    """Add a shape to the workload; `expected` are its statements, such as `select users`."""

    def add(run: Callable[[Connection], object]) -> Callable[[Connection], object]:
        pairs = [(operation, name) for operation, _, name in (one.partition(" ") for one in expected)]
        SHAPES.append(Shape(run.__name__, run, pairs, only))
        return run

    return add


def fill(connection: Connection) -> None:
    """Create the tables, with some rows in them."""
    Base.metadata.create_all(connection)
    connection.execute(insert(USERS), [{"id": 1, "name": "ann"}, {"id": 2, "name": "bob"}])
    connection.execute(insert(ADDRESSES), [{"id": number, "user_id": 1 + number % 2} for number in range(1, 5)])
    connection.execute(insert(ITEMS), [{"id": 1, "name": "cup"}])
    connection.execute(insert(Employee.__table__), [{"id": 1, "kind": "employee"}, {"id": 2, "kind": "manager"}])
    connection.execute(insert(Manager.__table__), [{"id": 2, "office": "east"}])


# What Core reads


@shape("select users")
def core_select(connection):
    connection.execute(select(USERS).where(USERS.c.id == 1))


@shape("select users")
def core_select_in_list(connection):
    connection.execute(select(USERS).where(USERS.c.id.in_([1, 2, 3])))


@shape("select users")
def core_join(connection):
    connection.execute(select(USERS.c.id, ADDRESSES.c.id).join_from(USERS, ADDRESSES))


@shape("select addresses")
def core_outer_join_of_alias(connection):
    users = USERS.alias("u")
    connection.execute(select(ADDRESSES.c.id, users.c.name).select_from(ADDRESSES.outerjoin(users)))


@shape("select users")
def core_alias(connection):
    connection.execute(select(USERS.alias("everybody")))


@shape("select addresses")
def core_subquery(connection):
    inner = select(ADDRESSES.c.user_id, func.count().label("n")).group_by(ADDRESSES.c.user_id).subquery()
    connection.execute(select(inner.c.n).join(USERS, USERS.c.id == inner.c.user_id))


@shape("select users")
def core_cte(connection):
    named = select(USERS).where(USERS.c.name == "ann").cte("named")
    connection.execute(select(named, ADDRESSES.c.id).join_from(named, ADDRESSES, named.c.id == ADDRESSES.c.user_id))


@shape("select users")
def core_recursive_cte(connection):
    numbers = select(USERS.c.id.label("n")).where(USERS.c.id == 1).cte("numbers", recursive=True)
    numbers = numbers.union_all(select(numbers.c.n + 1).where(numbers.c.n < 5))
    connection.execute(select(func.sum(numbers.c.n)))


@shape("select unknown")
def core_recursive_cte_of_nothing(connection):
    numbers = select(literal(1).label("n")).cte("numbers", recursive=True)
    numbers = numbers.union_all(select(numbers.c.n + 1).where(numbers.c.n < 5))
    connection.execute(select(numbers.c.n))


@shape("select users")
def core_union(connection):
    connection.execute(union_all(select(USERS.c.id), select(ADDRESSES.c.id)))


@shape("select users")
def core_union_as_subquery(connection):
    both = union_all(select(USERS.c.id), select(ADDRESSES.c.id)).subquery()
    connection.execute(select(func.count()).select_from(both))


@shape("select users")
def core_exists(connection):
    connection.execute(select(exists().where(USERS.c.id == 1)))


@shape("select users")
def core_where_exists(connection):
    connection.execute(select(USERS.c.id).where(exists().where(ADDRESSES.c.user_id == USERS.c.id)))


@shape("select addresses")
def core_scalar_subquery(connection):
    connection.execute(select(select(func.max(ADDRESSES.c.id)).scalar_subquery()))


@shape("select users", only="postgresql")
def core_lateral(connection):
    last = lateral(select(ADDRESSES.c.id).where(ADDRESSES.c.user_id == USERS.c.id).limit(1), "last")
    connection.execute(select(USERS.c.name, last.c.id).join_from(USERS, last, true()))


@shape("select users", only="postgresql")
def core_tablesample(connection):
    connection.execute(select(USERS.tablesample(50)))


@shape("select unknown", only="postgresql")
def core_function_in_from(connection):
    connection.execute(select(func.generate_series(1, 3).table_valued("n").render_derived()))


@shape("select users", only="postgresql")
def core_function_beside_a_table(connection):
    numbers = func.generate_series(1, 3).table_valued("n").render_derived()
    connection.execute(select(numbers.c.n, USERS.c.id).select_from(numbers.join(USERS, true())))


@shape("select unknown")
def core_values(connection):
    rows = values(column("a", Integer), column("b", Integer), name="rows").data([(1, 2), (3, 4)])
    connection.execute(select(rows.cte()))


@shape("select unknown")
def core_function(connection):
    connection.execute(func.abs(-1))


@shape("select unknown")
def core_text_column(connection):
    connection.execute(select(text("1")))


@shape("select users")
def core_text_from(connection):
    connection.execute(select(text("id")).select_from(text("users")))


@shape("select users")
def core_text_with_columns(connection):
    connection.execute(text("SELECT id, name FROM users").columns(USERS.c.id, USERS.c.name))


@shape("select users")
def core_light_table(connection):
    connection.execute(select(LIGHT))


@shape("select shop.items", "select shop.items")
def core_schema(connection):
    connection.execute(select(ITEMS))
    connection.execute(select(LIGHT_ITEMS))


@shape("select order", "insert order")
def core_reserved_names(connection):
    connection.execute(select(ORDER.c.group))
    connection.execute(insert(ORDER).values(group="a"))


@shape("select items")
def core_schema_translate_map(connection):
    items = Table("items", MetaData(), Column("id", Integer))
    connection.execute(select(items), execution_options={"schema_translate_map": {None: SCHEMA}})


# What Core writes


@shape("insert users")
def core_insert(connection):
    connection.execute(insert(USERS).values(id=10, name="cid"))


@shape("insert users")
def core_insert_many_values(connection):
    connection.execute(insert(USERS).values([{"id": 10, "name": "a"}, {"id": 11, "name": "b"}]))


@shape("insert users")
def core_executemany(connection):
    connection.execute(insert(USERS), [{"id": number, "name": "x"} for number in range(10, 15)])


@shape("insert users", "insert users", "insert users")
def core_insertmanyvalues(connection):
    rows = [{"id": number, "name": "x"} for number in range(10, 15)]
    options = {"insertmanyvalues_page_size": 2}
    connection.execute(insert(USERS).returning(USERS.c.id), rows, execution_options=options).all()


@shape("insert users")
def core_insert_from_select(connection):
    connection.execute(insert(USERS).from_select(["id", "name"], select(ADDRESSES.c.id + 100, literal("x"))))


@shape("insert users")
def core_upsert(connection):
    upsert = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}[connection.dialect.name](USERS)
    row = upsert.values(id=1, name="ann")
    connection.execute(row.on_conflict_do_update(index_elements=["id"], set_={"name": row.excluded.name}))


@shape("insert numbered", "insert numbered", only="sqlite")
def core_default_without_sequences(connection):
    connection.execute(insert(NUMBERED))
    connection.execute(insert(NUMBERED))


@shape("select unknown", "select unknown", only="postgresql")
def core_sequence(connection):
    connection.scalar(Sequence("numbers"))
    connection.execute(select(Sequence("numbers").next_value()))


@shape("insert numbered", "select unknown", "insert numbered", only="postgresql")
def core_sequence_as_default(connection):
    connection.execute(insert(NUMBERED))
    plain = connection.execution_options()
    plain.dialect.insert_returning = False  # as a database without RETURNING: the sequence is asked first
    try:
        plain.execute(insert(NUMBERED), execution_options={"compiled_cache": None})
    finally:
        plain.dialect.insert_returning = True


@shape("update users")
def core_update(connection):
    connection.execute(update(USERS).where(USERS.c.id == 1).values(name="x"))


@shape("update users")
def core_update_from(connection):
    connection.execute(update(USERS).where(USERS.c.id == ADDRESSES.c.user_id).values(name="x"))


@shape("update users")
def core_update_returning(connection):
    connection.execute(update(USERS).values(name="x").returning(USERS.c.id)).all()


@shape("delete addresses")
def core_delete(connection):
    connection.execute(delete(ADDRESSES).where(ADDRESSES.c.id == 1))


@shape("delete addresses", only="postgresql")
def core_delete_using(connection):
    connection.execute(delete(ADDRESSES).where(ADDRESSES.c.user_id == USERS.c.id))


@shape("select addresses", only="postgresql")
def core_delete_in_cte(connection):
    gone = delete(ADDRESSES).returning(ADDRESSES.c.id).cte("gone")
    connection.execute(select(func.count()).select_from(gone))


# DDL


@shape("other passing", "other passing", "other passing", "other passing")
def ddl(connection):
    for element in (CreateTable(PASSING), CreateIndex(PASSING_INDEX), DropIndex(PASSING_INDEX), DropTable(PASSING)):
        connection.execute(element)


@shape("other users")
def ddl_by_hand(connection):
    connection.execute(DDL("CREATE INDEX ix_hand ON users (name)"))


# ORM


@shape("insert users", "select users", "update users", "select addresses", "delete users")
def orm_flushes(connection):
    with Session(connection) as session:
        user = User(id=20, name="x")
        session.add(user)
        session.flush()
        session.refresh(user)
        user.name = "y"
        session.flush()
        session.delete(user)  # what refers to it is loaded, to be updated
        session.flush()


@shape("insert users", "insert addresses")
def orm_flush_of_related(connection):
    with Session(connection) as session:
        session.add(User(id=20, name="x", addresses=[Address(id=20), Address(id=21)]))
        session.flush()


@shape("select users", "select addresses", "select addresses")
def orm_lazy_loads(connection):
    with Session(connection) as session:
        for user in session.scalars(select(User).order_by(User.id)):
            user.addresses  # noqa: B018 - loads them


@shape("select users", "select addresses")
def orm_selectin_loads(connection):
    with Session(connection) as session:
        session.scalars(select(User).options(selectinload(User.addresses))).all()


@shape("select users", "select users")
def orm_subquery_loads(connection):
    with Session(connection) as session:
        session.scalars(select(User).options(subqueryload(User.addresses))).all()


@shape("select users", "select users")
def orm_joined_loads(connection):
    with Session(connection) as session:
        session.scalars(select(User).options(joinedload(User.addresses))).unique().all()
        session.scalars(select(User).options(joinedload(User.addresses)).limit(1)).unique().all()


@shape("select users")
def orm_get(connection):
    with Session(connection) as session:
        assert session.get(User, 1) is session.get(User, 1)


@shape("select users")
def orm_aliased_join(connection):
    with Session(connection) as session:
        session.execute(select(aliased(User)).join(Address)).all()


@shape("select users", "select users")
def orm_query(connection):
    with Session(connection) as session:
        session.query(User).filter(User.addresses.any()).count()
        session.query(User).filter_by(name="ann").first()


@shape("select employees", "select employees")
def orm_joined_inheritance(connection):
    with Session(connection) as session:
        session.scalars(select(Manager)).all()
        session.scalars(select(Employee).where(Employee.id == 1)).all()


@shape("insert employees", "insert managers")
def orm_flush_of_joined_inheritance(connection):
    with Session(connection) as session:
        session.add(Manager(id=20, office="west"))
        session.flush()


@shape("update users", "delete addresses")
def orm_bulk(connection):
    with Session(connection) as session:
        session.execute(update(User).where(User.id == 1).values(name="x"))
        session.execute(delete(Address).where(Address.id == 1))


@shape("insert users", "insert users")
def orm_insert_returning(connection):
    with Session(connection) as session:
        session.scalars(insert(User).returning(User), [{"id": 20, "name": "x"}, {"id": 21, "name": "y"}]).all()
        session.scalars(select(User).from_statement(insert(User).values(id=22, name="z").returning(User))).all()


@shape("select users", "select addresses")
def orm_from_statement(connection):
    with Session(connection) as session:
        session.scalars(select(User).from_statement(text("SELECT * FROM users"))).all()
        session.scalars(select(Address).from_statement(union_all(select(Address), select(Address)))).all()


@shape("other unknown", "insert users", "other unknown")
def orm_savepoint(connection):
    with Session(connection) as session, session.begin_nested():
        session.add(User(id=20, name="x"))


# SQL by hand


@shape("select users", "select users")
def text_select(connection):
    connection.execute(
        text("SELECT u.id FROM users AS u JOIN addresses a ON a.user_id = u.id WHERE u.id = :id"), {"id": 1}
    )
    connection.exec_driver_sql("select count(*) from (select * from users) x where 'from' <> 'order'")


@shape("select addresses")
def text_cte(connection):
    connection.execute(text("WITH users AS (SELECT * FROM addresses) SELECT * FROM users"))


@shape("select shop.items", "select order")
def text_quoted(connection):
    connection.execute(text('SELECT "name" FROM "shop"."items"'))
    connection.execute(text('SELECT "group" FROM "order"'))


@shape("insert users", "update users", "delete users")
def text_writes(connection):
    connection.execute(text("INSERT INTO users (id, name) VALUES (:id, :name)"), {"id": 30, "name": "x"})
    connection.execute(text("UPDATE users SET name = :name WHERE id = 30"), {"name": "y"})
    connection.execute(text("DELETE FROM users WHERE id = 30"))


@shape("insert users")
def text_executemany(connection):
    rows = [{"id": number, "name": "x"} for number in range(30, 33)]
    connection.execute(text("INSERT INTO users (id, name) VALUES (:id, :name)"), rows)


@shape("insert users")
def text_upsert(connection):
    connection.execute(
        text("INSERT INTO users (id, name) VALUES (1, 'a''b') ON CONFLICT (id) DO UPDATE SET name = excluded.name")
    )


@shape("select users", "select users", "select users")
def text_with_comments(connection):
    connection.execute(text("/* from nowhere */ SELECT id -- from here\nFROM users"))
    connection.exec_driver_sql("SELECT id FROM users /*traceparent='00-1-2-01'*/")
    connection.execute(
        text("(SELECT id FROM users)" if connection.dialect.name != "sqlite" else "SELECT id FROM users")
    )


@shape("other users", "other unknown")
def text_other(connection):
    connection.execute(text("EXPLAIN SELECT * FROM users"))
    connection.exec_driver_sql(
        {"sqlite": "PRAGMA user_version", "postgresql": "SHOW server_version"}[connection.dialect.name]
    )


@shape("other users", "other users", "other users", only="postgresql")
def text_other_of_postgresql(connection):
    connection.execute(text("LOCK TABLE users IN SHARE MODE"))
    connection.execute(text("ANALYZE users"))
    connection.execute(text("TRUNCATE TABLE users CASCADE"))


@shape("other users", "other users", only="sqlite")
def reflection(connection):
    inspect(connection).has_table("users")
    inspect(connection).get_columns("users")
