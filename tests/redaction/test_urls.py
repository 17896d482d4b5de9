from __future__ import annotations

import pytest

from asgi_obs.redaction.keys import Words
from asgi_obs.redaction.urls import UrlRules

RULES = UrlRules(Words(["token"]), lambda text: text.replace("secret", "******"))


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("redis://:p@ss/w?rd#@host/0", "redis://******@host/0"),
        ("redis://:123/abc@host", "redis://******@host"),
        ("amqp://ann:p@ss@queue/", "amqp://******@queue/"),
        ("postgres://ann:1234@db", "postgres://******@db"),
        ("https://ann@h/x", "https://******@h/x"),
        ("a://u:p@h b://u:p@h", "a://******@h b://******@h"),
        ("a://u:p@h,b://u:p@h", "a://******@h,b://******@h"),
        ("https://h/?%74oken=x&a=1", "https://h/?%74oken=******&a=1"),
        ("'https://h/?token=x', 5", "'https://h/?token=******', 5"),
        ("u=postgres%3A%2F%2Fu%3Apw%40h%2Fdb", "u=postgres%3A%2F%2F******%40h%2Fdb"),
        ("u=a%253a%252f%252fu%253ap%2540h", "u=a%253a%252f%252f******%2540h"),
        ("/x?to%6Ben=x&a=1", "/x?to%6Ben=******&a=1"),
        ("a=1&to%6ben=x", "a=1&to%6ben=******"),
    ],
)
def test_userinfo_and_sensitive_parameters_are_masked(text: str, redacted: str) -> None:
    assert RULES.redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "https://host/@user/post",
        "https://registry/@scope/pkg",
        "see http://a/b and mail me@x.org",
        "http://h:8080/@ann",
        "http://[::1]:80/@ann",
        "http://h:80",
        "mailto:ann@example.com",
        "ann@example.com?a=1",
        "://",
        "ssh://git@github.com/org/repo.git",
        "u=https%3A%2F%2Fh%2Fx%3Fmail%3Dann%40x.org",
        "a%20b=1&%zz=2",
        "100%=5",
    ],
)
def test_other_signs_of_a_url_stay(text: str) -> None:
    assert RULES.redact(text) == text


@pytest.mark.parametrize(
    ("query", "redacted"),
    [
        ("a=my%20secret", "a=******"),
        ("a=secret&b=1", "a=******&b=1"),
        ("a=%20b", "a=%20b"),
        ("a=1;token=x;y", "a=1;token=******"),
        ("secret", "******"),
        ("a=my+secret", "a=******"),
    ],
)
def test_the_values_of_other_parameters_are_redacted_as_texts(query: str, redacted: str) -> None:
    assert RULES.redact_query(query) == redacted
