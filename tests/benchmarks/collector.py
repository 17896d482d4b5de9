"""`python -m tests.benchmarks.collector`: what a collector that is down, or that never answers, costs requests.

A real server that traces every request sends its spans to a collector; to a port where nobody listens; and to one that
takes connections and says nothing. The three serve in turns, so that they share what else the machine does.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.tracing.receivers import GrpcReceiver, HttpReceiver, free_port

ROOT = Path(__file__).parents[2]
ROUNDS = 20
REQUESTS = 300
"""In each round, of each server."""

BAR = 1.5
"""How many times as high the 99th percentile may be."""


@contextmanager
def serving(endpoint: str, protocol: str) -> Iterator[httpx.Client]:
    """A service that sends its spans there, and a client of it."""
    variables = {
        "OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "LOG_LEVEL": "ERROR",
    }
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Connections inherit it; the server does not set it for a socket that it is given.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        command = [sys.executable, "-m", "tests.e2e.otlp_service", str(listener.fileno())]
        environment = {"PATH": os.environ["PATH"], **variables}
        options: dict[str, Any] = {"pass_fds": [listener.fileno()], "cwd": ROOT, "stdout": subprocess.DEVNULL}
        with subprocess.Popen(command, env=environment, **options) as process:
            with httpx.Client(base_url="http://{}:{}".format(*listener.getsockname()), trust_env=False) as client:
                try:
                    yield client
                finally:
                    process.kill()


def latencies(client: httpx.Client) -> list[float]:
    """Seconds that each request takes."""
    result = []
    for _ in range(REQUESTS):
        begin = time.perf_counter()
        client.get("/hello/world").raise_for_status()
        result.append(time.perf_counter() - begin)
    return result


def percentile(seconds: list[float], share: float) -> float:
    return sorted(seconds)[int(len(seconds) * share)]


def compare(protocol: str) -> bool:
    """Measure and print; returns whether the bar holds."""
    receiver = (GrpcReceiver if protocol == "grpc" else HttpReceiver)(free_port())
    with ExitStack() as stack:
        stack.enter_context(receiver)
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        endpoints = {
            "a collector": receiver.endpoint,
            "connection refused": f"127.0.0.1:{free_port()}",
            "one that never answers": "{}:{}".format(*silent.getsockname()),
        }
        clients = {name: stack.enter_context(serving(end, protocol)) for name, end in endpoints.items()}
        taken: dict[str, list[float]] = {name: [] for name in clients}
        for client in clients.values():
            latencies(client)
        for _ in range(ROUNDS):
            for name, client in clients.items():
                taken[name] += latencies(client)
    base = taken["a collector"]
    print(f"{protocol:26}{'p50':>10}{'p99':>12}{'p50':>9}{'p99':>8}")
    ratios = []
    for name, seconds in taken.items():
        ratio = {share: percentile(seconds, share) / percentile(base, share) for share in (0.5, 0.99)}
        ratios.append(ratio[0.99])
        print(
            f"{name:26}{percentile(seconds, 0.5) * 1e3:>7.2f} ms{percentile(seconds, 0.99) * 1e3:>9.2f} ms"
            f"{ratio[0.5]:>7.2f} x{ratio[0.99]:>6.2f} x"
        )
    return max(ratios) <= BAR


def main() -> int:
    """Measure both protocols; 1 if a bar does not hold."""
    held = [compare(protocol) for protocol in ("grpc", "http/protobuf")]
    print(f"{'ok ' if all(held) else 'MISS'} (bar {BAR} x at p99)")
    return int(not all(held))


if __name__ == "__main__":
    sys.exit(main())
