"""For how long a certificate is valid: real handshakes on loopback."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone

import anyio
import pytest
import trustme
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSListener

from asgi_obs.errors import ConfigurationError
from asgi_obs.health import CheckResult
from asgi_obs.health.checks import TlsCheck

pytestmark = pytest.mark.anyio

AUTHORITY = trustme.CA()


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def certificate(*, days: float, host: str = "localhost") -> trustme.LeafCert:
    """One that expires in so many days, and some seconds for the test."""
    now = datetime.now(timezone.utc)
    return AUTHORITY.issue_cert(
        host, not_before=now - timedelta(days=400), not_after=now + timedelta(days=days, hours=1)
    )


@asynccontextmanager
async def hanging_up(context: ssl.SSLContext | None) -> AsyncIterator[int]:
    """A server that ends a connection as soon as it has one, with TLS if there is a context; gives its port."""
    plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
    listener = plain if context is None else TLSListener(plain, context, standard_compatible=False)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, lambda stream: stream.aclose())
        yield plain.extra(SocketAttribute.local_port)  # noqa: S610 - this is not Django's
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def serving(leaf: trustme.LeafCert) -> AsyncIterator[int]:
    """A server that shows the certificate; gives its port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    leaf.configure_cert(context)
    async with hanging_up(context) as port:
        yield port


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (30, CheckResult.healthy("the certificate expires in 30 days")),
        (14, CheckResult.healthy("the certificate expires in 14 days")),
        (13, CheckResult.degraded("the certificate expires in 13 days")),
        (0, CheckResult.degraded("the certificate expires in 0 days")),
    ],
)
async def test_a_certificate_that_expires_soon_is_degraded(left, expected) -> None:
    async with serving(certificate(days=left)) as port:
        assert await TlsCheck("localhost", port, ssl_context=trusting())() == expected


async def test_an_expired_certificate_is_unhealthy() -> None:
    async with serving(certificate(days=-1)) as port:
        result = await TlsCheck("localhost", port, ssl_context=trusting())()
    assert result == CheckResult.unhealthy("the certificate is not valid: certificate has expired")


async def test_a_certificate_of_another_host_is_unhealthy() -> None:
    async with serving(certificate(days=30, host="other.example")) as port:
        result = await TlsCheck("localhost", port, ssl_context=trusting())()
    assert result.status == "unhealthy"
    assert result.message.startswith("the certificate is not valid: Hostname mismatch")


async def test_a_certificate_of_an_unknown_authority_is_unhealthy() -> None:
    async with serving(certificate(days=30)) as port:
        result = await TlsCheck("localhost", port)()
    assert result.status == "unhealthy"
    assert result.message.startswith("the certificate is not valid: unable to get local issuer certificate")


async def test_a_server_that_hangs_up_is_unhealthy() -> None:
    async with hanging_up(None) as port:
        result = await TlsCheck("127.0.0.1", port)()
    assert (result.status, result.message) == ("unhealthy", "cannot connect with TLS")


async def test_a_port_that_refuses_is_unhealthy() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        result = await TlsCheck(*bound.getsockname())()
    assert (result.status, result.message) == ("unhealthy", "cannot connect with TLS")


async def test_a_server_that_says_nothing_is_unhealthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        result = await TlsCheck(*silent.getsockname(), timeout=0.05)()
    assert result == CheckResult.unhealthy("no TLS connection within 0.05 s")


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"host": ""}, "host"),
        ({"port": 0}, "port"),
        ({"days": -1}, "days"),
        ({"timeout": 0}, "timeout"),
        ({"ssl_context": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}, "ssl_context"),
        ({"ssl_context": "ca.pem"}, "ssl_context"),
    ],
)
def test_wrong_options_are_refused(options, wrong) -> None:
    with pytest.raises(ConfigurationError) as raised:
        TlsCheck(**{"host": "localhost", **options})
    assert raised.value.option == wrong
