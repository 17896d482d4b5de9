"""`python -m tests.benchmarks.scrape`: what scrapes of 10,000 series cost the requests that are served meanwhile.

A real server has the metrics of 174 routes and a gauge of the user's with 5,000 label values. Requests come at a steady
rate; in turns nobody scrapes, somebody does every second, and somebody does without a pause. The 99th percentile of the
latency must not be more than 1.5 times as high with a scrape every second, which is much more than the usual 15: in
a process of its own, and in one whose metrics are in shared files.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import uvicorn
from prometheus_client import CollectorRegistry, Gauge
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from asgi_obs import observe

ROOT = Path(__file__).parents[2]
ROUTES = 174
LABEL_VALUES = 5_000

ROUNDS = 9
SECONDS = 2.0
"""Of each turn: some two minutes in all."""

CONNECTIONS = 4
INTERVAL = 0.005
"""Seconds between two requests of a connection."""

REQUEST = b"GET /route0/world HTTP/1.1\r\nhost: localhost\r\n\r\n"
BODY = b"hello"

NEVER, EACH_SECOND, ALWAYS = "no scrapes", "a scrape every second", "scrapes without a pause"
PAUSES = {NEVER: None, EACH_SECOND: 1.0, ALWAYS: 0.0}
BAR = 1.5


async def hello(request: Request) -> Response:
    return PlainTextResponse(BODY)


def serve(fd: int) -> None:
    registry = CollectorRegistry()
    stock = Gauge("stock_items", "Items in stock.", ["shop", "article"], registry=registry)
    for number in range(LABEL_VALUES):
        stock.labels(f"shop {number % 50}", f"article {number}").set(number)
    app = Starlette(routes=[Route(f"/route{number}/{{name}}", hello) for number in range(ROUTES)])
    uvicorn.run(observe(app, registry=registry), fd=fd, log_level="error")


def scrape(port: int, pause: float) -> None:
    """Scrape until killed; prints the seconds of each scrape."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    while True:
        begin = time.perf_counter()
        get(connection, "/metrics")
        taken = time.perf_counter() - begin
        print(taken, flush=True)
        time.sleep(max(0.0, pause - taken))


def get(connection: http.client.HTTPConnection, path: str, encoding: str = "gzip") -> bytes:
    connection.request("GET", path, headers={"Accept-Encoding": encoding})
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise RuntimeError(f"{path}: {response.status} {body!r}")
    return body


@contextmanager
def program(*arguments: object, fds: tuple[int, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """A process of this module; killed at the end."""
    command = [sys.executable, "-m", __spec__.name, *map(str, arguments)]
    with subprocess.Popen(command, pass_fds=fds, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def load(port: int) -> list[float]:
    """Seconds that each request takes."""
    taken: list[float] = []
    requests = asyncio.gather(*(_requests(port, number, taken) for number in range(CONNECTIONS)))
    await asyncio.wait_for(requests, 10 * SECONDS)
    return taken


async def _requests(port: int, number: int, taken: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    due = time.perf_counter() + INTERVAL * number / CONNECTIONS
    end = due + SECONDS
    while due < end:
        await asyncio.sleep(due - time.perf_counter())
        begin = time.perf_counter()
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(BODY))
        taken.append(time.perf_counter() - begin)
        due = max(due + INTERVAL, time.perf_counter())
    writer.close()
    await writer.wait_closed()


def turn(port: int, pause: float | None) -> tuple[list[float], list[float]]:
    """Seconds of each request, and of each scrape."""
    with nullcontext() if pause is None else program("scrape", port, pause) as scraper:
        if scraper is None:
            return asyncio.run(load(port)), []
        first = float(scraper.stdout.readline())  # the process is up
        requests = asyncio.run(load(port))
        scraper.kill()
        return requests, [first, *map(float, scraper.stdout)]


def percentile(seconds: list[float], share: float) -> float:
    return sorted(seconds)[int(len(seconds) * share)]


def measure(port: int) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds of requests and of scrapes, by who scrapes."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for number in range(ROUTES):
        get(connection, f"/route{number}/world")
    text = get(connection, "/metrics", "identity")
    samples = sum(not line.startswith(b"#") for line in text.splitlines())
    print(f"{samples:,} series, {len(text):,} bytes, {CONNECTIONS / INTERVAL:,.0f} requests a second")
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in PAUSES}
    turn(port, 0.0)
    for _ in range(ROUNDS):
        for name, pause in PAUSES.items():
            for kept, new in zip(taken[name], turn(port, pause), strict=True):
                kept += new
    return taken


def holds() -> bool:
    """Measure and print; whether the bar holds."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Connections inherit it; the server does not set it for a socket that it is given.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with program("serve", listener.fileno(), fds=(listener.fileno(),)):
            taken = measure(listener.getsockname()[1])
    base = percentile(taken[NEVER][0], 0.99)
    print(f"{'':26}{'p50':>10}{'p99':>10}{'p99':>8}{'scrapes':>10}{'median':>10}{'longest':>10}")
    for name, (requests, scrapes) in taken.items():
        p50, p99 = (percentile(requests, share) for share in (0.5, 0.99))
        print(f"{name:26}{p50 * 1e3:>7.2f} ms{p99 * 1e3:>7.2f} ms{p99 / base:>6.2f} x", end="")
        if scrapes:
            print(f"{len(scrapes):>10}{percentile(scrapes, 0.5) * 1e3:>7.0f} ms{max(scrapes) * 1e3:>7.0f} ms", end="")
        print()
    ratio = percentile(taken[EACH_SECOND][0], 0.99) / base
    print(f"{'ok ' if ratio <= BAR else 'MISS'} {ratio:.2f} x (bar {BAR})")
    return ratio <= BAR


def main() -> int:
    """Measure both modes; returns 1 if the bar does not hold in one of them."""
    held = [holds()]
    with tempfile.TemporaryDirectory() as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        print("\nshared files: ", end="")
        held.append(holds())
    return int(not all(held))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", fd]:
            serve(int(fd))
        case ["scrape", port, pause]:
            scrape(int(port), float(pause))
        case _:
            sys.exit(main())
