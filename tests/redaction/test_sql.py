from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from asgi_obs.redaction.keys import Words
from asgi_obs.redaction.sql import SqlRules

RULES = SqlRules(Words(["password", "token"]))


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("[parameters: ('ann', 'x]')]\n(Background)", "[parameters: ******]\n(Background)"),
        ("[parameters: [{'a': 1}, {'a': 2}]]", "[parameters: ******]"),
        ("[generated in 0.00012s] ('ann', 'x')", "[generated in 0.00012s] ******"),
        ("[cached since 0.1s ago] {'a': 'x'} z", "[cached since 0.1s ago] ****** z"),
        ("[raw sql] ('x',)", "[raw sql] ******"),
        ("[raw sql] ()", "[raw sql] ()"),
        ("[no key 0.1s] ['x']", "[no key 0.1s] ******"),
        ("[caching disabled 0.1s] ('x',)", "[caching disabled 0.1s] ******"),
        ("[dialect x does not support caching 0.1s] ('x',)", "[dialect x does not support caching 0.1s] ******"),
        ("[parameters] x", "[parameters] x"),
        ("Failing row contains (5, ann, x), null).\nnext", "Failing row contains ******.\nnext"),
        ("Failing row contains (5, ann", "Failing row contains ******"),
        ("identified by 'x' z", "identified by '******' z"),
        ("IDENTIFIED WITH plugin BY 'x''y' z", "IDENTIFIED WITH plugin BY '******' z"),
        ("WITH PASSWORD 'x'", "WITH PASSWORD '******'"),
        ("PASSWORD ''", "PASSWORD ''"),
        ("INSERT INTO u (a, password) VALUES ('b', 'x)'), ('c', 'y') z", "INSERT INTO u (a, password) VALUES ****** z"),
        ("insert or replace into u(token) values('x')", "insert or replace into u(token) values******"),
        ("INSERT INTO u (a) VALUES ('b')", "INSERT INTO u (a) VALUES ('b')"),
        ("Key (token)=(x) already exists", "Key (token)=****** already exists"),
        ("Key (a, token)=(5, x) already exists", "Key (a, token)=****** already exists"),
        ("Key (a)=(5) already exists", "Key (a)=(5) already exists"),
        ("Duplicate entry 'x' for key 'u.token'", "Duplicate entry '******' for key 'u.token'"),
        ("WHERE token IN ('x', 'y') z", "WHERE token IN ****** z"),
        ("token NOT IN ('x')", "token NOT IN ******"),
        ("token LIKE 'x%' z", "token LIKE ****** z"),
        ("token <> 'x' z", "token <> ****** z"),
        ("token >= 'x'", "token >= ******"),
        ("token IS NOT DISTINCT FROM 'x'", "token IS NOT DISTINCT FROM ******"),
        ("token::text = 'x' z", "token::text = ****** z"),
        ("lower(token)=lower('x') z", "lower(token)=****** z"),
        ("(token) = 'x'", "(token) = ******"),
        ("token LIKE E'x y' z", "token LIKE ****** z"),
        ("\"token\" in ('x')", '"token" in ******'),
        ("token in (header, cookie)", "token in (header, cookie)"),
        ("a <> 'x'", "a <> 'x'"),
        ("UPDATE u SET (a, password) = ('b', 'x') z", "UPDATE u SET (a, password) = ****** z"),
        ("SET (a, b) = ('b', 'x')", "SET (a, b) = ('b', 'x')"),
        ("INSERT INTO u (a, password) SELECT 'b', 'x'\nz", "INSERT INTO u (a, password) SELECT ******\nz"),
        ("INSERT INTO u (a, password) SELECT b, c FROM d", "INSERT INTO u (a, password) SELECT b, c FROM d"),
        ("LINE 1: ...ssword) VALUES ('b', 'x') z", "LINE 1: ...ssword) VALUES ****** z"),
        ("Row (1, 'x')", "Row ******"),
        ("Col ('a', 'b')", "Col ('a', 'b')"),
        ("Duplicate entry 'x' for key 'u.a'", "Duplicate entry 'x' for key 'u.a'"),
    ],
)
def test_values_of_sql_are_masked(text: str, redacted: str) -> None:
    assert RULES.redact(text) == redacted


def test_the_error_of_sqlalchemy_says_no_parameters() -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection, pytest.raises(DBAPIError) as caught:
        connection.execute(text("SELECT :a, :b FROM nowhere"), {"a": "hunter2]", "b": 'it\'s "both"'})
    engine.dispose()

    assert "hunter2" in str(caught.value)
    assert "[parameters: ******]" in RULES.redact(str(caught.value))
