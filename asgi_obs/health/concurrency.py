"""Work that is done once for all who ask at the same time, and in threads of its own.

Both work under asyncio and trio and may be used from several event loops. A run costs a task, some 25 µs, and a call
in a thread some 100 µs, for that is started.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Coroutine, Hashable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from threading import Lock, Thread
from typing import Any, Final, Generic, TypeVar

from anyio import Event, get_cancelled_exc_class
from anyio.lowlevel import RunVar

from asgi_obs.health.forks import renew_in_children
from asgi_obs.health.loops import current_loop, spawn

__all__ = ["Flight", "SingleFlight", "ThreadCall", "ThreadRoom"]

WAVE: Final = 10
"""Those who wait for the same run are woken so many at a time: a check that hangs gathers thousands of probes."""

T = TypeVar("T")


class Flight(Generic[T]):
    """One run of a function, for all who wait for it.

    Attributes:
        has_landed: Whether it has ended.
        is_cancelled: Whether `cancel` was called; it may go on all the same.
        error: What it raised; until it has ended, and when somebody cancelled it, an error that says so.
        result: What it returned, if there is no error.
    """

    __slots__ = ("_cancel", "_loop", "_waiting", "_waves", "error", "has_landed", "is_cancelled", "result")
    result: T
    _cancel: Callable[[], object]

    def __init__(self) -> None:
        self.has_landed = False
        self.is_cancelled = False
        self.error: BaseException | None = RuntimeError("the run was cancelled")
        self._loop = current_loop()
        self._waves: deque[Event] = deque()
        self._waiting = 0

    def begin(self, function: Callable[[], Coroutine[Any, Any, T]], end: Callable[[], object]) -> None:
        """Run the function in a task of its own; `end` is called when that has ended."""
        self._cancel = spawn(partial(self._fly, function), copy_context(), end)

    async def _fly(self, function: Callable[[], Coroutine[Any, Any, T]]) -> None:
        cancelled = get_cancelled_exc_class()
        try:
            self.result = await function()
            self.error = None
        except (cancelled, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - for those who wait; it must not end the event loop
            self.error = error

    def cancel(self) -> None:
        """Have it end, in its event loop. One that does not heed it goes on, and those who wait with it."""
        self.is_cancelled = True
        self._cancel()

    def land(self) -> None:
        """Wake those who wait, some at a time: what else goes on in the event loop has its turn in between."""
        self.has_landed = True
        if self._waves:
            self._waves.popleft().set()
            with suppress(RuntimeError):  # the event loop is about to end, and with it those who wait
                self._loop.call_soon(self.land)

    async def wait(self) -> None:
        """Wait until it has ended."""
        if self.has_landed:
            return
        if self._waiting % WAVE == 0:
            self._waves.append(Event())
        self._waiting += 1
        await self._waves[-1].wait()

    async def outcome(self) -> T:
        """Wait until it has ended; returns its result, or raises what it raised."""
        await self.wait()
        if self.error is not None:
            raise self.error
        return self.result


class SingleFlight(Generic[T]):
    """Runs a function once for all who ask for the same thing while it runs, in each event loop.

    The run has a task of its own, with the context variables of the first who asked: anyone who waits may be
    cancelled without harm to the others, and it goes on when nobody waits any more. So it has to end by itself.
    """

    async def run(self, key: Hashable, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of `function`, from a run that began under this `key` before, or from a new one."""
        return await self.start(key, function).outcome()

    def start(self, key: Hashable, function: Callable[[], Coroutine[Any, Any, T]]) -> Flight[T]:
        """As `run`, without waiting for the end."""
        flights = _flights_of_this_loop()
        place = (self, key)
        flight: Flight[T] | None = flights.get(place)
        if flight is None:
            flight = flights[place] = Flight()
            flight.begin(function, partial(_land, flights, place))
        return flight


