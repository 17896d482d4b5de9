"""Work that is done once for all who ask at the same time, and in threads of its own.

Both work under asyncio and trio, need no background task, and keep what belongs to an event loop apart for
each loop: an object made here may be used from several.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final, Generic, TypeVar

from anyio import CapacityLimiter, Event, to_thread
from anyio.lowlevel import RunVar

__all__ = ["SingleFlight", "ThreadRoom"]

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Runs a function once for all who ask for the same thing while it runs.

    The first who asks runs it, in its own task; the others wait for the outcome, be it a result or an exception.
    Anyone may be cancelled without harm to the others: when it is the one who runs it, the next takes over and
    starts again.
    """

    async def run(self, key: Hashable, function: Callable[[], Awaitable[T]]) -> T:
        """The result of `function`, from a run that another caller began under this `key` or from our own."""
        flights = _flights_of_this_loop()
        place = (self, key)
        while (flight := flights.get(place)) is not None:
            await flight.landed.wait()
            if flight.error is not None:
                raise flight.error
            if flight.complete:
                result: T = flight.result
                return result
        flight = flights[place] = _Flight()
        try:
            flight.result = await function()
            flight.complete = True
        except Exception as error:
            flight.error = error
            raise
        finally:
            del flights[place]
            flight.landed.set()
        return flight.result  # type: ignore[no-any-return]


class _Flight:
    """One run; neither `complete` nor with an `error` when its runner was cancelled."""

    __slots__ = ("complete", "error", "landed", "result")

    def __init__(self) -> None:
        self.landed = Event()
        self.complete = False
        self.error: Exception | None = None
        self.result: Any = None


_Flights = dict[tuple[SingleFlight[Any], Hashable], _Flight]
_flights: Final[RunVar[_Flights]] = RunVar("asgi_obs.flights")


def _flights_of_this_loop() -> _Flights:
    flights = _flights.get(None)
    if flights is None:
        flights = {}
        _flights.set(flights)
    return flights


class ThreadRoom:
    """A number of threads apart from those of the application, which a check that hangs must not use up.

    Make one per module, not per object: an event loop keeps what it has of each for as long as it lives.

    Args:
        name: What it is for.
        size: How many threads may run at a time, in each event loop.
    """

    def __init__(self, name: str, size: int) -> None:
        self._limiter: RunVar[CapacityLimiter] = RunVar(name)
        self._size = size

    async def run(self, function: Callable[[], T]) -> T:
        """Call `function` in a thread. When this is cancelled, the thread is left to end by itself."""
        limiter = self._limiter.get(None)
        if limiter is None:
            limiter = CapacityLimiter(self._size)
            self._limiter.set(limiter)
        return await to_thread.run_sync(function, abandon_on_cancel=True, limiter=limiter)
