"""Timers: a function that an event loop calls again and again, under asyncio and under trio.

They do not keep an event loop alive, and end with it. Each call has the empty context: that of the request in which a
timer begins would live as long as the loop.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol
from weakref import ref

import anyio

__all__ = ["Timer", "running_loop", "start_timer"]


class Timer(Protocol):
    """A timer that has been started."""

    @property
    def alive(self) -> bool:
        """Whether its event loop may still run."""
        ...

    @property
    def running(self) -> bool:
        """Whether its event loop runs; one of asyncio may stand still and go on later."""
        ...

    def stop(self) -> None:
        """Make no more calls."""
        ...


def running_loop() -> object | None:
    """What stands for the event loop of the calling thread: asyncio's loop, or trio's token; None if there is none."""
    return asyncio._get_running_loop() or _trio_token()


def _trio_token() -> object | None:
    trio: Any = sys.modules.get("trio")
    try:
        token: object | None = None if trio is None else trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None
    return token


def start_timer(seconds: float, function: Callable[[], object]) -> Timer:
    """Have the event loop of the calling thread call a function, which must not raise, every so many seconds."""
    loop = asyncio._get_running_loop()
    return _TrioTimer(seconds, function) if loop is None else _AsyncioTimer(loop, seconds, function)


class _AsyncioTimer:
    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, function: Callable[[], object]) -> None:
        self._loop = ref(loop)
        self._seconds = seconds
        self._function = function
        self._stopped = False
        self._schedule(loop)

    @property
    def alive(self) -> bool:
        loop = self._loop()
        return loop is not None and not loop.is_closed()

    @property
    def running(self) -> bool:
        loop = self._loop()
        return loop is not None and loop.is_running()

    def stop(self) -> None:
        self._stopped = True

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(self._seconds, self._call, context=Context())

    def _call(self) -> None:
        if not self._stopped:
            self._schedule(asyncio.get_running_loop())
            self._function()


class _TrioTimer:
    def __init__(self, seconds: float, function: Callable[[], object]) -> None:
        trio: Any = sys.modules["trio"]
        self._seconds = seconds
        self._function = function
        self._stopped = False
        self.running = True
        trio.lowlevel.spawn_system_task(self._run, name="asgi_obs.timer", context=Context())

    @property
    def alive(self) -> bool:
        return self.running

    def stop(self) -> None:
        self._stopped = True

    async def _run(self) -> None:
        try:
            await anyio.sleep(self._seconds)
            while not self._stopped:
                self._function()
                await anyio.sleep(self._seconds)
        finally:
            self.running = False
