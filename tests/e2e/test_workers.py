"""Several processes serve one port: the numbers of any of them are those of all, whoever is killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE = 60.0
APPLICATION = "tests.e2e.workers_app:app"
CONNECTIONS = 16
WARNING = "workers serve one address"
REQUESTS = 10
"""Of each connection: all of them might be those of one worker."""

SETTLED = 10
"""Scrapes in a row that tell the same."""

SERVERS = {
    "uvicorn": ["uvicorn", APPLICATION, "--port", "{port}", "--workers", "{workers}", "--log-level", "error"],
    "gunicorn": [
        "gunicorn", APPLICATION, "-b", "127.0.0.1:{port}", "-k", "uvicorn_worker.UvicornWorker", "-w", "{workers}"
    ],
    "granian": ["granian", "--interface", "asgi", APPLICATION, "--port", "{port}", "--workers", "{workers}"],
    "hypercorn": ["hypercorn", APPLICATION, "-b", "127.0.0.1:{port}", "--workers", "{workers}"],
}  # fmt: skip
BESIDE = {"gunicorn": ["uvicorn_worker"]}
"""What has to be installed beside the server."""


def require(name: str) -> None:
    """Skip the test if the server is not installed; in CI it has to be."""
    needed = [module for module in (name, *BESIDE.get(name, ())) if find_spec(module) is None]
    assert not (needed and "CI" in os.environ), needed
    if needed:  # pragma: no cover - they are installed for a coverage run
        pytest.skip(f"needs {' and '.join(needed)}")


class Service:
    """A server with some workers.

    Attributes:
        port: Where it listens.
        output: What all its processes have written.
    """

    def __init__(self, port: int, output: Path) -> None:
        self.port = port
        self._output = output

    @property
    def output(self) -> str:
        return self._output.read_text()

    async def ask(self, path: str) -> bytes:
        """Ask over a connection of its own, so that it may be any worker that answers."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        with closing(writer):
            return await exchange(reader, writer, path)

    async def scrape(self) -> str:
        return (await self.ask("/metrics")).decode()

    async def count(self) -> float:
        """All requests so far, as any worker tells."""
        return float(re.findall(r'^http_requests_total\{endpoint="/items".* (\S+)$', await self.scrape(), re.M)[0])


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> bytes:
    """Send a request and return the body of the answer."""
    writer.write(f"GET {path} HTTP/1.1\r\nhost: shop\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    return await reader.readexactly(int(re.findall(rb"(?i)content-length: (\d+)", head)[0]))


def pid_of(body: bytes) -> int:
    return int(body.rsplit(b"# ", 1)[1])


def free_port() -> int:
    """A port that the kernel gives to nobody of itself."""
    return next(port for port in random.sample(range(20_000, 30_000), 100) if is_free(port))


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return bool(probe.connect_ex(("127.0.0.1", port)))


@contextmanager
def serving(tmp_path: Path, name: str, workers: int, *options: str, shared: bool = True) -> Iterator[Service]:
    port = free_port()
    output = tmp_path / "output"
    environment = {key: value for key, value in os.environ.items() if key.upper() != "PROMETHEUS_MULTIPROC_DIR"}
    if shared:
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path / "metrics")
    command = [word.format(port=port, workers=workers) for word in SERVERS[name]]
    with output.open("wb") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", *command, *options], cwd=ROOT, env=environment, stdout=file, stderr=file
        )
        try:
            yield Service(port, output)
        finally:
            server.terminate()
            server.wait(DEADLINE)


async def settle(service: Service, totals: list[float]) -> None:
    """Scrape until nothing is counted any more: an answer is received a moment before it is counted."""
    deadline = time.monotonic() + DEADLINE
    while len(totals) < SETTLED or len(set(totals[-SETTLED:])) > 1:
        assert time.monotonic() < deadline
        totals.append(await service.count())


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


class Load:
    """Clients that ask again and again, and count.

    Attributes:
        answered: The answers that were received whole, by PID.
        interrupted: The requests that were sent, and then the connection broke.
    """

    def __init__(self, service: Service, path: str = "/items/1") -> None:
        self.answered: Counter[int] = Counter()
        self.interrupted = 0
        self._service = service
        self._path = path
        self._stopped = False

    async def run(self) -> None:
        await asyncio.gather(*(self._ask() for _ in range(CONNECTIONS)))

    def stop(self) -> None:
        self._stopped = True

    async def _ask(self) -> None:
        while not self._stopped:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._service.port)
            except OSError:  # it is not up yet
                await asyncio.sleep(0.05)
                continue
            with closing(writer):
                try:
                    for _ in range(REQUESTS):
                        self.answered[pid_of(await exchange(reader, writer, self._path))] += 1
                except (OSError, asyncio.IncompleteReadError):
                    self.interrupted += 1


