"""How a check is called: an async one in the event loop, a sync one in a thread, a quick one on the spot."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from anyio import get_cancelled_exc_class

from asgi_obs.health.concurrency import ThreadCall, ThreadRoom
from asgi_obs.health.forks import ForkSafeLock
from asgi_obs.health.result import CheckResult

__all__ = ["OVERDUE", "Check", "caller_of", "is_local"]

Check: TypeAlias = Callable[[], CheckResult | bool | Awaitable[CheckResult | bool | None] | None]
"""A function without arguments, sync or async. It may raise: that means unhealthy.

One that asks about this process alone, is sync, and takes no time to speak of may say so by an attribute
`local = True`: it is called in the event loop, and may be one of liveness.
"""

OVERDUE: Final = CheckResult.unhealthy("the call before has still not returned")

# No limit: a check is in one of them at most, and those that hang must leave room for the others.
_threads: Final = ThreadRoom("asgi_obs.checks", size=None)
_lock: Final = ForkSafeLock()


def caller_of(check: Check) -> Callable[[], Any]:
    """A function that calls a check where it belongs; what it returns may have to be awaited."""
    return check if is_local(check) or _is_async(check) else _InThread(check)


def is_local(check: Check) -> bool:
    """Whether a check is sync and says that it asks about this process alone."""
    return getattr(check, "local", False) is True and not _is_async(check)


class _InThread:
    """A sync check, called in a thread, one at a time.

    While a call that took too long has not returned there is no other. Who comes while one goes on in time, from
    another event loop, waits for it.
    """

    def __init__(self, check: Check) -> None:
        self._check = check
        self._call: ThreadCall[Any] | None = None
        self._overdue: ThreadCall[Any] | None = None

    async def __call__(self) -> Any:
        call = self._begin()
        if call is self._overdue:
            return OVERDUE
        try:
            return await _threads.outcome(call)
        except get_cancelled_exc_class():
            self._overdue = call
            raise
        finally:
            self._forget(call)

    def _begin(self) -> ThreadCall[Any]:
        with _lock:
            call = self._call
            if call is None or call not in _threads:
                self._call = call = _threads.submit(self._answer)
            return call

    def _answer(self) -> Any:
        """Whatever is raised in a thread is the check's: nothing there is meant for the event loop."""
        try:
            return self._check()
        except BaseException as error:  # noqa: BLE001 - raising is how a check says that it failed
            return CheckResult.from_error(error)

    def _forget(self, call: ThreadCall[Any]) -> None:
        """Let go of what has returned: it holds the context variables of who asked."""
        with _lock:
            if self._call is call and call not in _threads:
                self._call = None


def _is_async(check: Any) -> bool:
    while isinstance(check, functools.partial):
        check = check.func
    return inspect.iscoroutinefunction(check) or inspect.iscoroutinefunction(getattr(check, "__call__", None))  # noqa: B004
