from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from asgi_obs.redaction import Redactor
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
        ("Failing row contains (5, ann\nx), null).\nz", "Failing row contains ******.\nz"),
        ("key of the failing row contains (a) = (9).", "key of the failing row contains (a) = ******."),
        ("identified by 'x' z", "identified by '******' z"),
        ("IDENTIFIED WITH plugin BY 'x''y' z", "IDENTIFIED WITH plugin BY '******' z"),
        ("WITH PASSWORD 'x'", "WITH PASSWORD '******'"),
        ("PASSWORD ''", "PASSWORD ''"),
        ("INSERT INTO u (a, password) VALUES ('b', 'x)'), ('c', 'y') z", "INSERT INTO u (a, password) VALUES ****** z"),
        ("insert or replace into u(token) values('x')", "insert or replace into u(token) values******"),
        ("INSERT INTO u (a) VALUES ('b')", "INSERT INTO u (a) VALUES ('b')"),
        ("Key (token)=(x) already exists", "Key (token)=****** already exists"),
        ("Key (a, token)=(5, x) already exists", "Key (a, token)=****** already exists"),
        ("Key (email)=(ann@x.org) already exists.\nz", "Key (email)=****** already exists.\nz"),
        ('Key (a, b)=(1, x) is not present in table "t".', 'Key (a, b)=****** is not present in table "t".'),
        ("Key (lower(a::text))=(x)y\nz) already exists.", "Key (lower(a::text))=****** already exists."),
        ('Key (\\"A\\")=(x) is duplicated.\\n', 'Key (\\"A\\")=****** is duplicated.\\n'),
        ("Key (a)=(1) conflicts with existing key (a)=(2).", "Key (a)=****** conflicts with existing key (a)=******."),
        ("Key (a)=(5), 6) gibt es\nschon (a)", "Key (a)=****** gibt es\nschon (a)"),
        ("key (a) is (5)", "key (a) is (5)"),
        ("value is (x@y). (2627) (SQLExec)", "value is (x@y). (2627) (SQLExec)"),
        ("The duplicate key value is (x), y). (2627) (E)", "The duplicate key value is ******. (2627) (E)"),
        ("The duplicate key value is (x).DB-Lib error", "The duplicate key value is ******.DB-Lib error"),
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
        ("Duplicate entry 'x' y\nz' for key 'u.a'", "Duplicate entry '******' for key 'u.a'"),
        (r"Duplicate entry \'x\' for key \'u.a\'", r"Duplicate entry \'******\' for key \'u.a\'"),
        ("Duplicate entry 'x'", "Duplicate entry 'x'"),
        ('syntax for type integer: "x"', 'syntax for type integer: "x"'),
        ('invalid input syntax for type integer: "x"', "invalid input syntax for type integer: ******"),
        ('invalid input syntax for type integer: "x" "y"z"\nq', "invalid input syntax for type integer: ******\nq"),
        ('("invalid input syntax for type integer: \\"x\\"")', '("invalid input syntax for type integer: ******")'),
        ("E('invalid input syntax for type date: \"x\"')", "E('invalid input syntax for type date: ******')"),
        ('invalid input value for enum mood: "x" z\ny', "invalid input value for enum mood: ******\ny"),
        ('malformed array literal: "{"x","y"}"', "malformed array literal: ******"),
        ('date/time field value out of range: "x"', "date/time field value out of range: ******"),
        ('value "9999999999" is out of range for type integer', 'value "******" is out of range for type integer'),
        (
            'invalid input syntax for type json\nDETAIL:  Token "x" is bad.\nCONTEXT:  JSON data, line 1: {"a": x...',
            "invalid input syntax for type json\nDETAIL:  ******\nCONTEXT:  JSON data, line 1: ******",
        ),
        ('COPY u, line 3, column a: "x"', "COPY u, line 3, column a: ******"),
        (
            "invalid input syntax for type date: \"x\"\nLINE 1: VALUES (7, 'x', 'it''s",
            "invalid input syntax for type date: ******\nLINE 1: VALUES (7, '******', '******'",
        ),
        ("LINE 1: VALUES ('x')", "LINE 1: VALUES ('x')"),
        (
            "invalid input for query argument $1: 'it (x)' (an integer",
            "invalid input for query argument $1: ****** (an integer",
        ),
        (
            "invalid input for query argument $2 in element #0 of executemany() sequence: ['x'] (expected str)",
            "invalid input for query argument $2 in element #0 of executemany() sequence: ****** (expected str)",
        ),
        ("(invalid UUID 'x': length must be", "(invalid UUID ******: length must be"),
        (
            "Incorrect integer value: 'it's' for column 'a' at row 1",
            "Incorrect integer value: ****** for column 'a' at row 1",
        ),
        ("(1292, \"Truncated incorrect DOUBLE value: 'x'\")", '(1292, "Truncated incorrect DOUBLE value: ******")'),
        ("Truncated incorrect CHAR(3) value: 'x'", "Truncated incorrect CHAR(3) value: ******"),
        ("Data truncated for column 'a' at row 1", "Data truncated for column 'a' at row 1"),
        ("column 'a'. Truncated value: 'x'. (2628)", "column 'a'. Truncated value: ******. (2628)"),
        (
            "converting the nvarchar value 'x' to data type int.",
            "converting the nvarchar value ****** to data type int.",
        ),
        ("UNIQUE constraint failed: users.email", "UNIQUE constraint failed: users.email"),
    ],
)
def test_values_of_sql_are_masked(text: str, redacted: str) -> None:
    assert RULES.redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "Key (email)=(ann@x.org) already exists.",
        "Failing row contains (1, ann@x.org).",
        "no partition: Partition key of the failing row contains (email) = (ann@x.org).",
        "The duplicate key value is (ann@x.org).",
        "Duplicate entry 'ann@x.org' for key 'users.email'",
        'invalid input syntax for type integer: "ann@x.org"',
        'malformed array literal: "ann@x.org"',
        'timestamp out of range: "ann@x.org"',
        'value "ann@x.org" is out of range for type integer',
        "Incorrect integer value: 'ann@x.org' for column 'a' at row 1",
        "converting the varchar value 'ann@x.org' to data type int.",
        'COPY u, line 3, column a: "ann@x.org"',
        "JSON data, line 1: ann@x.org",
        "invalid input for query argument $1: 'ann@x.org' (an integer is required)",
        "(invalid UUID 'ann@x.org': length must be 32)",
    ],
)
def test_what_a_database_repeats_is_found_whatever_the_words_are(text: str) -> None:
    assert "ann@x.org" not in Redactor(["iban"]).redact_text(text)


def test_the_error_of_sqlalchemy_says_no_parameters() -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection, pytest.raises(DBAPIError) as caught:
        connection.execute(text("SELECT :a, :b FROM nowhere"), {"a": "hunter2]", "b": 'it\'s "both"'})
    engine.dispose()

    assert "hunter2" in str(caught.value)
    assert "[parameters: ******]" in RULES.redact(str(caught.value))
