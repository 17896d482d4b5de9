"""Two thresholds: past the first a check is degraded, past the second unhealthy."""

from __future__ import annotations

from asgi_obs.errors import ConfigurationError
from asgi_obs.health.checks.options import is_number
from asgi_obs.health.result import CheckResult

__all__ = ["graded", "require_ascending"]


def require_ascending(most: float, **thresholds: object) -> None:
    """Raise ConfigurationError unless they are numbers from 0 to `most`, none below the one before it."""
    least = 0.0
    for option, value in thresholds.items():
        if not is_number(value, least, most):
            raise ConfigurationError(option, value, f"a number from {least:g} to {most:g}")
        least = value


def graded(message: str, *, degraded: bool, unhealthy: bool) -> CheckResult:
    """The result with this message that the thresholds which were passed stand for."""
    if unhealthy:
        return CheckResult.unhealthy(message)
    return CheckResult.degraded(message) if degraded else CheckResult.healthy(message)
