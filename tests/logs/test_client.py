from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.authentication import BaseUser, SimpleUser, UnauthenticatedUser

from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import Exchange
from asgi_obs.exchange.hooks import Hooks
from asgi_obs.logs.client import TrustedProxies, has_credential, peer_address, scope_user_id
from asgi_obs.routes import Routes
from asgi_obs.testing import http_scope
from asgi_obs.types import Message

PROXIES = TrustedProxies(["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"])


def exchange_of(**scope: Any) -> Exchange:
    async def receive() -> Message: ...

    async def send(message: Message) -> None: ...

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    return Exchange(http_scope(**scope), receive, send, Hooks(()), Routes(app))


def client_of(peer: str | None, *forwarded: bytes) -> str | None:
    client = None if peer is None else (peer, 1)
    headers = [(b"host", b"h"), *((b"x-forwarded-for", value) for value in forwarded)]
    return PROXIES.client_address(http_scope(client=client, headers=headers))


@pytest.mark.parametrize(("client", "address"), [(("1.2.3.4", 5), "1.2.3.4"), (None, None), (("", 0), None)])
def test_the_peer_is_the_other_end_of_the_connection(client: Any, address: str | None) -> None:
    assert peer_address(http_scope(client=client)) == address


def test_a_scope_without_a_client_has_no_peer() -> None:
    assert peer_address({"type": "http"}) is None


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        (None, [b"1.1.1.1"], None),
        ("testclient", [b"1.1.1.1"], "testclient"),
        ("203.0.113.9", [b"1.1.1.1"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [b"1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", [b"6.6.6.6, 1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", [b"6.6.6.6, 1.1.1.1, 192.0.2.1,10.9.9.9"], "1.1.1.1"),
        ("10.0.0.1", [b"6.6.6.6", b"1.1.1.1", b"10.2.2.2"], "1.1.1.1"),
        ("10.0.0.1", [b"10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        ("10.0.0.1", [b"1.1.1.1, unknown, 10.2.2.2"], "10.2.2.2"),
        ("10.0.0.1", [b"<script>"], "10.0.0.1"),
        ("10.0.0.1", [b"1.1.1.1:4711"], "1.1.1.1"),
        ("10.0.0.1", [b"[2001:db9::1]:443"], "2001:db9::1"),
        ("2001:db8::5", [b"2001:db9::1"], "2001:db9::1"),
        ("::ffff:10.0.0.1", [b"::ffff:1.1.1.1"], "1.1.1.1"),
    ],
)
def test_only_what_trusted_proxies_wrote_is_believed(
    peer: str | None, forwarded: list[bytes], client: str | None
) -> None:
    assert client_of(peer, *forwarded) == client


def test_a_header_without_end_is_read_only_so_far() -> None:
    assert client_of("10.0.0.1", b"1.1.1.1," + b",".join([b"10.0.0.2"] * 10_000)) == "10.0.0.2"


@given(st.lists(st.binary()))
def test_no_header_breaks_the_search(values: list[bytes]) -> None:
    assert client_of("10.0.0.1", *values) is not None


@pytest.mark.parametrize("proxy", ["10.0.0.0/33", "proxy.example", "", None])
def test_a_proxy_that_is_no_address_is_refused(proxy: Any) -> None:
    with pytest.raises(ConfigurationError, match="trusted_proxies"):
        TrustedProxies(["10.0.0.1", proxy])


@pytest.mark.parametrize(
    ("headers", "credential"),
    [
        ([], False),
        ([(b"accept", b"*/*")], False),
        ([(b"authorization", b"Bearer x")], True),
        ([(b"cookie", b"session=x")], True),
        ([(b"cookie", b"theme=dark; connect.sid=x")], True),
        ([(b"cookie", b"a=1"), (b"cookie", b"JSESSIONID=x"), (b"cookie", b"b=2")], True),
        ([(b"cookie", b"access_token=x")], True),
        ([(b"cookie", b"csrftoken=x; theme=session")], False),
        ([(b"cookie", b";;=;\xff")], False),
    ],
)
def test_a_credential_is_an_authorization_header_or_the_cookie_of_a_session(
    headers: list[tuple[bytes, bytes]], credential: bool
) -> None:
    assert has_credential(exchange_of(headers=headers)) is credential


class Raising(BaseUser):
    @property
    def is_authenticated(self) -> bool:
        return True


class Numbered:
    id = 7


class Anonymous:
    pass


@pytest.mark.parametrize(
    ("user", "user_id"),
    [
        (None, None),
        ("ann", "ann"),
        (7, 7),
        (SimpleUser("ann"), "ann"),
        (UnauthenticatedUser(), None),
        (Raising(), None),
        (Numbered(), 7),
        (Anonymous(), None),
        ({"sub": "ann", "id": None}, "ann"),
        ({}, None),
    ],
)
def test_the_user_of_a_scope_has_an_id_however_it_is_told(user: Any, user_id: Any) -> None:
    assert scope_user_id(exchange_of(user=user)) == user_id
