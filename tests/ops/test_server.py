"""The ops app behind a real server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from asgi_obs.health import HealthRegistry
from asgi_obs.ops import OpsApp, mount_ops
from asgi_obs.types import ASGIApp


class _Server(uvicorn.Server):
    """Says when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()


@contextlib.contextmanager
def serving(app: ASGIApp) -> Iterator[httpx.Client]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = _Server(uvicorn.Config(app, log_config=None, ws="none"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            assert server.is_up.wait(10)
            host, port = listener.getsockname()
            with httpx.Client(base_url=f"http://{host}:{port}", timeout=10) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def health() -> HealthRegistry:
    health = HealthRegistry()
    health.add("database", lambda: True)
    return health


def test_alone_it_is_served_with_its_lifespan(health: HealthRegistry) -> None:
    with serving(OpsApp(health=health, registry=CollectorRegistry())) as client:
        assert client.get("/health/ready").json() == {"status": "ready"}
        assert client.get("/health/").json()["checks"]["database"]["status"] == "healthy"
        metrics = client.get("/metrics")
        assert (metrics.status_code, metrics.headers["content-encoding"]) == (200, "gzip")
        assert 'health_check_status{check="database"} 1.0' in metrics.text
        assert client.head("/metrics").content == b""
        assert client.get("/").status_code == 404


def test_in_front_of_an_application_both_are_served(health: HealthRegistry) -> None:
    api = FastAPI()

    @api.get("/items")
    async def items() -> list[int]:
        return [1]

    with serving(mount_ops(api, OpsApp(health=health, registry=CollectorRegistry()), "/internal")) as client:
        assert client.get("/items").json() == [1]
        assert client.get("/internal/health/live").json() == {"status": "alive"}
        health.set_not_ready("shutting down")
        assert client.get("/internal/health/ready").status_code == 503
        assert client.get("/items").status_code == 200
