"""`python -m tests.benchmarks.probes`: what bad checks under many probes cost liveness, and what they leave behind.

A real server has a check that hangs in a thread, one that hangs in the event loop, one that raises and one that never
gives its connection back. It is asked for `/health/live` by one client, first alone, then while another process sends
1,000 probes a second to `/health` and `/health/ready`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import uvicorn
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import QueuePool

from asgi_obs import HealthRegistry, observe
from asgi_obs.types import Receive, Scope, Send

ROOT = Path(__file__).parents[2]
RATE = 1_000
SECONDS = 10
PATHS = ("/health", "/health/ready")
TIMEOUT = 0.5
"""Seconds that a check has."""

BAR = 0.020
"""Seconds that the 99th percentile of liveness may rise by."""


def serve(fd: int) -> None:
    """The service with the bad checks."""
    health = HealthRegistry()
    engine = create_engine("sqlite://", poolclass=QueuePool, pool_size=5, max_overflow=0, pool_timeout=0.1)
    kept: list[Connection] = []
    forever = threading.Event()
    health.add("hangs_in_a_thread", forever.wait, timeout=TIMEOUT)
    health.add("leaks", lambda: kept.append(engine.connect()), timeout=TIMEOUT)

    @health.check("hangs", timeout=TIMEOUT)
    async def hangs() -> None:
        await asyncio.Event().wait()

    @health.check("raises", timeout=TIMEOUT)
    async def raises() -> None:
        raise OSError("no route to host")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError

    uvicorn.run(observe(app, health=health), fd=fd, log_level="critical")


async def probe(port: int) -> None:
    """Send probes at a steady rate, over as many connections as that takes."""
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    asked = answered = 0

    async def ask(path: str) -> None:
        nonlocal answered
        reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nhost: probe\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        answered += head.startswith(b"HTTP/1.1 503")
        idle.append((reader, writer))

    begin = time.perf_counter()
    async with asyncio.timeout(3 * SECONDS):
        tasks = []
        while (elapsed := time.perf_counter() - begin) < SECONDS:
            while asked < elapsed * RATE:
                tasks.append(asyncio.create_task(ask(PATHS[asked % len(PATHS)])))
                asked += 1
            await asyncio.sleep(0.005)
        await asyncio.gather(*tasks)
    print(f"{asked} probes in {time.perf_counter() - begin:.1f} s, {answered} of them answered with 503")


def latencies(client: httpx.Client, seconds: float) -> list[float]:
    """Seconds that each request for liveness takes."""
    result = []
    ends_at = time.perf_counter() + seconds
    while time.perf_counter() < ends_at:
        begin = time.perf_counter()
        client.get("/health/live").raise_for_status()
        result.append(time.perf_counter() - begin)
        time.sleep(0.002)
    return result


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.99)]


def left_behind(process: psutil.Process) -> tuple[int, int]:
    """Threads and sockets of the service."""
    return process.num_threads(), len(process.net_connections())


def main() -> int:
    """Measure, print, and return 1 if the bar does not hold."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        # Connections inherit it; the server does not set it for a socket that it is given.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", "tests.benchmarks.probes"]
        options: dict[str, Any] = {"cwd": ROOT, "env": {**os.environ, "LOG_LEVEL": "ERROR"}}
        with subprocess.Popen([*command, "serve", str(listener.fileno())], pass_fds=[listener.fileno()], **options) as (
            server
        ):
            try:
                with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
                    client.get("/health")
                    idle = latencies(client, SECONDS)
                    before = left_behind(psutil.Process(server.pid))
                    with subprocess.Popen([*command, "probe", str(port)], **options):
                        loaded = latencies(client, SECONDS)
                    client.get("/health")
                    after = left_behind(psutil.Process(server.pid))
                    print(client.get("/health?verbose").text)
            finally:
                server.kill()
    rise = p99(loaded) - p99(idle)
    print(f"p99 of /health/live: idle {p99(idle) * 1e3:.2f} ms, under probes {p99(loaded) * 1e3:.2f} ms")
    print(f"threads and sockets: {before} before, {after} behind")
    held = rise < BAR and after <= before
    print(f"{'ok ' if held else 'MISS'} rise {rise * 1e3:.2f} ms (bar {BAR * 1e3:g} ms)")
    return int(not held)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]))
    elif sys.argv[1:2] == ["probe"]:
        asyncio.run(probe(int(sys.argv[2])))
    else:
        sys.exit(main())
