"""Signals: SIGUSR1 opens log files anew, SIGTERM flushes what waits in a queue.

Each one calls the handler that was there before. A server such as uvicorn has its own for SIGTERM while it serves,
puts back the one from before, and sends the signal to itself again: the process then dies at once, without the
functions of `atexit`. So ours has to come first whichever was installed first, and is installed again when `listen`
finds another in its place. It costs nothing until a signal comes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import FrameType
from typing import Any, Final

from asgi_obs.errors import report
from asgi_obs.logs.files import FileHandler
from asgi_obs.logs.handlers import LineHandler

__all__ = ["listen"]

REOPEN: Final[int | None] = getattr(signal, "SIGUSR1", None)
"""Windows has no such signal."""

_handlers: list[LineHandler] = []


def listen(handlers: Iterable[LineHandler]) -> None:
    """Have these handlers react to signals, in place of those of the last call.

    Only the main thread can install what is needed; from another one this only replaces the handlers.

    Args:
        handlers: Handlers of this library.
    """
    _handlers[:] = handlers
    with suppress(ValueError):  # another thread, or a subinterpreter
        if REOPEN is not None and any(isinstance(handler, FileHandler) for handler in _handlers):
            _install(REOPEN, _reopen)
        if any(handler.is_queued for handler in _handlers):
            _install(signal.SIGTERM, _drain)


class _Chained:
    """Does something about a signal, then what would have been done without it.

    Args:
        previous: The handler that was there before.
        action: What to do first.
    """

    def __init__(self, previous: Any, action: Callable[[], None]) -> None:
        self._previous = previous
        self._action = action

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        self._action()
        if callable(self._previous):
            return self._previous(number, frame)
        if self._previous is signal.SIG_DFL and number != REOPEN:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        return None


def _install(number: int, action: Callable[[], None]) -> None:
    previous = signal.getsignal(number)
    # None: installed by somebody who does not use Python, and could not be called.
    is_ignored = previous is signal.SIG_IGN and number != REOPEN
    if previous is not None and not is_ignored and not isinstance(previous, _Chained):
        signal.signal(number, _Chained(previous, action))


def _reopen() -> None:
    for handler in _handlers:
        if isinstance(handler, FileHandler):
            _call(handler.reopen)


def _drain() -> None:
    for handler in _handlers:
        _call(handler.drain)


def _call(method: Callable[[], None]) -> None:
    try:
        method()
    except Exception as error:  # noqa: BLE001 - fail open: the others, and whoever comes after, have to be called
        report("signals", error)
