"""The ops app on a port of its own, in the process of the application."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import psutil
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send

from asgi_obs.errors import ConfigurationError, MissingExtraError
from asgi_obs.ops import OpsApp, mount_ops
from asgi_obs.ops.port import OpsServer
from asgi_obs.settings import Settings
from asgi_obs.testing import drive, http_scope
from asgi_obs.types import ASGIApp, Message

pytestmark = pytest.mark.anyio


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number: int = listener.getsockname()[1]
    return number


def make_mount(port: int, **settings: Any) -> ASGIApp:
    api = FastAPI()

    @api.get("/orders")
    async def orders() -> list[int]:
        return [1]

    return mount_ops(api, OpsApp(registry=CollectorRegistry(), settings=Settings(ops_port=port, **settings)))


@asynccontextmanager
async def living(app: ASGIApp) -> AsyncIterator[Message]:
    """Run the lifespan of an application around the block; gives how it has started."""
    ending, started = anyio.Event(), anyio.Event()
    sent: list[Message] = []

    async def receive() -> Message:
        if not sent:
            return {"type": "lifespan.startup"}
        await ending.wait()
        return {"type": "lifespan.shutdown"}

    async def send(message: Message) -> None:
        sent.append(message)
        started.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app, {"type": "lifespan"}, receive, send)
        await started.wait()
        yield sent[0]
        ending.set()


async def get(port: int, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://127.0.0.1:{port}{path}", headers=headers)


async def main_port(app: ASGIApp, path: str) -> Any:
    return (await drive(app, http_scope(path)))[0]["status"]


async def test_the_ops_paths_are_on_their_own_port_and_only_the_bare_probes_on_the_main_one(port: int) -> None:
    app = make_mount(port)

    async with living(app):
        served = [
            (await get(port, path)).status_code for path in ("/metrics", "/health", "/health/ready", "/health/live")
        ]
        on_main = [await main_port(app, path) for path in ("/metrics", "/health", "/health/ready", "/health/live")]
        assert await main_port(app, "/orders") == 200

    assert (served, on_main) == ([200, 200, 200, 200], [404, 404, 200, 200])


async def test_it_ends_with_the_application(port: int) -> None:
    async with living(make_mount(port)):
        assert (await get(port, "/health/live")).status_code == 200

    with pytest.raises(httpx.ConnectError):
        await get(port, "/health/live")


async def test_without_a_lifespan_the_first_request_starts_it(port: int) -> None:
    app = make_mount(port)

    await main_port(app, "/orders")

    assert (await get(port, "/metrics")).status_code == 200
    await app._server.stop()  # type: ignore[attr-defined]


async def test_credentials_hold_there_too_and_headers_do_not_say_who_asks(port: int) -> None:
    async with living(make_mount(port, ops_token="t0p-t0ken", ops_allowed_networks="192.0.2.0/24")):
        forged = await get(port, "/metrics", Authorization="Bearer t0p-t0ken", **{"X-Forwarded-For": "192.0.2.1"})
        assert forged.status_code == 403
        assert (await get(port, "/health/live")).text == '{"status":"alive"}'
        assert "server" not in forged.headers


async def test_on_the_main_port_the_probes_are_bare_without_a_credential_too(port: int) -> None:
    ops = OpsApp(registry=CollectorRegistry(), settings=Settings(ops_port=port))
    ops.health.add("database", lambda: False)
    app = mount_ops(drive, ops)  # type: ignore[arg-type]

    async with living(mount_ops(FastAPI(), ops)):
        sent = await drive(app, http_scope("/health/ready"))
        assert (await get(port, "/health/ready")).json()["checks"]["database"]["status"] == "unhealthy"

    assert (sent[0]["status"], sent[1]["body"]) == (503, b'{"status":"not_ready"}')


LISTENER = """
import socket
with socket.create_server(("127.0.0.1", int(input())), reuse_port=True) as listener:
    print(flush=True)
    input()
"""


def test_another_service_that_would_share_the_port_fails_the_start(port: int) -> None:
    # By way of a shell, so that it is no child of ours, as a worker beside us is none of our own.
    command = ["sh", "-c", f"{sys.executable} -c '{LISTENER}'; :"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as stranger:
        assert stranger.stdin is not None
        assert stranger.stdout is not None
        print(port, file=stranger.stdin, flush=True)
        stranger.stdout.readline()

        async def start() -> None:
            OpsServer(drive, "127.0.0.1", port).start()  # type: ignore[arg-type]

        with pytest.raises(ConfigurationError, match=rf"OPS_PORT={port} is not valid: expected a port that another"):
            anyio.run(start)
        print(file=stranger.stdin, flush=True)


def test_where_nobody_may_look_the_port_is_shared(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(kind: str) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "net_connections", refuse)

    async def start() -> bool:
        server = OpsServer(drive, "127.0.0.1", port)  # type: ignore[arg-type]
        server.start()
        await server.stop()
        return True

    assert anyio.run(start)


async def test_an_address_that_cannot_be_listened_on_fails_the_start(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        async with living(make_mount(port)) as started:
            assert started["type"] == "lifespan.startup.failed"
            assert f"OPS_PORT={port} is not valid: expected a free port of 127.0.0.1" in started["message"]


async def test_without_a_lifespan_it_does_not_break_the_request(
    port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("asgi_obs.errors._last_logged", {})
    with socket.create_server(("127.0.0.1", port)):
        assert await main_port(make_mount(port), "/orders") == 200
    assert "OpsMount.server failed" in caplog.text


async def test_two_workers_share_the_port(port: int) -> None:
    first, second = make_mount(port), make_mount(port)

    async with living(first) as started, living(second) as also_started:
        assert {started["type"], also_started["type"]} == {"lifespan.startup.complete"}
        assert (await get(port, "/health/live")).status_code == 200


async def test_what_breaks_it_is_reported(
    port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("asgi_obs.errors._last_logged", {})

    async def app(scope: Scope, receive: Receive, send: Send) -> None: ...

    server = OpsServer(app, "127.0.0.1", port)
    server.start()
    running = server._running
    assert running is not None
    running[0].config.loaded = True  # so that it cannot load what it serves with
    await server.stop()
    assert "OpsServer failed" in caplog.text


async def test_it_can_be_stopped_before_it_was_started() -> None:
    server = OpsServer(drive, "127.0.0.1", 1)  # type: ignore[arg-type]

    await server.stop()

    assert server._running is None


async def test_a_task_that_is_cancelled_is_no_error(port: int, caplog: pytest.LogCaptureFixture) -> None:
    server = OpsServer(drive, "127.0.0.1", port)  # type: ignore[arg-type]
    server.start()
    assert server._running is not None
    server._running[1].cancel()

    await asyncio.wait([server._running[1]])

    assert caplog.text == ""


def test_it_needs_asyncio() -> None:
    async def start() -> None:
        OpsServer(drive, "127.0.0.1", 1).start()  # type: ignore[arg-type]

    with pytest.raises(ConfigurationError, match="OPS_PORT=1 is not valid: expected 0 under trio"):
        anyio.run(start, backend="trio")


def test_it_needs_uvicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(MissingExtraError, match=r"OPS_PORT needs .*asgi-obs\[server\]"):
        make_mount(9000)
