from __future__ import annotations

from http.cookiejar import CookieJar
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest

from asgi_obs.redaction import MASK, Redactor
from asgi_obs.redaction.cookies import redact_cookies

REDACTOR = Redactor(["password", "cookie"])


def _jar() -> CookieJar:
    return httpx.Cookies({"sid": "hunter2"}).jar


def _simple() -> SimpleCookie:
    return SimpleCookie({"sid": "hunter2"})


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("<Cookies[<Cookie sid=x for h />, <Cookie a=y for h />]>", "<Cookies[<Cookie ******>, <Cookie ******>]>"),
        ("<Morsel: sid=a>b; Path=/> n", "<Morsel: ******> n"),
        ("<SimpleCookie: a='x' b='y'>", "<SimpleCookie: ******>"),
        (
            "Cookie(version=0, name='sid', value='x', port=None)",
            "Cookie(version=0, name='sid', value=******, port=None)",
        ),
        ("Cookie(value=None)", "Cookie(value=******)"),
        ("Cookie(version=0)", "Cookie(version=0)"),
        ("a <cookie> banner", "a <cookie> banner"),
        ("no such thing", "no such thing"),
    ],
)
def test_cookies_are_masked_as_libraries_print_them(text: str, redacted: str) -> None:
    assert redact_cookies(text) == redacted


@pytest.mark.parametrize(
    "cookies",
    [httpx.Cookies({"sid": "hunter2"}), _jar(), list(_jar()), _simple(), _simple()["sid"], {"a": [_simple()]}],
)
def test_no_cookie_is_seen_under_any_key_nor_in_any_text(cookies: Any) -> None:
    redacted = repr(REDACTOR.redact({"x": cookies}))

    assert "hunter2" not in redacted
    assert MASK in redacted
    assert "hunter2" not in REDACTOR.redact_text(f"got {cookies} and {cookies!r}")
