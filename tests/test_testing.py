"""The driver that tests use to run an application."""

from __future__ import annotations

import asyncio

import pytest

from asgi_obs.testing import drive, http_scope, websocket_scope


def test_an_http_scope_has_every_key_that_asgi_requires():
    assert http_scope("/a", "PUT", [(b"a", b"b")]) == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "PUT",
        "scheme": "http",
        "path": "/a",
        "raw_path": b"/a",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"a", b"b")],
        "client": ("203.0.113.7", 50_000),
        "server": ("testserver", 80),
        "state": {},
    }


def test_a_websocket_scope_has_subprotocols_and_no_method():
    scope = websocket_scope("/ws")

    assert (scope["type"], scope["scheme"], scope["subprotocols"]) == ("websocket", "ws", [])
    assert "method" not in scope


def test_the_raw_path_is_the_encoded_one():
    """Servers hand on what was on the wire, and there a path is percent-encoded ASCII."""
    assert http_scope("/é b")["raw_path"] == b"/%C3%A9%20b"


@pytest.mark.parametrize("make", [http_scope, websocket_scope])
def test_keys_can_be_added_and_replaced(make):
    scope = make("/", client=None, scheme="custom", extra=1)

    assert (scope["client"], scope["scheme"], scope["extra"]) == (None, "custom", 1)


@pytest.mark.parametrize("make", [http_scope, websocket_scope])
def test_no_two_scopes_share_anything_that_can_change(make):
    first, second = make(), make()

    for key in ("asgi", "headers", "state"):
        assert first[key] is not second[key]


async def echo(scope, receive, send):
    await send(await receive())


def test_what_the_application_sends_is_returned():
    assert asyncio.run(drive(echo, http_scope())) == [{"type": "http.request", "body": b"", "more_body": False}]


def test_a_websocket_starts_with_a_connect():
    assert asyncio.run(drive(echo, websocket_scope())) == [{"type": "websocket.connect"}]


def test_the_incoming_messages_come_in_order():
    async def app(scope, receive, send):
        for _ in range(2):
            await echo(scope, receive, send)

    incoming = [{"type": "http.request", "body": b"1"}, {"type": "http.disconnect"}]

    assert asyncio.run(drive(app, http_scope(), incoming)) == incoming


def test_what_the_application_raises_is_raised():
    error = ValueError("x")

    async def app(scope, receive, send):
        raise error

    with pytest.raises(ValueError, match="x") as caught:
        asyncio.run(drive(app, http_scope()))

    assert caught.value is error


def test_behind_the_last_message_receive_waits_as_long_as_the_client_stays():
    async def app(scope, receive, send):
        await receive()
        waiting = asyncio.create_task(receive())
        for _ in range(10):
            await asyncio.sleep(0)
        await send({"type": "waiting", "done": waiting.done()})
        waiting.cancel()

    assert asyncio.run(drive(app, http_scope())) == [{"type": "waiting", "done": False}]
