"""Spans that wait are exported before a process says that it has ended.

A server may end a process at once when the lifespan is over (uvicorn sends itself the signal again), without the
functions of `atexit`. So it is before `lifespan.shutdown.complete` that `TracingMiddleware` has the last spans go out.
A collector that does not answer holds this up for `PATIENCE` at most.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from opentelemetry import trace

from asgi_obs.errors import report

__all__ = ["PATIENCE", "flush", "within"]

PATIENCE: Final = 5.0
"""Seconds that the end of a lifespan, and the end of the process, wait for a collector."""


def flush(provider: trace.TracerProvider | None = None) -> bool:
    """Export the spans that wait, and wait for that.

    Args:
        provider: Whose; None is OpenTelemetry's global one. One that has nothing to flush is fine.

    Returns:
        Whether it was done within `PATIENCE`; if not, it goes on behind.
    """
    force_flush = getattr(provider or trace.get_tracer_provider(), "force_flush", None)
    return force_flush is None or within(PATIENCE, lambda: force_flush(int(PATIENCE * 1000)))


def within(seconds: float, call: Callable[[], object]) -> bool:
    """Make a call that may hang, in a thread; returns whether it has returned in time."""
    returned = threading.Event()

    def run() -> None:
        try:
            call()
            returned.set()
        except Exception as error:  # noqa: BLE001 - fail open: an exporter of somebody else
            report("flush", error)

    thread = threading.Thread(target=run, name="asgi_obs.flush", daemon=True)
    with suppress(RuntimeError):  # Python 3.12.0 starts no thread at exit
        thread.start()
        thread.join(seconds)
    return returned.is_set()
