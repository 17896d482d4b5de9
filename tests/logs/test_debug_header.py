"""The header that has one request logged at DEBUG: nobody without the token can make one."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import ExchangeMiddleware
from asgi_obs.logs import RequestLoggingMiddleware, setup_logging
from asgi_obs.logs.debug_header import DEBUG_HEADER, LONGEST, DebugHeader, sign_debug_header
from asgi_obs.logs.selected import is_selected
from asgi_obs.settings import Settings
from asgi_obs.testing import drive, http_scope
from asgi_obs.types import ASGIApp, Receive, Scope, Send

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("root")]

TOKEN = "hunter22"
NOW = 1_700_000_000
SETTINGS = Settings(log_level="INFO", ops_token=TOKEN, service_name="shop")
LATER = 4_000_000_000
MARK = {"debug_request": True}


def header(value: str | bytes) -> list[tuple[bytes, bytes]]:
    return [(b"x-debug-log", value if isinstance(value, bytes) else value.encode())]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    logging.getLogger("shop.cart").debug("looked")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def is_accepted(value: str | bytes, token: str = TOKEN) -> bool:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(is_selected(scope["asgi_obs.exchange"]))

    wrapped = ExchangeMiddleware(app, observers=[DebugHeader(token, clock=lambda: NOW)])
    await drive(wrapped, http_scope(headers=header(value)))
    return seen == [True]


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_it_is_what_openssl_makes_of_the_same() -> None:
    # printf 'asgi_obs debug log v1:1700000600' | openssl dgst -sha256 -hmac hunter22 -r
    assert sign_debug_header(TOKEN, 1_700_000_600.9) == f"1700000600.{OPENSSL}"


OPENSSL = "428353d643ee57ee7796116431b4218886361c269d1ee88e6e0740d73109f431"


@pytest.mark.parametrize("ahead", [1, 600, LONGEST])
async def test_a_signed_one_holds_until_its_time(ahead: int) -> None:
    assert await is_accepted(sign_debug_header(TOKEN, NOW + ahead))


@pytest.mark.parametrize("ahead", [-1, 0, LONGEST + 1, 10 * LONGEST])
async def test_one_that_is_over_or_too_far_ahead_does_not(ahead: int) -> None:
    assert not await is_accepted(sign_debug_header(TOKEN, NOW + ahead))


async def test_one_with_another_token_or_date_does_not() -> None:
    until, _, signature = sign_debug_header(TOKEN, NOW + 60).partition(".")
    assert not await is_accepted(sign_debug_header("hunter23", NOW + 60))
    for value in (f"{int(until) + 1}.{signature}", f"0{until}.{signature}", f"{until}{signature}", f"{until}.", until):
        assert not await is_accepted(value)


_GENUINE = sign_debug_header(TOKEN, NOW + 60).encode()


@given(
    st.one_of(
        st.binary(max_size=200),
        st.tuples(st.integers(0, 10**30), st.binary(max_size=70)).map(lambda pair: b"%d.%b" % pair),
        st.tuples(st.integers(0, len(_GENUINE) - 1), st.binary(min_size=1, max_size=2)).map(
            lambda change: _GENUINE[: change[0]] + change[1] + _GENUINE[change[0] + 1 :]
        ),
    )
)
def test_no_bytes_break_it_and_none_but_the_signed_ones_hold(value: bytes) -> None:
    observer = DebugHeader(TOKEN, clock=lambda: NOW)
    assert observer._holds(value) is (value == _GENUINE)


@pytest.mark.parametrize("token", ["", None, b"hunter22"])
def test_nothing_is_signed_without_a_token(token: Any) -> None:
    with pytest.raises(ConfigurationError, match="token=''"):
        sign_debug_header(token, NOW)


@pytest.mark.parametrize("expires_at", [0, -1, "1700000000", True, float("inf"), float("nan"), 10**12])
def test_a_date_has_to_be_one(expires_at: Any) -> None:
    with pytest.raises(ConfigurationError, match="seconds since 1970"):
        sign_debug_header(TOKEN, expires_at)


async def test_a_request_with_it_is_logged_at_debug_and_in_the_audit_log(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(settings=SETTINGS)
    signed = sign_debug_header(TOKEN, LATER)
    debug = DebugHeader(TOKEN, clock=lambda: LATER - 60)
    wrapped = ExchangeMiddleware(RequestLoggingMiddleware(app, settings=SETTINGS), observers=[debug])
    await drive(wrapped, http_scope("/x", headers=header(signed)))
    await drive(wrapped, http_scope("/y"))
    lines = lines_of(capsys)
    assert [line["message"] for line in lines] == [
        "debug_log",
        "GET /x started",
        "looked",
        "GET /x 200",
        "GET /y 200",
    ]
    assert [line.get("context") for line in lines] == [MARK, None, MARK, MARK, None]
    assert (lines[0]["component"], lines[0]["outcome"], lines[0]["path"]) == ("audit", "success", "/x")
    assert signed not in json.dumps(lines)


@pytest.mark.parametrize("fused", [True, False])
async def test_the_middleware_looks_for_it_once(capsys: pytest.CaptureFixture[str], fused: bool) -> None:
    setup_logging(settings=SETTINGS)
    inner: ASGIApp = ExchangeMiddleware(app, observers=[DebugHeader(TOKEN)])

    async def between(scope: Scope, receive: Receive, send: Send) -> None:
        await inner(scope, receive, send)

    wrapped = RequestLoggingMiddleware(inner if fused else between, settings=SETTINGS)
    await drive(wrapped, http_scope("/x", headers=header(sign_debug_header(TOKEN, time.time() + 60))))
    assert [line["message"] for line in lines_of(capsys)] == ["debug_log", "GET /x started", "looked", "GET /x 200"]


async def test_without_a_token_there_is_no_such_header(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(log_level="INFO", ops_token="")
    setup_logging(settings=settings)
    wrapped = RequestLoggingMiddleware(app, settings=settings)
    assert [type(observer) for observer in wrapped.hooks.observers] == [RequestLoggingMiddleware]
    for token in (" ", "x"):
        await drive(wrapped, http_scope("/x", headers=header(sign_debug_header(token, LATER))))
    assert [line["message"] for line in lines_of(capsys)] == ["GET /x 200", "GET /x 200"]


def test_the_token_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_TOKEN", TOKEN)
    observers = RequestLoggingMiddleware(app).hooks.observers
    assert [type(observer) for observer in observers] == [DebugHeader, RequestLoggingMiddleware]


def test_its_name() -> None:
    assert DEBUG_HEADER == "X-Debug-Log"
