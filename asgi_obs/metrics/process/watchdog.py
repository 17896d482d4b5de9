"""The stall watchdog: says what blocks an event loop, while it does.

It looks from another thread, about once in the time that is a stall, and logs where the blocked thread is: one line in
`REPORT_INTERVAL`, with the correlation ID of the request that the event loop is busy with. A stack that ends in the
event loop itself means that the process as a whole did not run: it was suspended, or got no CPU time.

A look costs 2 µs.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Final

from asgi_obs.errors import REPORT_INTERVAL
from asgi_obs.exchange import running_exchange, within_exchange
from asgi_obs.metrics.process.event_loop import EventLoops, MeasuredLoop
from asgi_obs.types import Clock

__all__ = ["StallWatchdog"]

MAX_FRAMES: Final = 50
"""Of a stack, the innermost."""

_log = logging.getLogger("asgi_obs")


class StallWatchdog:
    """Looks for event loops that are blocked.

    Args:
        loops: The event loops.
        clock: Seconds, for the time between two lines.
    """

    def __init__(self, loops: EventLoops, clock: Clock) -> None:
        self._loops = loops
        self._clock = clock
        self.after_fork()

    def after_fork(self) -> None:
        """Forget what the parent has said."""
        self._logged_at = -math.inf

    def look(self) -> float:
        """Count the stalls that are new, and tell of one; returns the seconds after which to look again."""
        wait = math.inf
        for loop in self._loops.alive:
            seconds = loop.new_stall()
            if seconds:
                self._tell(loop, seconds)
            left = loop.stall_seconds - loop.overdue()
            wait = min(wait, left if left > 0 else loop.stall_seconds)
        return wait

    def _tell(self, loop: MeasuredLoop, seconds: float) -> None:
        now = self._clock()
        frame = sys._current_frames().get(loop.thread)
        if frame is None or now - self._logged_at < REPORT_INTERVAL:
            return
        self._logged_at = now
        fields = {"blocked_seconds": round(seconds, 3), "stack": _stack(frame)}
        with within_exchange(running_exchange(frame)):
            _log.warning("event loop blocked for more than %g s", loop.stall_seconds, extra=fields)


def _outwards(frame: FrameType) -> Iterator[FrameType]:
    caller: FrameType | None = frame
    while caller is not None:
        yield caller
        caller = caller.f_back


def _stack(frame: FrameType) -> list[str]:
    """`file:line function` of each call, the innermost last."""
    calls = [f"{call.f_code.co_filename}:{call.f_lineno} {call.f_code.co_name}" for call in _outwards(frame)]
    return calls[:MAX_FRAMES][::-1]