async def watch(service: Service, totals: list[float]) -> None:
    """Scrape whichever worker answers, again and again."""
    while True:
        with suppress(OSError, asyncio.IncompleteReadError):  # the worker was killed
            totals.append(await service.count())


async def kill_one_of(load: Load, killed: set[int]) -> None:
    """Kill the busiest worker that lives, and wait until another one answers in its place."""
    known = set(load.answered)
    busiest = max(known - killed, key=load.answered.__getitem__)
    killed.add(busiest)
    os.kill(busiest, signal.SIGKILL)
    await until(lambda: set(load.answered) - known)


async def count_while_workers_are_killed(service: Service) -> tuple[Load, list[float]]:
    load = Load(service)
    totals: list[float] = []
    clients = asyncio.create_task(load.run())
    await until(lambda: len(load.answered) == 4)
    watcher = asyncio.create_task(watch(service, totals))
    await until(lambda: len(totals) >= SETTLED)
    killed: set[int] = set()
    await kill_one_of(load, killed)
    await kill_one_of(load, killed)
    load.stop()
    await clients
    watcher.cancel()
    await settle(service, totals)
    return load, totals


def test_no_request_is_lost_or_counted_twice_when_workers_are_killed_and_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, "uvicorn", 4) as service:
        load, totals = asyncio.run(count_while_workers_are_killed(service))
        lines = [line for line in service.output.splitlines() if '"asgi_obs.request"' in line]
        files = sorted(path.name for path in (tmp_path / "metrics").iterdir())
    answered = load.answered.total()
    # A worker may be killed when it has sent an answer and not yet counted it: one each.
    assert answered - 2 <= totals[-1] <= answered + load.interrupted
    assert load.interrupted <= 2 * CONNECTIONS
    assert totals == sorted(totals)
    assert answered - 2 <= len(lines) <= answered + load.interrupted
    assert {json.loads(line)["pid"] for line in lines} == set(load.answered)
    assert len(files) < 3 * 4


async def ask_all(service: Service, workers: int) -> tuple[Load, float]:
    """Ask until that many workers have answered; returns what clients have counted, and what a scrape tells."""
    load = Load(service)
    clients = asyncio.create_task(load.run())
    await until(lambda: len(load.answered) == workers)
    load.stop()
    await clients
    totals: list[float] = []
    await settle(service, totals)
    return load, totals[-1]


@pytest.mark.parametrize(
    ("name", "options"),
    [("uvicorn", []), ("gunicorn", []), ("gunicorn", ["--preload"]), ("granian", []), ("hypercorn", [])],
)
def test_any_worker_tells_of_all_requests(name: str, options: list[str], tmp_path: Path) -> None:
    require(name)
    with serving(tmp_path, name, 2, *options) as service:
        load, total = asyncio.run(ask_all(service, 2))
    assert load.interrupted == 0
    assert total == load.answered.total()


async def look(service: Service, workers: int, condition: Callable[[], object]) -> None:
    """Have all workers look for siblings until something has happened, and some more."""
    load = Load(service, "/look")
    clients = asyncio.create_task(load.run())
    await until(lambda: len(load.answered) == workers and condition())
    before = load.answered.copy()
    await until(lambda: all(load.answered[pid] > before[pid] + CONNECTIONS for pid in before))
    load.stop()
    await clients


@pytest.mark.parametrize("name", SERVERS)
def test_several_workers_without_a_directory_are_warned_of_once(name: str, tmp_path: Path) -> None:
    require(name)
    with serving(tmp_path, name, 2, shared=False) as service:
        asyncio.run(look(service, 2, lambda: WARNING in service.output))
        warnings = [json.loads(line) for line in service.output.splitlines() if WARNING in line]
    assert [(line["level"], line["component"]) for line in warnings] == [("WARN", "asgi_obs")]


@pytest.mark.parametrize(
    ("name", "options"),
    [("uvicorn", []), ("uvicorn", ["--reload"]), ("gunicorn", []), ("granian", []), ("hypercorn", [])],
)
def test_a_single_worker_is_not_warned_of(name: str, options: list[str], tmp_path: Path) -> None:
    require(name)
    with serving(tmp_path, name, 1, *options, shared=False) as service:
        asyncio.run(look(service, 1, lambda: True))
        assert WARNING not in service.output
