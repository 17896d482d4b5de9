"""Whether a port accepts connections."""

from __future__ import annotations

import socket
import sys

import pytest

from asgi_obs.errors import ConfigurationError
from asgi_obs.health import CheckResult
from asgi_obs.health.checks import TcpCheck

pytestmark = pytest.mark.anyio


async def test_a_port_that_accepts_is_healthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        result = await TcpCheck(*listener.getsockname())()
        with listener.accept()[0] as accepted:
            assert (result, accepted.recv(1)) == (CheckResult.healthy("connected"), b"")


async def test_a_port_that_refuses_is_unhealthy() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        result = await TcpCheck(*bound.getsockname())()
    assert (result.status, result.message) == ("unhealthy", "cannot connect")
    assert "refused" in result.detail or "Connect call failed" in result.detail


async def test_a_host_that_has_no_address_is_unhealthy() -> None:
    result = await TcpCheck("nowhere.invalid", 80, timeout=30)()
    assert (result.status, result.message) == ("unhealthy", "cannot connect")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux leaves those unanswered that it has no room for")
async def test_a_port_that_does_not_answer_is_unhealthy() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        result = await TcpCheck(*full.getsockname(), timeout=0.05)()
    assert result == CheckResult.unhealthy("no connection within 0.05 s")


@pytest.mark.parametrize(
    ("host", "port", "timeout", "wrong"), [("", 80, 1, "host"), ("h", 0, 1, "port"), ("h", 80, 0, "timeout")]
)
def test_wrong_options_are_refused(host, port, timeout, wrong) -> None:
    with pytest.raises(ConfigurationError) as raised:
        TcpCheck(host, port, timeout=timeout)
    assert raised.value.option == wrong
