"""`python -m tests.benchmarks.queries`: what a statement costs more when it is observed, on SQLite in memory.

Every contender has an engine of its own with one connection; all execute the same statement in turns.
"""

from __future__ import annotations

import gc
import statistics
import sys
from collections.abc import Callable
from time import perf_counter

from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NoOpTracerProvider
from opentelemetry.trace import TracerProvider as AnyTracerProvider
from prometheus_client import CollectorRegistry
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import StaticPool

from asgi_obs.integrations.sqlalchemy import instrument_sqlalchemy

STATEMENTS = 2_000
"""In a row, each round."""

ROUNDS = 25
BAR = 0.5

BARE = "bare"
OURS = "asgi_obs"
CONTRIB = "otel-instrumentation-sqlalchemy, no SDK"
SAMPLED = "otel-instrumentation-sqlalchemy, sampled"
BOTH = "asgi_obs with its spans, sampled"

_statement = text("SELECT 1 WHERE 1 = :one")


def _contrib(engine: Engine, provider: AnyTracerProvider) -> Engine:
    usage = NoOpMeterProvider().get_meter("benchmark").create_up_down_counter("usage")
    EngineTracer(provider.get_tracer("benchmark"), engine, usage)
    return engine


def _sdk() -> TracerProvider:
    return TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)


CONTENDERS: dict[str, Callable[[Engine], Engine]] = {
    BARE: lambda engine: engine,
    OURS: lambda engine: instrument_sqlalchemy(engine, registry=CollectorRegistry()),
    CONTRIB: lambda engine: _contrib(engine, NoOpTracerProvider()),
    SAMPLED: lambda engine: _contrib(engine, _sdk()),
    BOTH: lambda engine: instrument_sqlalchemy(
        engine, registry=CollectorRegistry(), tracer_provider=_sdk(), enable_commenter=False
    ),
}


def _round(connection: Connection) -> float:
    """Microseconds of a statement."""
    started = perf_counter()
    for _ in range(STATEMENTS):
        connection.execute(_statement, {"one": 1})
    return (perf_counter() - started) / STATEMENTS * 1e6


def measure() -> dict[str, list[float]]:
    """Microseconds of a statement in each round, by contender."""
    engines = {name: add(create_engine("sqlite://", poolclass=StaticPool)) for name, add in CONTENDERS.items()}
    connections = {name: engine.connect() for name, engine in engines.items()}
    for connection in connections.values():
        _round(connection)
    gc.collect()
    gc.freeze()
    taken: dict[str, list[float]] = {name: [] for name in connections}
    for _ in range(ROUNDS):
        for name, connection in connections.items():
            taken[name].append(_round(connection))
    for connection in connections.values():
        connection.close()
    return taken


def main() -> int:
    """Measure, print, and return 1 if the bar does not hold."""
    taken = measure()
    print(f"{'a statement':44}{'median':>10}")
    print(f"{BARE:44}{statistics.median(taken[BARE]):8.1f}µs")
    print(f"\n{'added to a statement':44}{'median':>10}{'quartiles':>20}")
    added = {}
    for name, times in taken.items():
        if name != BARE:
            more = sorted(observed - bare for observed, bare in zip(times, taken[BARE], strict=True))
            added[name] = statistics.median(more)
            quartile = len(more) // 4
            print(f"{name:44}{added[name]:8.1f}µs{more[quartile]:10.1f} – {more[-1 - quartile]:.1f}")
    failed = False
    for theirs in (CONTRIB, SAMPLED):
        ratio = added[OURS] / added[theirs]
        failed |= ratio > BAR
        print(f"{'ok ' if ratio <= BAR else 'MISS'} {OURS} = {ratio:.3f} x {theirs} (bar {BAR})")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
