"""Signals: what handlers do on SIGUSR1, which tells them to open their files anew, and on SIGTERM.

A signal may be held back first, for load balancers to see that the service is about to leave. Then it goes to the
handler that was there before. A server such as uvicorn has its own for SIGTERM while it serves, puts back the one from
before, and sends the signal to itself again: the process then dies at once, without the functions of `atexit`. So ours
has to come first whichever was installed first, and is installed again when `call_on` or `hold` finds another in its
place. It costs nothing until a signal comes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Final
from weakref import WeakMethod

from asgi_obs.errors import report

__all__ = ["REOPEN", "TERMINATE", "call_on", "hold"]

TERMINATE: Final[int] = signal.SIGTERM
REOPEN: Final[int | None] = getattr(signal, "SIGUSR1", None)
"""Windows has no such signal."""

_methods: Final[dict[int, tuple[WeakMethod[Any], ...]]] = {}
_holders: Final[dict[int, tuple[WeakMethod[Any], ...]]] = {}


def call_on(number: int | None, method: Callable[[], object]) -> None:
    """Have a method called when a signal comes, as long as its object exists.

    Only the main thread can install what is needed for that; a call in another one counts from the next in the main
    thread on.

    Args:
        number: The signal; None, where there is no such signal, does nothing.
        method: A bound method. What it raises is reported.
    """
    if number is not None:
        _add(_methods, number, method)


def hold(number: int, method: Callable[[int], bool]) -> None:
    """Have a method decide whether a signal waits, as long as its object exists.

    Args:
        number: The signal.
        method: A bound method, called with the signal when it comes, in the middle of anything. True: nobody hears of
            it now, and the method sees to it that it is sent again. What it raises is reported, and means no.
    """
    _add(_holders, number, method)


def _add(known: dict[int, tuple[WeakMethod[Any], ...]], number: int, method: Callable[..., object]) -> None:
    others = (other for other in known.get(number, ()) if other() not in {None, method})
    known[number] = (*others, WeakMethod(method))
    with suppress(ValueError):  # another thread, or a subinterpreter
        _install(number)


class _Chained:
    """Does something about a signal, then what would have been done without it.

    Args:
        previous: The handler that was there before.
    """

    def __init__(self, previous: Any) -> None:
        self._previous = previous

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        if any(_call(_holders, number, number)):
            return None
        _call(_methods, number)
        if callable(self._previous):
            return self._previous(number, frame)
        if self._previous is signal.SIG_DFL and number != REOPEN:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        return None


def _install(number: int) -> None:
    previous = signal.getsignal(number)
    # None: installed by somebody who does not use Python, and could not be called.
    is_ignored = previous is signal.SIG_IGN and number != REOPEN
    if previous is not None and not is_ignored and not isinstance(previous, _Chained):
        signal.signal(number, _Chained(previous))


def _call(known: dict[int, tuple[WeakMethod[Any], ...]], number: int, *arguments: int) -> list[object]:
    """What all of the methods return, in a list, for each of them has to be called."""
    answers: list[object] = []
    for reference in known.get(number, ()):
        method = reference()
        try:
            if method is not None:
                answers.append(method(*arguments))
        except Exception as error:  # noqa: BLE001 - fail open: the others, and whoever comes after, have to be called
            report("signals", error)
    return answers
