"""`Fold`: a storm of the same message becomes two lines, the second one with a count.

A filter of a handler; off unless configured. The first record of a kind passes, the ones like it that follow within
some seconds are held back, and when these are over one record tells how many they were. A record costs about 2 µs
more. While something is held back there is one timer thread, so that the count comes although nothing more is logged.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
import weakref
from collections import OrderedDict
from contextvars import Context
from threading import TIMEOUT_MAX, RLock, Timer
from typing import Final, NamedTuple

from asgi_obs.classify import error_type
from asgi_obs.errors import ConfigurationError, report
from asgi_obs.exchange import current_exchange
from asgi_obs.logs import records
from asgi_obs.logs.levels import AUDIT
from asgi_obs.logs.records import RequestRecord
from asgi_obs.logs.safe import message_of, safe_text
from asgi_obs.logs.selected import is_selected
from asgi_obs.logs.signals import TERMINATE, call_on
from asgi_obs.types import Clock

__all__ = ["Fold"]

MAX_KINDS: Final = 1024
"""Kinds of messages that are told apart at once; those of any more kinds pass."""


_NO_TEMPLATES: Final = frozenset({"%s", "%r"})
"""They say nothing of what is logged: then the message itself is compared."""


class Fold(logging.Filter):
    """Holds back records that repeat one another, and has one record written that counts them.

    Alike are records of the same logger, level, message template (`record.msg`, before its arguments) and type of
    exception. The record that counts them has the message of the last one and the fields `repeated`, how many were
    held back, and `repeated_seconds`, from the one that passed to the last one. It belongs to no request.

    Never held back are the records of the logger `audit`, the lines of requests, and all of requests that are logged
    at DEBUG.

    Args:
        handler: The handler that this is a filter of.
        seconds: How long records like one that has passed are held back.
        clock: Tells the time.

    Raises:
        ConfigurationError: `seconds` is not a number above 0.
    """

    _lock: RLock
    _timer: Timer | None

    def __init__(self, handler: logging.Handler, seconds: float, clock: Clock = time.monotonic) -> None:
        super().__init__()
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= TIMEOUT_MAX:
            raise ConfigurationError("seconds", seconds, "a number above 0")
        self._handler = handler
        self._seconds = seconds
        self._clock = clock
        # In the order in which they end, for all windows are of one length.
        self._windows: OrderedDict[_Kind, _Window] = OrderedDict()
        self._start_anew()
        _folds.add(self)
        # Weakly, for handlers are replaced; and behind what the handler has registered, so that it runs ahead of it.
        atexit.register(_flush, weakref.ref(self))
        call_on(TERMINATE, self.flush)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be written now; never raises."""
        try:
            return _is_exempt(record) or is_selected(current_exchange()) or self._passes(record)
        except Exception as error:  # noqa: BLE001 - fail open: a line too many is better than one too few
            report("Fold.filter", error)
            return True

    def flush(self) -> None:
        """Write the counts of all that is held back; never raises."""
        with self._lock:
            windows = list(self._windows.values())
            self._windows.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        self._write(windows)

    def _start_anew(self) -> None:
        """What a forked child does too: what is held back is its parent's, which still has the timer."""
        self._lock, self._timer = RLock(), None
        self._windows.clear()

    def _passes(self, record: logging.LogRecord) -> bool:
        kind = _kind_of(record)
        now = self._clock()
        with self._lock:
            over = self._take_over(now)
            window = self._windows.get(kind)
            if window is not None:
                self._watch(now)
                window.hold(record, now)
            elif len(self._windows) < MAX_KINDS:
                self._windows[kind] = _Window(kind, now, now + self._seconds)
        self._write(over)
        return window is None

    def _take_over(self, now: float) -> list[_Window]:
        """Remove the windows that are over, and return them."""
        over = []
        while self._windows and next(iter(self._windows.values())).ends <= now:
            over.append(self._windows.popitem(last=False)[1])
        return over

    def _watch(self, now: float) -> None:
        """See to it that somebody comes back when the first of the windows is over."""
        if self._timer is None:
            timer = Timer(next(iter(self._windows.values())).ends - now, self._on_timer)
            timer.daemon = True
            timer.start()
            self._timer = timer

    def _on_timer(self) -> None:
        now = self._clock()
        with self._lock:
            over = self._take_over(now)
            self._timer = None
            if any(window.repeated for window in self._windows.values()):
                self._watch(now)
        self._write(over)

    def _write(self, windows: list[_Window]) -> None:
        for window in windows:
            if window.repeated:
                try:
                    # In a context without a request: this one may be of any, or of none of those that were held back.
                    Context().run(self._handler.handle, window.summary())
                except Exception as error:  # noqa: BLE001 - fail open: handlers and filters of others
                    report("Fold.write", error)


class _Kind(NamedTuple):
    """What records that repeat one another have in common."""

    logger: str
    level: int
    template: str
    error: str | None


class _Summary(logging.LogRecord):
    """The record that counts others."""


class _Window:
    """The records of one kind from one that has passed on.

    Attributes:
        ends: When the next one passes.
        repeated: How many were held back.
    """

    __slots__ = ("_began", "_kind", "_last", "_message", "_place", "ends", "repeated")

    def __init__(self, kind: _Kind, began: float, ends: float) -> None:
        self._kind = kind
        self._began = self._last = began
        self.ends = ends
        self.repeated = 0

    def hold(self, record: logging.LogRecord, now: float) -> None:
        """Count a record; of the record itself nothing is kept: it may hold much, and its arguments may change."""
        self.repeated += 1
        self._last = now
        self._message = message_of(record)
        self._place = (record.pathname, record.lineno, record.funcName)

    def summary(self) -> _Summary:
        """The record that counts them."""
        (path, line, function), kind = self._place, self._kind
        summary = _Summary(kind.logger, kind.level, path, line, self._message, (), None, function)
        seconds = round(self._last - self._began, 3)
        summary.__dict__.update({"repeated": self.repeated, "repeated_seconds": seconds})
        if kind.error is not None:
            summary.__dict__["error"] = {"type": kind.error}
        return summary


def _is_exempt(record: logging.LogRecord) -> bool:
    # By their place too: with a record factory of somebody else the lines of requests are ordinary records.
    if isinstance(record, (RequestRecord, _Summary)) or record.pathname == records.__file__:
        return True
    return record.name == AUDIT or record.name.startswith(f"{AUDIT}.")


def _kind_of(record: logging.LogRecord) -> _Kind:
    template = record.msg if type(record.msg) is str else safe_text(record.msg)
    if template in _NO_TEMPLATES:
        template = message_of(record)
    error = record.exc_info[1] if record.exc_info else None
    return _Kind(record.name, record.levelno, template, None if error is None else error_type(error))


def _flush(reference: weakref.ref[Fold]) -> None:
    fold = reference()
    if fold is not None:
        fold.flush()


def _forget() -> None:  # pragma: no cover - runs in a forked child
    for fold in _folds:
        fold._start_anew()


_folds: Final[weakref.WeakSet[Fold]] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows cannot fork
    os.register_at_fork(after_in_child=_forget)
