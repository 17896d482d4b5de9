"""`python -m tests.benchmarks`: prints what each contender adds, and whether the bars hold."""

from __future__ import annotations

import argparse
import io
import statistics
import subprocess
import sys
from contextlib import redirect_stdout

from asgi_obs.testing import http_scope
from tests.benchmarks import records, tracing
from tests.benchmarks.contenders import CONTENDERS, starlette_app
from tests.benchmarks.measure import measure

HEADERS = [
    (b"host", b"testserver"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) benchmark"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"authorization", b"Bearer abcdefghijklmnopqrstuvwxyz"),
    (b"content-type", b"application/json"),
]

BARE = "the bare application"

# (what, measured against, at most this many times it)
BARS = (
    ("asgi_obs id", "asgi-correlation-id", 0.8),
    ("asgi_obs metrics", "prometheus-fastapi-instrumentator", 0.2),
    ("asgi_obs metrics", "starlette_exporter", 0.08),
    ("asgi_obs id + metrics + log", BARE, 1.25),
)

IMPORT_BAR = 0.15
"""Seconds that `import asgi_obs` may take on top of `import starlette.applications`."""

IMPORT_ROUNDS = 15


class Nowhere(io.TextIOBase):
    """Where the log lines go, for the responses go nowhere either: what a write costs is up to what it is to."""

    def write(self, text: str) -> int:
        return len(text)


def _import_seconds(statement: str) -> float:
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def _imports() -> float:
    both = "import starlette.applications, asgi_obs"
    return statistics.median(
        _import_seconds(both) - _import_seconds("import starlette.applications") for _ in range(IMPORT_ROUNDS)
    )


def _records_fail(*, count: int, rounds: int) -> bool:
    """Measure and print what a log record costs; returns whether a bar does not hold."""
    costs = records.measure(records=count, rounds=rounds)
    print(f"{'a log record':40}{'median':>10}")
    for name, cost in costs.items():
        print(f"{name:40}{cost:8.1f}µs")
    failed = False
    for peer, bar in records.BARS:
        ratio = costs[records.OURS] / costs[peer]
        failed |= ratio > bar
        print(f"{'ok ' if ratio <= bar else 'MISS'} a record of asgi_obs = {ratio:.3f} x {peer} (bar {bar})")
    return failed


def main() -> int:
    """Measure, print, and return 1 if a bar does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000, help="requests in a row (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds (default %(default)s)")
    options = parser.parse_args()
    apps = {name: make() for name, make in {**CONTENDERS, **tracing.CONTENDERS}.items()}
    scope = http_scope("/resource10/42", headers=HEADERS)
    with redirect_stdout(Nowhere()):
        bare, costs = measure(starlette_app(), apps, scope, requests=options.requests, rounds=options.rounds)
    print(f"{'added to a request':40}{'median':>10}{'quartiles':>20}")
    print(f"{BARE:40}{bare:8.1f}µs")
    for name, cost in costs.items():
        print(f"{name:40}{cost.added:8.1f}µs{cost.low:10.1f} – {cost.high:.1f}")
    failed = False
    for ours, theirs, bar in (*BARS, *tracing.BARS):
        ratio = costs[ours].added / (bare if theirs == BARE else costs[theirs].added)
        failed |= ratio > bar
        print(f"{'ok ' if ratio <= bar else 'MISS'} {ours} = {ratio:.3f} x {theirs} (bar {bar})")
    failed |= _records_fail(count=options.requests, rounds=options.rounds)
    seconds = _imports()
    failed |= seconds > IMPORT_BAR
    print(f"{'ok ' if seconds <= IMPORT_BAR else 'MISS'} import asgi_obs = {seconds:.3f} s more (bar {IMPORT_BAR})")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
