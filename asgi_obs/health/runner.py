"""One registered check: when it is run, for how long, and what is shown of it.

A run has a task of its own, once for all who ask meanwhile: nobody who stops waiting takes the run away from the
others, and its result is kept even if nobody is left. The check has a task of its own too: when its time is over it is
cancelled, and the run ends at once, whatever the check makes of that. One that goes on is not called again until it has
returned; under trio it keeps the processor busy meanwhile, since whatever it waits for is cancelled again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

import anyio

from asgi_obs.errors import ConfigurationError
from asgi_obs.health.calls import OVERDUE, Check, caller_of, is_local
from asgi_obs.health.concurrency import Flight, SingleFlight
from asgi_obs.health.forks import ForkSafeLock
from asgi_obs.health.options import CheckOptions
from asgi_obs.health.refresh import Refresh
from asgi_obs.health.result import CheckResult
from asgi_obs.health.threshold import Threshold
from asgi_obs.redaction import redactor_of
from asgi_obs.types import Clock

__all__ = ["Check", "CheckRunner", "OnRun"]

OnRun = Callable[["CheckRunner", CheckResult, CheckResult, CheckResult | None], None]
"""Told of every run: the check, what the run found, what is shown since, and what was shown before."""

_lock: Final = ForkSafeLock()


class CheckRunner:
    """Runs one check for all who ask.

    Args:
        name: The check's name.
        check: The check.
        options: How it is run.
        clock: Seconds, for `ttl`.
        on_run: Told of every run.

    Attributes:
        shown: What is shown of the check; None before its first run, if it has no `initial`.
        has_run: Whether that comes from a run.
        refresh: Its background refresh, if it has a `period`.

    Raises:
        ConfigurationError: It is to be one of liveness, and is not local.
    """

    def __init__(self, name: str, check: Check, options: CheckOptions, *, clock: Clock, on_run: OnRun) -> None:
        if options.liveness and not is_local(check):
            allowed = "a sync check that has an attribute local = True: liveness asks nothing but the process itself"
            raise ConfigurationError("liveness", options.liveness, f"False, or {allowed}")
        self.name = name
        self.options = options
        self.shown = None if options.initial is None else CheckResult(options.initial, "not run yet")
        self.has_run = False
        self.refresh = None if options.period is None else Refresh(self._run_and_wait, options.period)
        self._call = caller_of(check)
        self._threshold = Threshold(options.failures, options.successes)
        self._redactor = redactor_of()  # reads the environment
        self._clock = clock
        self._on_run = on_run
        self._good_until = float("-inf")
        self._runs: SingleFlight[CheckResult] = SingleFlight()
        self._calls: SingleFlight[CheckResult] = SingleFlight()

    def present(self) -> CheckResult | None:
        """What is shown without a run: from the background, or while it is good; None if a run is needed."""
        if self.refresh is not None:
            return self.shown if self.refresh.is_alive else None
        return self.shown if self.has_run and self._clock() < self._good_until else None

    def start(self) -> Flight[CheckResult]:
        """The run that is under way, or a new one, in the running event loop."""
        return self._runs.start(None, self._run)

    def ask(self) -> CheckResult:
        """As `start`, on the spot; for a local check only."""
        started_at = perf_counter()
        try:
            result = CheckResult.from_answer(self._call())
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - as in `_answer`
            result = CheckResult.from_error(error)
        return self._keep(result.measured(perf_counter() - started_at, self._redactor))

    async def _run_and_wait(self) -> None:
        await self.start().outcome()

    async def _run(self) -> CheckResult:
        started_at = perf_counter()
        result = await self._result()
        return self._keep(result.measured(perf_counter() - started_at, self._redactor))

    async def _result(self) -> CheckResult:
        call = self._calls.start(None, self._answer)
        if call.is_cancelled:
            return OVERDUE
        with anyio.move_on_after(self.options.timeout):
            await call.wait()
        if not call.has_landed:
            call.cancel()
            return CheckResult.unhealthy(f"no answer within {self.options.timeout:g} s")
        return call.result if call.error is None else CheckResult.unhealthy("the check was cancelled")

    async def _answer(self) -> CheckResult:
        cancelled = anyio.get_cancelled_exc_class()
        try:
            answer: Any = self._call()
            while inspect.isawaitable(answer):  # also what a sync function returns: `lambda: ping(url)`
                answer = await answer
            return CheckResult.from_answer(answer)
        except (cancelled, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - raising is how a check says that it failed
            return CheckResult.from_error(error)

    def _keep(self, result: CheckResult) -> CheckResult:
        good_until = self._clock() + self.options.ttl
        with _lock:
            previous = self.shown
            self.shown = shown = self._threshold.show(previous, result)
            self.has_run = True
            self._good_until = good_until
        self._on_run(self, result, shown, previous)
        return shown
