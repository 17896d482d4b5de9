"""The background refresh: a check that is run again and again, whether anybody asks or not.

It has a task in the event loop where it was started, apart from everything else there: no lifespan and no nursery is
needed. It ends with the event loop.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Final

from anyio import CancelScope, sleep

from asgi_obs.errors import report
from asgi_obs.health.forks import ForkSafeLock
from asgi_obs.health.loops import EventLoop, current_loop, spawn

__all__ = ["Refresh"]

_lock: Final = ForkSafeLock()


class Refresh:
    """Does something again and again, in one task of one event loop at a time.

    Args:
        action: What to do; what it raises is reported.
        period: Seconds between the end of one time and the next.
    """

    def __init__(self, action: Callable[[], Awaitable[object]], period: float) -> None:
        self._action = action
        self._period = period
        self._task: _Task | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the task is there: not stopped, nor ended with its event loop, nor left behind by a fork."""
        task = self._task
        return task is not None and task.is_alive

    def start(self) -> None:
        """Begin in the running event loop, unless the task is alive, here or in another."""
        with _lock:
            if self.is_alive:
                return
            self._task = task = _Task()
        # A context of its own: the request that happens to be the first has nothing to do with what is logged.
        spawn(partial(self._repeat, task), Context(), task.end)

    def stop(self) -> None:
        """Have the task end soon; from any thread, and without effect if there is none."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def _repeat(self, task: _Task) -> None:
        with task.scope:
            while True:
                try:
                    await self._action()
                except Exception as error:  # noqa: BLE001 - fail open: the next time may be better
                    report("HealthRegistry.refresh", error)
                await sleep(self._period)


class _Task:
    """Where a task is."""

    def __init__(self) -> None:
        self.scope = CancelScope()
        self._loop: EventLoop = current_loop()
        self._process = os.getpid()
        self._has_ended = False

    @property
    def is_alive(self) -> bool:
        return not (self._has_ended or self._loop.is_closed() or self._process != os.getpid())

    def end(self) -> None:
        self._has_ended = True

    def cancel(self) -> None:
        with suppress(RuntimeError):  # the event loop has ended
            self._loop.call_soon(self.scope.cancel)
