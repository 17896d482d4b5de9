"""Spans that wait are exported before a process says that it has ended.

A server may end a process at once when the lifespan is over (uvicorn sends itself the signal again), without the
functions of `atexit`. So it is before `lifespan.shutdown.complete` that `TracingMiddleware` has the last spans go out.
A collector that does not answer holds this up for `PATIENCE` at most, however many flush: see `SharedWait`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from opentelemetry import trace

from asgi_obs.errors import report

__all__ = ["LIMIT", "PATIENCE", "TELLING", "SharedWait", "flush", "within"]

PATIENCE: Final = 5.0
"""Seconds that the end of a lifespan, and the end of the process, wait for a collector."""

TELLING: Final = 0.5
"""Seconds of these for saying that it was in vain."""

LIMIT: Final = PATIENCE - TELLING
"""Seconds that a flush may take: whoever waits for it with `PATIENCE` hears of its end."""


def flush(provider: trace.TracerProvider | None = None) -> bool:
    """Export the spans that wait, and wait for that.

    Args:
        provider: Whose; None is OpenTelemetry's global one. One that has nothing to flush is fine.

    Returns:
        Whether it was done within `PATIENCE`; if not, it goes on behind.
    """
    force_flush = getattr(provider or trace.get_tracer_provider(), "force_flush", None)
    if force_flush is None:
        return True
    results: list[object] = []
    return within(PATIENCE, lambda: results.append(force_flush(int(LIMIT * 1000)))) and results != [False]


class SharedWait:
    """How long a collector that does not answer is waited for: by all who wait for it together, and once."""

    _progress: int
    _ends_at: float

    def __init__(self) -> None:
        self.start_anew()

    def start_anew(self) -> None:
        """Nobody waits, or has waited."""
        self._lock = threading.Lock()
        self.end()

    def left(self, seconds: float, progress: int) -> float:
        """How many seconds are left of those that somebody would wait.

        Args:
            seconds: How long that would be. Who comes first decides for those who come after.
            progress: What has got through. As soon as it has changed all begin anew.
        """
        now = time.monotonic()
        with self._lock:
            if progress != self._progress:
                self._progress, self._ends_at = progress, now + seconds
            return max(0.0, min(seconds, self._ends_at - now))

    def is_over(self, progress: int) -> bool:
        """Whether no time is left, and nothing has got through since."""
        return progress == self._progress and time.monotonic() >= self._ends_at

    def give_up(self, progress: int) -> None:
        """Nobody is to wait any more, until something gets through."""
        with self._lock:
            self._progress, self._ends_at = progress, 0.0

    def end(self) -> None:
        """It was not in vain."""
        self._progress, self._ends_at = -1, 0.0


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
    try:
        thread.start()
    except RuntimeError:
        # Python 3.12 starts no thread at exit. The exporter has a limit of its own.
        if seconds > 0:
            run()
    else:
        thread.join(seconds)
    return returned.is_set()