_Flights = dict[tuple[SingleFlight[Any], Hashable], Flight[Any]]
_flights: Final[RunVar[_Flights]] = RunVar("asgi_obs.flights")


def _land(flights: _Flights, place: tuple[SingleFlight[Any], Hashable]) -> None:
    flights.pop(place).land()


def _flights_of_this_loop() -> _Flights:
    flights = _flights.get(None)
    if flights is None:
        flights = {}
        _flights.set(flights)
    return flights


class ThreadCall(Generic[T]):
    """One call of a function in a thread of a room."""

    __slots__ = ("_context", "_function", "future")

    def __init__(self, function: Callable[[], T]) -> None:
        self.future: Future[T] = Future()
        self._function = function
        self._context = copy_context()
        if (sniffio := sys.modules.get("sniffio")) is not None:
            # What the function calls must not think that it is in an event loop.
            self._context.run(sniffio.current_async_library_cvar.set, None)

    def run(self, end: Callable[[], object]) -> None:
        """Make the call, unless it was cancelled; `end` is called before anybody knows the result."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self._context.run(self._function)
        except BaseException as error:  # noqa: BLE001 - it goes to whoever waits
            end()
            self.future.set_exception(error)
        else:
            end()
            self.future.set_result(result)


class ThreadRoom:
    """A number of threads apart from those of the application, which a function that hangs must not use up.

    They are daemons: a function that hangs does not hold up the end of the process. One that finds no room waits for
    it. Context variables are passed on. A thread ends when there is no more to do.

    Args:
        name: What it is for; the name of its threads.
        size: How many threads may run at a time; None for as many as there are calls.
    """

    def __init__(self, name: str, size: int | None) -> None:
        self._name = name
        self._size = size
        self.after_fork()
        renew_in_children(self)

    def after_fork(self) -> None:
        """Begin with an empty room: its threads are in the parent."""
        self._lock = Lock()
        self._threads = 0
        self._waiting: deque[ThreadCall[Any]] = deque()
        self._calls: set[ThreadCall[Any]] = set()

    async def run(self, function: Callable[[], T]) -> T:
        """Call `function` in a thread. When this is cancelled, the thread is left to end by itself."""
        return await self.outcome(self.submit(function))

    def submit(self, function: Callable[[], T]) -> ThreadCall[T]:
        """As `run`, without waiting for the end.

        Raises:
            RuntimeError: No thread can be started.
        """
        call = ThreadCall(function)
        with self._lock:
            self._calls.add(call)
            if self._threads == self._size:
                self._waiting.append(call)
                return call
            self._threads += 1
        try:
            Thread(target=self._work, args=(call,), name=self._name, daemon=True).start()
        except BaseException:
            with self._lock:
                self._threads -= 1
                self._calls.discard(call)
            raise
        return call

    async def outcome(self, call: ThreadCall[T]) -> T:
        """Wait until a call has ended; returns its result, or raises what it raised.

        When this is cancelled, a call that still waits for room will not be made.
        """
        ended, loop = Event(), current_loop()

        def wake(_: Future[T]) -> None:
            with suppress(RuntimeError):  # the event loop has ended meanwhile
                loop.call_soon(ended.set)

        call.future.add_done_callback(wake)
        try:
            await ended.wait()
        finally:
            if call.future.cancel():
                self._drop(call)
        return call.future.result()

    def __contains__(self, call: object) -> bool:
        """Whether a call waits or runs here."""
        return call in self._calls

    def _work(self, call: ThreadCall[Any]) -> None:
        following: ThreadCall[Any] | None = call
        while following is not None:
            following.run(partial(self._calls.discard, following))
            following = self._next()

    def _next(self) -> ThreadCall[Any] | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._threads -= 1
            return None

    def _drop(self, call: ThreadCall[Any]) -> None:
        with self._lock:
            self._calls.discard(call)
            with suppress(ValueError):  # a thread was about to make it
                self._waiting.remove(call)
