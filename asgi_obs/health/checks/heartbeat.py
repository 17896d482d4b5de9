"""The heartbeat of a loop of the application's own: a consumer, a scheduler.

It costs a look at the clock.
"""

from __future__ import annotations

import os
import time

from asgi_obs.health.checks.options import require_seconds
from asgi_obs.health.result import CheckResult
from asgi_obs.types import Clock

__all__ = ["Heartbeat"]


class Heartbeat:
    """Is unhealthy when `beat` was not called for too long.

        heartbeat = Heartbeat(max_age=60)
        registry.add("worker", heartbeat)

        async for job in queue:
            heartbeat.beat()

    The time begins when it is made, and again in a process that was forked: there the loop has yet to start.

    Args:
        max_age: Seconds that may pass between two beats.
        clock: Tells them.

    Raises:
        ConfigurationError: A value is not allowed.
    """

    local = True

    def __init__(self, *, max_age: float, clock: Clock = time.monotonic) -> None:
        require_seconds("max_age", max_age)
        self._max_age = max_age
        self._clock = clock
        self.beat()

    def beat(self) -> None:
        """The loop still goes round. May be called from any thread."""
        self._last = (os.getpid(), self._clock())

    def __call__(self) -> CheckResult:
        """Check."""
        if self._last[0] != os.getpid():
            self.beat()
        age = self._clock() - self._last[1]
        if age > self._max_age:
            return CheckResult.unhealthy(f"no beat for {age:.0f} s")
        return CheckResult.healthy(f"last beat {age:.0f} s ago")
