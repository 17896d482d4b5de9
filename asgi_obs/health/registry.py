"""The health registry: the checks of a service, and whether it is ready.

It fires when it is asked (`OpsApp` does so for every probe), and in the background for checks with a `period`. A run
costs what the checks cost and for each some 80 µs, or 200 where it needs a thread; an answer without a run costs 2 µs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Literal, TypedDict, TypeVar

import anyio
from prometheus_client import CollectorRegistry

from asgi_obs.errors import ConfigurationError
from asgi_obs.health.concurrency import Flight
from asgi_obs.health.groups import LIVENESS, READINESS, Groups, require_name
from asgi_obs.health.journal import Journal
from asgi_obs.health.options import TIMEOUT, CheckOptions, is_seconds
from asgi_obs.health.result import CheckResult, HealthReport, Status, overall
from asgi_obs.health.runner import Check, CheckRunner
from asgi_obs.health.state import READY, Readiness, ReadinessReport, not_ready
from asgi_obs.types import Clock

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["LIVENESS", "READINESS", "HealthRegistry"]

DEADLINE: Final = 10.0
"""Seconds: what load balancers wait for an answer at most, by default."""

CheckT = TypeVar("CheckT", bound=Check)


class AddOptions(TypedDict, total=False):
    """The options of `HealthRegistry.add`."""

    critical: bool
    readiness: bool
    liveness: bool
    timeout: float
    ttl: float
    period: float | None
    initial: Status | None
    failures: int
    successes: int


class HealthRegistry:
    """Knows the checks of a service and whether it is ready.

    Args:
        deadline: Seconds that a probe waits for all of its checks together. One that has no result by then is
            unhealthy in this answer; its run goes on until its own timeout, for others and for the next probe.
        clock: Tells for how long a result is good.

    Raises:
        ConfigurationError: `deadline` is not a number of seconds above 0.
    """

    def __init__(self, *, deadline: float = DEADLINE, clock: Clock = time.monotonic) -> None:
        if not is_seconds(deadline) or deadline == 0:
            raise ConfigurationError("deadline", deadline, "a number of seconds above 0")
        self._deadline = deadline
        self._clock = clock
        self._runners: dict[str, CheckRunner] = {}
        self._groups = Groups(self._runners)
        self._journal = Journal()
        self._wanted = READY
        self._leaving: Readiness | None = None

    def add(
        self,
        name: str,
        check: Check,
        *,
        critical: bool = True,
        readiness: bool = True,
        liveness: bool = False,
        timeout: float = TIMEOUT,
        ttl: float = 0.0,
        period: float | None = None,
        initial: Status | None = None,
        failures: int = 1,
        successes: int = 1,
    ) -> None:
        """Add a check.

        Args:
            name: Its name in answers and metrics: 1 to 100 characters of `A-Za-z0-9_.:-`.
            check: A function without arguments, sync (run in a thread) or async, that returns a `CheckResult`,
                a bool, or None for healthy. Raising means unhealthy.
            critical: Whether the service is unhealthy when this check is; if not, it is degraded.
            readiness: Whether the check is one of those that decide if the service is ready.
            liveness: Whether it is one of those that decide if the process is alive, which is restarted if not: for
                checks that ask about this process alone and say so by an attribute `local = True`. They are sync,
                take no time, and are called in the event loop.
            timeout: Seconds after which it counts as unhealthy. A sync check that is still not back then is not
                called again until it is.
            ttl: Seconds for which a result is good. While a check runs, all who ask share the run in any case.
            period: Seconds between two runs in the background; from the first result on every probe gets the latest
                one at once. Needs `start`, which `OpsApp` calls; until then, and after `stop`, probes run the check.
            initial: What probes get of a check with a period before its first result; None has them wait for it.
            failures: Unhealthy runs in a row until the check is shown unhealthy. The first run ever is shown as it is.
            successes: Other runs in a row until it is no longer shown unhealthy.

        Raises:
            ConfigurationError: A value is not allowed, or there is a check of this name.
        """
        require_name(name)
        if name in self._runners:
            raise ConfigurationError("name", name, "a name that no other check has")
        if not callable(check):
            raise ConfigurationError("check", check, "a function without arguments")
        options = CheckOptions(
            critical=critical,
            readiness=readiness,
            liveness=liveness,
            timeout=timeout,
            ttl=ttl,
            period=period,
            initial=initial,
            failures=failures,
            successes=successes,
        )
        self._runners[name] = CheckRunner(name, check, options, clock=self._clock, on_run=self._has_run)

    def check(self, name: str, **options: Unpack[AddOptions]) -> Callable[[CheckT], CheckT]:
        """Decorate a function to add it as a check; see `add`. The function itself stays as it is."""

        def decorate(check: CheckT) -> CheckT:
            self.add(name, check, **options)
            return check

        return decorate

    def group(self, name: str, members: Iterable[str]) -> None:
        """Add a group of checks, to be asked for by its name.

        Args:
            name: As for checks, and none of `readiness`, `liveness`, `ready` and `live`.
            members: The names of its checks; they may be added later, see `validate`.

        Raises:
            ConfigurationError: The name cannot be one or is taken, or there are no members.
        """
        self._groups.add(name, members)

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the groups that were added."""
        return self._groups.names

    def validate(self) -> None:
        """Look whether the groups are complete; to be called at start-up.

        Raises:
            ConfigurationError: A group has a member that is not the name of a check.
        """
        self._groups.validate()

    async def run(self, group: str | None = None) -> HealthReport:
        """Run the checks, all at once, and say what they found.

        Never raises because of a check, and takes no longer than the deadline.

        Args:
            group: Run those of this group only, `readiness` and `liveness` among them; default all.

        Raises:
            ConfigurationError: There is no such group, or it has an unknown member.
        """
        runners = self._groups.runners(group)
        results = {runner.name: runner.present() for runner in runners}
        flights = {runner.name: runner.start() for runner in runners if results[runner.name] is None}
        if flights:
            with anyio.move_on_after(self._deadline):
                for flight in flights.values():
                    await flight.wait()
        checks = {name: result or self._result_of(flights[name]) for name, result in results.items()}
        return HealthReport(_overall(runners, checks), checks)

    def _result_of(self, flight: Flight[CheckResult]) -> CheckResult:
        if not flight.has_landed:
            late = CheckResult.unhealthy(f"no answer within the deadline of {self._deadline:g} s")
            return late.measured(self._deadline)
        return flight.result if flight.error is None else CheckResult.from_error(flight.error).measured(0.0)

    async def ready(self) -> ReadinessReport:
        """Whether the service is ready: its state, then the checks of readiness."""
        asked = self.readiness.state == "ready"
        report = await self.run(READINESS) if asked else HealthReport("unhealthy", {})
        readiness = self.readiness  # it may have changed while the checks ran
        if readiness.state != "ready":
            answer = ReadinessReport("unhealthy", report.checks, readiness.state, readiness.reason)
        else:
            answer = ReadinessReport(report.status, report.checks, "ready", self._failing(report))
        self._journal.readiness_is(answer)
        return answer

    def _failing(self, report: HealthReport) -> str | None:
        if report.status != "unhealthy":
            return None
        names = [
            name
            for name, result in report.checks.items()
            if result.status == "unhealthy" and self._runners[name].options.critical
        ]
        return f"unhealthy: {', '.join(names)}"

    def live(self) -> HealthReport:
        """Whether the process is alive: asks the checks of liveness, on the spot, and waits for nothing."""
        runners = self._groups.runners(LIVENESS)
        checks = {runner.name: runner.present() or runner.ask() for runner in runners}
        return HealthReport(_overall(runners, checks), checks)

    @property
    def readiness(self) -> Readiness:
        """Whether the service wants requests, apart from its checks."""
        return self._leaving or self._wanted

    def set_ready(self) -> None:
        """The service wants requests. It does from the beginning, unless told otherwise.

        While it is drained this takes effect after `undrain` only.
        """
        self._wanted = READY

    def set_not_ready(self, reason: str, *, state: Literal["starting", "draining"] = "draining") -> None:
        """Keep requests away: readiness fails from now on, whatever the checks say; liveness does not.

        May be called from any thread and from a signal handler. The next probe of readiness logs it. `set_ready`
        takes it back. While the service is drained this takes effect after `undrain` only.

        Args:
            reason: Why, for those who read the answer.
            state: `draining` before leaving, `starting` while not there yet.

        Raises:
            ConfigurationError: A value is not allowed.
        """
        self._wanted = not_ready(reason, state)

    def drain(self, reason: str) -> None:
        """The service leaves: as `set_not_ready`, but nothing except `undrain` takes it back.

        May be called from any thread and from a signal handler.

        Args:
            reason: Why, for those who read the answer.

        Raises:
            ConfigurationError: It is not text.
        """
        self._leaving = not_ready(reason, "draining")

    def undrain(self) -> None:
        """The service does not leave after all, or begins anew: what else was asked for is what it wants."""
        self._leaving = None

    def start(self) -> None:
        """Begin the background refresh of the checks with a period, in the running event loop.

        May be called again, at any time: what goes on, here or in another event loop, is left alone, what has ended
        begins anew.

        Raises:
            RuntimeError: There are such checks, and no event loop.
        """
        for runner in list(self._runners.values()):
            if runner.refresh is not None:
                runner.refresh.start()

    def stop(self) -> None:
        """End the background refresh; a run that is under way goes on to its end. May be called from any thread."""
        for runner in list(self._runners.values()):
            if runner.refresh is not None:
                runner.refresh.stop()

    def export(self, registry: CollectorRegistry, service: str) -> None:
        """Move the health metrics in `registry` from now on; may be called again.

        Args:
            registry: A metrics registry; `OpsApp` passes its own.
            service: The value of the label `service`.
        """
        self._journal.export(registry, service, self._known())

    def _has_run(
        self, runner: CheckRunner, result: CheckResult, shown: CheckResult, previous: CheckResult | None
    ) -> None:
        self._journal.check_has_run(runner.name, result, shown, previous)
        self._journal.status_is(self._known())

    def _known(self) -> Status:
        """The status of the service from the checks that have run: 1 in the metrics until one says otherwise."""
        runners = [runner for runner in list(self._runners.values()) if runner.has_run]
        return _overall(runners, {runner.name: runner.shown for runner in runners if runner.shown is not None})


def _overall(runners: Iterable[CheckRunner], checks: dict[str, CheckResult]) -> Status:
    return overall((checks[runner.name], runner.options.critical) for runner in runners)
