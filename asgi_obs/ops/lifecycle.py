"""How a service comes and goes: what begins with its event loop, and how it leaves without losing a request.

========   ===========================================   =========   ========
state      begins with                                   readiness   liveness
========   ===========================================   =========   ========
starting   `set_not_ready(reason, state="starting")`     503         200
ready      by itself, or `set_ready()`                   as checks   200
draining   SIGTERM, SIGINT, the end of the lifespan      503         200
========   ===========================================   =========   ========

On SIGTERM readiness fails at once, and for good, while the server goes on as before; `DRAIN_SECONDS` later the signal
goes on to the server. A second one goes on at once. A server that does not hear of signals by Python's handlers (those
that use `loop.add_signal_handler`: hypercorn, granian) begins to end at once: there it is the end of the lifespan that
fails readiness and waits. `attach` is called for every request and costs 0.1 µs; with a lifespan the first call comes
before the first request.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from signal import SIGINT, Signals
from threading import Timer
from typing import Final
from weakref import ref

import anyio

from asgi_obs.errors import ConfigurationError, report
from asgi_obs.health import HealthRegistry
from asgi_obs.health.loops import current_loop
from asgi_obs.logs.signals import TERMINATE, hold
from asgi_obs.metrics.multiprocess.directory import configured
from asgi_obs.metrics.process.monitor import attach as monitor
from asgi_obs.metrics.process.timers import running_loop
from asgi_obs.ops.shared_levels import follow
from asgi_obs.settings import Settings

__all__ = ["Lifecycle"]

SIGNALS: Final = (TERMINATE, SIGINT)
ENDING: Final = "shutting down"

_nowhere: Final[Callable[[], object]] = lambda: _nowhere  # noqa: E731 - as a weak reference to what is no event loop


class Lifecycle:
    """Begins what a service needs in its event loop, and drains it.

    Args:
        health: Its checks, and its readiness.
        settings: How long to drain, and what counts as a stall.
    """

    def __init__(self, health: HealthRegistry, settings: Settings) -> None:
        self._health = health
        self._drain_seconds = settings.drain_seconds
        self._stall_seconds = settings.stall_seconds
        self._place: Callable[[], object] = _nowhere
        self._call_soon: Callable[[Callable[[], object]], object]
        self._leaving = False

    def attach(self) -> bool:
        """Begin with a request, unless that has happened in this event loop; returns whether it has happened now."""
        if running_loop() is self._place():
            return False
        self._begin()
        try:
            self._health.validate()
        except ConfigurationError as error:  # too late to fail the start
            report("Lifecycle.attach", error)
        return True

    def _begin(self) -> None:
        self._place = ref(running_loop())
        monitor(self._stall_seconds)
        try:
            self._call_soon = current_loop().call_soon
            self._health.start()
            if (directory := configured()) is not None:
                follow(directory)
            for number in SIGNALS:
                hold(number, self.hold)
        except Exception as error:  # noqa: BLE001 - fail open: called in the middle of a request
            report("Lifecycle.begin", error)

    def validate(self) -> None:
        """Look whether the groups of health are complete.

        Raises:
            ConfigurationError: One of them has an unknown member.
        """
        self._health.validate()

    def hold(self, number: int) -> bool:
        """A signal to end has come: fail readiness, and have it sent again when that has been seen."""
        is_first, self._leaving = not self._leaving, True
        self._health.drain(Signals(number).name)
        if not is_first or self._drain_seconds == 0:
            return False
        # Not here: a thread must not be started in the middle of anything.
        self._call_soon(partial(self._send_again_later, number))
        return True

    def _send_again_later(self, number: int) -> None:
        timer = Timer(self._drain_seconds, os.kill, (os.getpid(), number))
        timer.daemon = True
        timer.start()

    def begin(self) -> None:
        """The lifespan begins: the end of an earlier one is over."""
        self._leaving = False
        self._health.undrain()
        self._begin()

    async def drain(self) -> None:
        """The lifespan is about to end: fail readiness, and wait until that has been seen, if it is new."""
        is_new, self._leaving = not self._leaving, True
        if is_new:
            self._health.drain(ENDING)
        await self._health.ready()  # so that it is logged, also where nobody asks any more
        if is_new:
            await anyio.sleep(self._drain_seconds)

    def end(self) -> None:
        """The lifespan has ended."""
        self._health.stop()
        self._place = _nowhere
