"""How late the event loop is.

It costs nothing: the lag is measured all the time, for `event_loop_lag_seconds`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from asgi_obs.errors import ConfigurationError
from asgi_obs.health.checks.thresholds import graded, require_ascending
from asgi_obs.health.result import CheckResult
from asgi_obs.metrics.process.event_loop import lag

__all__ = ["EventLoopLagCheck"]

LONGEST: Final = 3600
"""Seconds that a threshold may be."""


class EventLoopLagCheck:
    """Looks how long something that was ready to run had to wait at worst, of late.

    Args:
        degraded: Seconds: above that the check is degraded.
        unhealthy: The same for unhealthy; no less than `degraded`.
        measure: Tells the lag in seconds, None if it is not known. Default: the longest of the last 15 s.

    Raises:
        ConfigurationError: A value is not allowed.
    """

    local = True

    def __init__(
        self, *, degraded: float = 0.1, unhealthy: float = 1.0, measure: Callable[[], float | None] = lag
    ) -> None:
        if not callable(measure):
            raise ConfigurationError("measure", measure, "a function without arguments")
        require_ascending(LONGEST, degraded=degraded, unhealthy=unhealthy)
        self._degraded = degraded
        self._unhealthy = unhealthy
        self._measure = measure

    def __call__(self) -> CheckResult:
        """Check."""
        seconds = self._measure()
        if seconds is None:
            return CheckResult.healthy("not measured")
        return graded(
            f"up to {seconds * 1000:.0f} ms late",
            degraded=seconds > self._degraded,
            unhealthy=seconds > self._unhealthy,
        )
