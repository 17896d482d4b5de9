"""Single exchanges that are logged at DEBUG, without a change for all others.

While there is one, the root logger lets DEBUG through, and in front of the filters of every handler stands one that
drops what is below the level that is meant and comes from elsewhere. So nobody else's lines change; they do cost what
it takes to make and drop a record. While there is none, nothing of this is in place.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from threading import Lock
from typing import Final

from asgi_obs.errors import report
from asgi_obs.exchange import Exchange, current_exchange
from asgi_obs.logs.levels import AUDIT
from asgi_obs.logs.thresholds import root_level, threshold_of

__all__ = ["SELECTED", "Selection", "is_selected", "selection"]

SELECTED: Final = object()
"""What an exchange is marked with: `noted` tells the same as `is_selected`, in half the time."""


def is_selected(exchange: Exchange | None) -> bool:
    """Whether an exchange is one of those that are logged at DEBUG."""
    return exchange is not None and exchange.noted(SELECTED) is not None


class Selection:
    """Lets the DEBUG records of some exchanges through.

    Loggers with a level of their own keep it, and so do those below them.
    """

    _lock: Lock

    def __init__(self) -> None:
        self._guarded: list[logging.Handler] = []
        self._running = 0
        self._renew_lock()

    def add(self, exchange: Exchange) -> None:
        """Log an exchange at DEBUG from here on; `end` has to be called once for each."""
        with self._lock:
            for handler in _handlers():
                self._guard(handler)
            exchange.note(SELECTED, self)
            root_level.lower(self, logging.DEBUG)
            self._running += 1

    def end(self) -> None:
        """One of them has returned: with the last one all is as before."""
        with self._lock:
            self._running -= 1
            if not self._running:
                self._leave()

    def guard(self, handler: logging.Handler) -> None:
        """Have a handler that is about to be attached to a logger see no more than those that are there."""
        with self._lock:
            if self._running:
                self._guard(handler)

    def forget(self) -> None:
        """In a process that was forked: the exchanges are its parent's."""
        self._renew_lock()
        self._running = 0
        self._leave()

    def _guard(self, handler: logging.Handler) -> None:
        if _is_meant not in handler.filters:
            # A new list, for another thread may be walking the old one.
            handler.filters = [_is_meant, *handler.filters]
            self._guarded.append(handler)

    def _leave(self) -> None:
        root_level.lift(self)
        guarded, self._guarded = self._guarded, []
        for handler in guarded:
            handler.filters = [other for other in handler.filters if other is not _is_meant]

    def _renew_lock(self) -> None:
        self._lock = Lock()


def _handlers() -> Iterator[logging.Handler]:
    """Those of all loggers, for most loggers get their level from the root logger, whatever handlers they have."""
    root = logging.getLogger()
    for logger in (root, *root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            yield from (handler for handler in logger.handlers[:] if isinstance(handler, logging.Handler))


def _is_meant(record: logging.LogRecord) -> bool:
    """Whether a record would be there if no exchange were logged at DEBUG, or belongs to one that is."""
    try:
        if record.levelno >= root_level.meant or is_selected(current_exchange()) or record.name == AUDIT:
            return True
        return record.levelno >= threshold_of(record.name)
    except Exception as error:  # noqa: BLE001 - fail open: a line too many is better than one too few
        report("Selection.filter", error)
        return True


selection: Final = Selection()
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows cannot fork
    os.register_at_fork(after_in_child=selection.forget)
