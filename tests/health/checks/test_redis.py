"""Redis: a real server, sync and async clients."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
import redis
import redis.asyncio
from redis.backoff import ConstantBackoff, NoBackoff
from redis.retry import Retry

from asgi_obs.errors import ConfigurationError
from asgi_obs.health import CheckResult, HealthRegistry
from asgi_obs.health.checks import RedisCheck

DEADLINE = 20.0
"""Seconds that anything may wait; never reached if all is well."""

HEALTHY = CheckResult.healthy("answers PING")


class Server:
    """A Redis on a socket of its own."""

    def __init__(self, directory: Path) -> None:
        self.socket = str(directory / "socket")
        options = ("--port", "0", "--unixsocket", self.socket, "--dir", str(directory), "--save", "")
        self.process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    if shutil.which("redis-server") is None and "CI" not in os.environ:  # pragma: no cover - not in CI
        pytest.skip("needs redis-server: apt-get install redis-server")
    with tempfile.TemporaryDirectory(prefix="redis") as directory:
        server = Server(Path(directory))
        with server.process:
            try:
                wait_until_up(server)
                yield server
            finally:
                server.process.kill()


def wait_until_up(server: Server) -> None:
    patient = Retry(ConstantBackoff(0.01), int(DEADLINE / 0.01))
    with redis.Redis(unix_socket_path=server.socket, retry=patient, retry_on_error=[redis.ConnectionError]) as client:
        assert client.ping()


@pytest.fixture
def client(server) -> Iterator[redis.Redis]:
    with redis.Redis(unix_socket_path=server.socket, socket_timeout=0.2, retry=Retry(NoBackoff(), 0)) as client:
        yield client


@pytest.mark.anyio
async def test_a_redis_that_answers_is_healthy(client) -> None:
    health = HealthRegistry()
    health.add("redis", RedisCheck(client))
    result = (await health.run()).checks["redis"]
    assert (result.status, result.message) == ("healthy", "answers PING")


def test_a_redis_that_does_not_answer_is_an_error_and_then_healthy_again(server, client) -> None:
    check = RedisCheck(client)
    with server.paused(), pytest.raises(redis.TimeoutError):
        check()
    assert check() == HEALTHY


def test_a_redis_that_is_not_there_is_an_error(tmp_path) -> None:
    with redis.Redis(unix_socket_path=str(tmp_path / "none"), retry=Retry(NoBackoff(), 0)) as nowhere:
        with pytest.raises(redis.ConnectionError):
            RedisCheck(nowhere)()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_async_client_is_awaited(server, anyio_backend) -> None:
    health = HealthRegistry()
    async with redis.asyncio.Redis(unix_socket_path=server.socket) as client:
        health.add("redis", RedisCheck(client))
        result = (await health.run()).checks["redis"]
    assert (result.status, result.message) == ("healthy", "answers PING")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_async_client_whose_check_was_cancelled_still_gets_its_own_answers(server, anyio_backend) -> None:
    async with redis.asyncio.Redis(unix_socket_path=server.socket, single_connection_client=True) as client:
        await client.set("name", "value")
        with server.paused(), anyio.move_on_after(0.05) as scope:
            await RedisCheck(client)()
        assert scope.cancelled_caught
        assert await client.get("name") == b"value"
        assert await RedisCheck(client)() == HEALTHY


def test_an_answer_that_is_no_pong_is_unhealthy() -> None:
    class Mute:
        def ping(self) -> bool:
            return False

    assert RedisCheck(Mute())() == CheckResult.unhealthy("no answer to PING")


def test_what_is_no_client_is_refused() -> None:
    with pytest.raises(ConfigurationError) as raised:
        RedisCheck("redis://localhost")
    assert raised.value.option == "client"
