"""The options of a check: how it is run, and what its result counts for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, get_args

from asgi_obs.errors import ConfigurationError
from asgi_obs.health.result import Status

__all__ = ["TIMEOUT", "CheckOptions"]

TIMEOUT: Final = 5.0
"""Seconds."""

_ABOVE_ZERO: Final = "a number of seconds above 0"
_COUNT: Final = "a whole number from 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """How one check is run; `HealthRegistry.add` explains each.

    Raises:
        ConfigurationError: A value is not allowed.
    """

    critical: bool = True
    readiness: bool = True
    liveness: bool = False
    timeout: float = TIMEOUT
    ttl: float = 0.0
    period: float | None = None
    initial: Status | None = None
    failures: int = 1
    successes: int = 1

    def __post_init__(self) -> None:
        for option in ("critical", "readiness", "liveness"):
            self._require(option, isinstance(getattr(self, option), bool), "True or False")
        self._require("timeout", is_seconds(self.timeout) and self.timeout > 0, _ABOVE_ZERO)
        self._require("ttl", is_seconds(self.ttl), "a number of seconds, 0 or more")
        for option in ("failures", "successes"):
            self._require(option, _is_count(getattr(self, option)), _COUNT)
        self._check_period()

    def _check_period(self) -> None:
        if self.period is None:
            self._require("initial", self.initial is None, "None for a check without a period")
            return
        self._require("period", is_seconds(self.period) and self.period > 0, f"{_ABOVE_ZERO}, or None")
        self._require("period", not self.liveness, "None for a check of liveness, which every probe asks")
        self._require("ttl", self.ttl == 0, "0 for a check with a period, whose results are good until the next")
        self._require("initial", self.initial in {None, *get_args(Status)}, f"one of {', '.join(get_args(Status))}")

    def _require(self, option: str, condition: bool, allowed: str) -> None:  # noqa: FBT001
        if not condition:
            raise ConfigurationError(option, getattr(self, option), allowed)


def is_seconds(value: Any) -> bool:
    """Whether a value is a number of seconds, 0 or more."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
