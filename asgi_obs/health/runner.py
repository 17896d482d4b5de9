"""One registered check: how it is called, how long it may take, and how long its result is good for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, Final, TypeAlias

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from asgi_obs.health.concurrency import SingleFlight, ThreadRoom
from asgi_obs.health.result import CheckResult
from asgi_obs.types import Clock

__all__ = ["Check", "CheckRunner"]

Check: TypeAlias = Callable[[], CheckResult | bool | Awaitable[CheckResult | bool | None] | None]
"""A function without arguments, sync or async. It may raise: that means unhealthy."""

_threads: Final = ThreadRoom("asgi_obs.checks", size=16)


class CheckRunner:
    """Runs one check for all who ask.

    Args:
        name: The check's name.
        check: The check. An async one runs in the event loop, any other in a thread.
        critical: Whether the service is unhealthy when the check is, rather than degraded.
        groups: The groups of checks it belongs to.
        timeout: Seconds until it counts as unhealthy.
        ttl: Seconds for which a result is good; 0 to run for everyone who does not come while it runs.
        clock: Seconds, for `ttl`.
        on_result: Told of every run: the result, and the one before it.
    """

    def __init__(
        self,
        name: str,
        check: Check,
        *,
        critical: bool,
        groups: frozenset[str],
        timeout: float,
        ttl: float,
        clock: Clock,
        on_result: Callable[[CheckRunner, CheckResult, CheckResult | None], None],
    ) -> None:
        self.name = name
        self.critical = critical
        self.groups = groups
        self.latest: CheckResult | None = None
        self._in_thread = None if _is_async(check) else _InThread(check)
        self._call: Callable[[], Any] = self._in_thread or check
        self._timeout = timeout
        self._ttl = ttl
        self._clock = clock
        self._on_result = on_result
        self._good_until = float("-inf")
        self._flight: SingleFlight[CheckResult] = SingleFlight()

    async def result(self) -> CheckResult:
        """The latest result while it is good, else that of a new run."""
        if self.latest is not None and self._clock() < self._good_until:
            return self.latest
        return await self._flight.run(None, self._run)

    async def _run(self) -> CheckResult:
        started_at = perf_counter()
        result = CheckResult.unhealthy(f"no answer within {self._timeout:g} s")
        with anyio.move_on_after(self._timeout) as scope:
            try:
                answer = self._call()
                while inspect.isawaitable(answer):  # also what a sync function returns: `lambda: ping(url)`
                    answer = await answer
                result = CheckResult.from_answer(answer)
            except anyio.get_cancelled_exc_class():
                await checkpoint_if_cancelled()  # raises if it was us; else it was what the check waits for
                result = CheckResult.unhealthy("the check was cancelled")
            except Exception as error:  # noqa: BLE001 - raising is how a check says that it failed
                result = CheckResult.from_error(error)
        if scope.cancelled_caught and self._in_thread is not None:
            self._in_thread.timed_out()
        result = result.measured(perf_counter() - started_at)
        previous, self.latest = self.latest, result
        self._good_until = self._clock() + self._ttl
        self._on_result(self, result, previous)
        return result


class _InThread:
    """A sync check, called in a thread; not again while a call that timed out hangs in one."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._latest: _ThreadCall | None = None
        self._hanging: _ThreadCall | None = None

    async def __call__(self) -> Any:
        if self._hanging is not None and self._hanging.running:
            raise TimeoutError("an earlier call has still not returned")
        self._latest = call = _ThreadCall(self._check)
        await _threads.run(call)
        return call.answer

    def timed_out(self) -> None:
        self._hanging = self._latest


class _ThreadCall:
    """One call of a sync check: whether it is still running, and what it returned.

    It does not return that itself: trio lets no thread hand over a coroutine.
    """

    def __init__(self, check: Check) -> None:
        self._check = check
        self.running = False
        self.answer: Any = None

    def __call__(self) -> None:
        self.running = True
        try:
            self.answer = self._check()
        finally:
            self.running = False


def _is_async(check: Any) -> bool:
    while isinstance(check, functools.partial):
        check = check.func
    return inspect.iscoroutinefunction(check) or inspect.iscoroutinefunction(getattr(check, "__call__", None))  # noqa: B004
