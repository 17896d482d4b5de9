"""`Tracker`: when an operation starts and ends, be it a block, a call, or the iteration of a generator.

What is known of a run is kept with the run: in the frame of a decorated function, or in an entry that its context leads
to. So one tracker may be used by several tasks and threads, and again inside of itself.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextvars import ContextVar
from time import perf_counter
from types import TracebackType
from typing import Any, Final, TypeVar, cast

from asgi_obs.classify import error_type
from asgi_obs.errors import ConfigurationError, report
from asgi_obs.metrics.labels import Family

__all__ = ["Operation", "Tracker"]

_F = TypeVar("_F", bound=Callable[..., Any])


class Operation:
    """What the runs of one operation move, looked up once.

    Args:
        name: Its name.
        families: Those of what has ended, of durations, of what is in progress, and of errors.
    """

    __slots__ = ("_count", "_errors", "_in_progress", "_name", "_observe")

    def __init__(self, name: str, families: Sequence[Family[Any]]) -> None:
        ended, duration, in_progress, self._errors = families
        self._name = name
        self._count = ended.child((name,)).inc
        self._observe = duration.child((name,)).observe
        self._in_progress = in_progress.child((name,))

    def start(self) -> bool:
        """One more is in progress; False if it cannot be counted."""
        try:
            self._in_progress.inc()
        except Exception as error:  # noqa: BLE001 - fail open: it is more than its metrics
            report("OperationMetrics.start", error)
            return False
        return True

    def end(self, seconds: float, error: BaseException | None) -> None:
        """What `start` has counted has ended: after how many seconds, and with which exception."""
        try:
            self._in_progress.dec()
            self._count()
            self._observe(seconds)
            if isinstance(error, Exception):
                self._errors.child((self._name, error_type(error))).inc()
        except Exception as problem:  # noqa: BLE001 - fail open: as above
            report("OperationMetrics.end", problem)


class _Run:
    """One run of an operation; a context manager for one use.

    Args:
        operation: The operation; None if it cannot be counted.
    """

    __slots__ = ("_operation", "_started_at")

    def __init__(self, operation: Operation | None) -> None:
        self._operation = operation

    def __enter__(self) -> None:
        if self._operation is not None and not self._operation.start():
            self._operation = None
        self._started_at = perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._operation is not None:
            self._operation.end(perf_counter() - self._started_at, error)


class _Entry(_Run):
    """A run between `__enter__` and `__exit__` of a tracker.

    Attributes:
        owner: The tracker; None once it has been left.
        outer: The entry around it, of any tracker, in the context that it was entered in.
    """

    __slots__ = ("outer", "owner")

    def __init__(self, operation: Operation | None, owner: Tracker, outer: _Entry | None) -> None:
        super().__init__(operation)
        self.owner: Tracker | None = owner
        self.outer = outer


_innermost: ContextVar[_Entry | None] = ContextVar("asgi_obs.operation", default=None)


class Tracker:
    """Tracks an operation, any number of times and by several tasks at once.

    As a context manager it tracks the block. As a decorator it tracks each call of a function or coroutine function,
    and of a generator function or async generator function each iteration, from its first step to its end; what it
    returns is of the same kind.
    """

    __slots__ = ("_entries", "_operation")

    def __init__(self, operation: Operation | None) -> None:
        self._operation = operation
        self._entries: list[_Entry] = []

    def __enter__(self) -> None:
        entry = _Entry(self._operation, self, _not_left(_innermost.get()))
        self._entries.append(entry)
        _innermost.set(entry)
        entry.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        entry = self._leave()
        if entry is not None:
            entry.__exit__(kind, error, traceback)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _leave(self) -> _Entry | None:
        """The last entry of this context, or, if it was made in another one, the last of all; None if all are left."""
        innermost = entry = _innermost.get()
        while entry is not None and entry.owner is not self:
            entry = entry.outer
        try:
            if entry is None:
                entry = self._entries.pop()
            else:
                self._entries.remove(entry)
        except (IndexError, ValueError):  # the second of them: by another thread, just now
            return None
        entry.owner = None
        _innermost.set(_not_left(innermost))
        entry.outer = None  # tasks that start each other would make an endless chain
        return entry

    def __call__(self, function: _F) -> _F:
        """Track the calls of a function.

        Raises:
            ConfigurationError: It is no function, nor an object that can be called.
        """
        if not callable(function) or isinstance(function, (type, staticmethod)):
            allowed = "a function, of any kind; under @classmethod and @staticmethod, not above them"
            raise ConfigurationError("function", function, allowed)
        wrapped = function if inspect.isroutine(function) else _body_of(function)
        wrap = next((wrap for is_such, wrap in _WRAPPERS if is_such(wrapped)), _wrap_function)
        return cast("_F", functools.wraps(function)(wrap(self._operation, function)))


def _not_left(entry: _Entry | None) -> _Entry | None:
    while entry is not None and entry.owner is None:
        entry = entry.outer
    return entry


def _body_of(function: Any) -> Any:
    """What runs when an object is called: of a `functools.partial` it is known as it is."""
    return function if isinstance(function, functools.partial) else type(function).__call__


def _wrap_function(operation: Operation | None, function: Callable[..., Any]) -> Callable[..., Any]:
    def tracked(*args: Any, **kwargs: Any) -> Any:
        with _Run(operation):
            return function(*args, **kwargs)

    return tracked


def _wrap_coroutine_function(operation: Operation | None, function: Callable[..., Any]) -> Callable[..., Any]:
    async def tracked(*args: Any, **kwargs: Any) -> Any:
        with _Run(operation):
            return await function(*args, **kwargs)

    return tracked


def _wrap_generator_function(operation: Operation | None, function: Callable[..., Any]) -> Callable[..., Any]:
    def tracked(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with _Run(operation):
            return (yield from function(*args, **kwargs))

    return tracked


def _wrap_async_generator_function(operation: Operation | None, function: Callable[..., Any]) -> Callable[..., Any]:
    async def tracked(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        with _Run(operation):
            generator = function(*args, **kwargs)
            step = generator.__anext__()
            # What `yield from` does, which async generators have not.
            while True:
                try:
                    value = await step
                except StopAsyncIteration:
                    return
                try:
                    sent = yield value
                except GeneratorExit:
                    await generator.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - it is for the generator
                    step = generator.athrow(error)
                else:
                    step = generator.asend(sent)

    return tracked


_WRAPPERS: Final = (
    (inspect.iscoroutinefunction, _wrap_coroutine_function),
    (inspect.isgeneratorfunction, _wrap_generator_function),
    (inspect.isasyncgenfunction, _wrap_async_generator_function),
)
