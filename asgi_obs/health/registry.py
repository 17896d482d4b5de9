"""The health registry: the checks of a service, run together.

It fires when it is asked (`OpsApp` does so for every probe) and costs what the checks cost; a probe that is
answered from results that are still good costs some 20 µs per check.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable
from typing import Final, Literal, TypeVar

import anyio
from prometheus_client import CollectorRegistry

from asgi_obs.errors import ConfigurationError, report
from asgi_obs.health.metrics import HealthMetrics
from asgi_obs.health.result import CheckResult, HealthReport, overall
from asgi_obs.health.runner import Check, CheckRunner
from asgi_obs.health.state import READY, Readiness, not_ready
from asgi_obs.types import Clock

__all__ = ["READINESS", "HealthRegistry"]

READINESS: Final = "readiness"
"""The group of the checks that decide whether the service gets requests."""

TIMEOUT: Final = 5.0

_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_log = logging.getLogger("asgi_obs")

CheckT = TypeVar("CheckT", bound=Check)


class HealthRegistry:
    """Knows the checks of a service and whether it is ready.

    Args:
        clock: Tells for how long a result is good.
    """

    def __init__(self, *, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._runners: dict[str, CheckRunner] = {}
        self._metrics: list[HealthMetrics] = []
        self._readiness = READY

    def add(
        self,
        name: str,
        check: Check,
        *,
        critical: bool = True,
        readiness: bool = True,
        timeout: float = TIMEOUT,
        ttl: float = 0.0,
    ) -> None:
        """Add a check.

        Args:
            name: Its name in answers and metrics: 1 to 100 characters of `A-Za-z0-9_.:-`.
            check: A function without arguments, sync (run in a thread) or async, that returns a `CheckResult`,
                a bool, or None for healthy. Raising means unhealthy.
            critical: Whether the service is unhealthy when this check is; if not, it is degraded.
            readiness: Whether the check is one of those that decide if the service is ready.
            timeout: Seconds after which it counts as unhealthy.
            ttl: Seconds for which a result is good. While a check runs, all who ask share the run in any case.

        Raises:
            ConfigurationError: A value is not allowed, or there is a check of this name.
        """
        self._validate(name, check, timeout, ttl)
        self._runners[name] = CheckRunner(
            name,
            check,
            critical=critical,
            groups=frozenset({READINESS} if readiness else ()),
            timeout=timeout,
            ttl=ttl,
            clock=self._clock,
            on_result=self._has_run,
        )

    def _validate(self, name: str, check: Check, timeout: float, ttl: float) -> None:
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise ConfigurationError("name", name, "1 to 100 characters of A-Za-z0-9_.:-")
        if name in self._runners:
            raise ConfigurationError("name", name, "a name that no other check has")
        if not callable(check):
            raise ConfigurationError("check", check, "a function without arguments")
        if not _is_seconds(timeout) or timeout == 0:
            raise ConfigurationError("timeout", timeout, "a number of seconds above 0")
        if not _is_seconds(ttl):
            raise ConfigurationError("ttl", ttl, "a number of seconds, 0 or more")

    def check(
        self,
        name: str,
        *,
        critical: bool = True,
        readiness: bool = True,
        timeout: float = TIMEOUT,
        ttl: float = 0.0,
    ) -> Callable[[CheckT], CheckT]:
        """Decorate a function to add it as a check; see `add`. The function itself stays as it is."""

        def decorate(check: CheckT) -> CheckT:
            self.add(name, check, critical=critical, readiness=readiness, timeout=timeout, ttl=ttl)
            return check

        return decorate

    async def run(self, group: str | None = None) -> HealthReport:
        """Run the checks, all at once, and say what they found.

        Never raises because of a check. When it is cancelled, so are the checks that nobody else waits for.

        Args:
            group: Run those of this group only; default all.
        """
        runners = [runner for runner in self._runners.values() if group is None or group in runner.groups]
        results: dict[str, CheckResult] = {}

        async def run_one(runner: CheckRunner) -> None:
            results[runner.name] = await runner.result()

        async with anyio.create_task_group() as tasks:
            for runner in runners:
                tasks.start_soon(run_one, runner)
        return HealthReport(
            status=overall((results[runner.name], runner.critical) for runner in runners),
            checks={runner.name: results[runner.name] for runner in runners},
        )

    @property
    def readiness(self) -> Readiness:
        """Whether the service wants requests, apart from its checks."""
        return self._readiness

    def set_ready(self) -> None:
        """The service wants requests. It does from the beginning, unless told otherwise."""
        self._readiness = READY

    def set_not_ready(self, reason: str, *, state: Literal["starting", "draining"] = "draining") -> None:
        """Keep requests away: readiness fails from now on, whatever the checks say; liveness does not.

        May be called from any thread and from a signal handler.

        Args:
            reason: Why, for those who read the answer.
            state: `draining` before leaving, `starting` while not there yet.

        Raises:
            ConfigurationError: A value is not allowed.
        """
        self._readiness = not_ready(reason, state)

    def export(self, registry: CollectorRegistry, service: str) -> None:
        """Move the health metrics in `registry` from now on; may be called again.

        Args:
            registry: A metrics registry; `OpsApp` passes its own.
            service: The value of the label `service`.
        """
        metrics = HealthMetrics(registry, service)
        if not any(metrics.is_same(present) for present in self._metrics):
            self._metrics.append(metrics)

    def _has_run(self, runner: CheckRunner, result: CheckResult, previous: CheckResult | None) -> None:
        before = "healthy" if previous is None else previous.status
        if result.status != before:
            level = logging.INFO if result.status == "healthy" else logging.WARNING
            text = ": ".join(filter(None, (result.message, result.detail)))
            _log.log(level, "health check %s is %s, was %s: %s", runner.name, result.status, before, text)
        known = ((each.latest, each.critical) for each in list(self._runners.values()) if each.latest is not None)
        status = overall(known)
        for metrics in self._metrics:
            try:
                metrics.record(status, runner.name, result)
            except Exception as error:  # noqa: BLE001 - fail open: the probe gets its answer all the same
                report("HealthRegistry.metrics", error)


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
