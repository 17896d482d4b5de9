"""`python -m tests.benchmarks.stalled`: what a reader who has stopped costs requests, with LOG_QUEUE_SIZE.

A real server logs to a pipe. In turns somebody reads it and nobody does; the 99th percentile of the latency must not
be more than 1.5 times as high when nobody does.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time

import httpx

from tests.e2e.processes import serving

ROUNDS = 10
REQUESTS = 400
"""In each round, with a reader and without one."""

QUEUE_SIZE = 200
TO_FILL = 2 * QUEUE_SIZE
"""Requests after which the pipe and the queue are full; each logs two lines."""

BAR = 1.5


class Reader(threading.Thread):
    """Reads a pipe to its end, and holds still on demand."""

    def __init__(self, fd: int) -> None:
        super().__init__(daemon=True)
        self._fd = fd
        self.reads = threading.Event()

    def run(self) -> None:
        while self.reads.wait() and os.read(self._fd, 65_536):
            pass


def latencies(client: httpx.Client, requests: int) -> list[float]:
    """Seconds that each request takes."""
    result = []
    for _ in range(requests):
        begin = time.perf_counter()
        client.get("/").raise_for_status()
        result.append(time.perf_counter() - begin)
    return result


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.99)]


def main() -> int:
    """Measure, print, and return 1 if the bar does not hold."""
    read: list[float] = []
    stalled: list[float] = []
    with serving("serve", QUEUE_SIZE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as (process, client):
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        reader = Reader(process.stdout.fileno())
        reader.start()
        for _ in range(ROUNDS):
            reader.reads.set()
            latencies(client, TO_FILL)
            read += latencies(client, REQUESTS)
            reader.reads.clear()
            latencies(client, TO_FILL)
            stalled += latencies(client, REQUESTS)
        reader.reads.set()
        client.get("/stop")
        logged, dropped = process.communicate()[1].split()[-2:]
    ratio = p99(stalled) / p99(read)
    print(f"{'lines':24}{int(logged):>10} logged, {int(dropped)} dropped")
    print(f"{'p99 with a reader':24}{p99(read) * 1e3:>10.2f} ms")
    print(f"{'p99 without one':24}{p99(stalled) * 1e3:>10.2f} ms")
    print(f"{'ok ' if ratio <= BAR else 'MISS'} {ratio:.2f} x (bar {BAR})")
    return int(ratio > BAR)


if __name__ == "__main__":
    sys.exit(main())
