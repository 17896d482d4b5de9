"""How long Python's garbage collector stops the process.

Called by the collector itself, in any thread and in the middle of anything, also while a metric holds its lock: so
the pauses are only put aside here, and observed when the process is sampled. Costs 0.3 µs for each run.
"""

from __future__ import annotations

import gc
from collections import deque
from time import perf_counter
from typing import Any, Final

from asgi_obs.types import Clock

__all__ = ["GarbagePauses"]

MAX_PAUSES: Final = 10_000
"""Pauses that are kept between two samples, some minutes' worth; of more the oldest are lost."""


class GarbagePauses:
    """Measures the runs of the garbage collector.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Clock = perf_counter) -> None:
        self._clock = clock
        self._started_at: float | None = None
        self._pauses: deque[tuple[int, float]] = deque(maxlen=MAX_PAUSES)

    def install(self) -> None:
        """Measure from now on; may be called again."""
        if self._on_run not in gc.callbacks:
            gc.callbacks.append(self._on_run)

    def after_fork(self) -> None:
        """Forget the pauses of the parent."""
        self._pauses.clear()

    def take(self) -> list[tuple[int, float]]:
        """The generation and the seconds of each run since the last call."""
        return [self._pauses.popleft() for _ in range(len(self._pauses))]

    def _on_run(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._started_at = self._clock()
        elif self._started_at is not None:
            self._pauses.append((info["generation"], self._clock() - self._started_at))
            self._started_at = None
