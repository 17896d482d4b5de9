"""Whether the service wants requests, apart from what its checks say.

=========  =====================================================================
state      meaning
=========  =====================================================================
starting   not ready yet: loading, warming up
ready      give me requests; where a service begins, so that no lifespan is needed
draining   finishing what it has, and about to leave
=========  =====================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from asgi_obs.errors import ConfigurationError
from asgi_obs.health.result import HealthReport, presentable

__all__ = ["READY", "Readiness", "ReadinessReport", "State", "not_ready"]

State: TypeAlias = Literal["starting", "ready", "draining"]


@dataclass(frozen=True, slots=True)
class Readiness:
    """A state, and why. It never changes, so that threads and signal handlers may replace it at any time.

    Attributes:
        state: See the table of the module.
        reason: Why the service is not ready; None when it is.
    """

    state: State
    reason: str | None = None


READY: Final = Readiness("ready")


@dataclass(frozen=True, slots=True)
class ReadinessReport(HealthReport):
    """Whether the service is ready: what it wants itself, and what the checks of readiness say.

    Attributes:
        state: What it wants; the checks are asked in state `ready` only, and `checks` is empty else.
        reason: Why it is not ready, in words or by the names of the checks; None when it is.
    """

    state: State
    reason: str | None

    @property
    def ready(self) -> bool:
        """Whether the service is to get requests."""
        return self.reason is None


def not_ready(reason: str, state: State) -> Readiness:
    """A readiness that keeps requests away.

    Raises:
        ConfigurationError: `reason` is not text, or `state` is not one of `starting` and `draining`.
    """
    if not isinstance(reason, str) or not reason:
        raise ConfigurationError("reason", reason, "a text that says why")
    if state not in get_args(State) or state == "ready":
        raise ConfigurationError("state", state, "one of starting, draining")
    return Readiness(state, presentable(reason))
