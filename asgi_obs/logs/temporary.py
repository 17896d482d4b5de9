"""Levels of loggers that end by themselves.

Nothing is there until one is put in place: then a thread waits for the first that is over, as long as there is any.
The level from before comes back exactly, unless somebody else has set another one in the meantime.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import TIMEOUT_MAX, Condition, Thread
from typing import Final

from asgi_obs.errors import report
from asgi_obs.logs.audit import audit_log
from asgi_obs.logs.levels import LEVEL_NAMES
from asgi_obs.logs.thresholds import level_of, set_level, threshold_of
from asgi_obs.types import Clock

__all__ = ["MAX_LEVELS", "TemporaryLevel", "TemporaryLevels", "level_text", "temporary_levels"]

MAX_LEVELS: Final = 100
"""Loggers with a temporary level at once."""


@dataclass(frozen=True)
class TemporaryLevel:
    """The temporary level of one logger.

    Attributes:
        level: The level.
        until: When it is over, in seconds since 1970.
        before: The level that comes back.
        audited: Whether its end is in the audit log.
    """

    level: int
    until: float
    before: int
    audited: bool


class TemporaryLevels:
    """The loggers of this process that have one, by name.

    Args:
        clock: Tells the time, in seconds since 1970.
    """

    _changed: Condition
    _watcher: Thread | None

    def __init__(self, clock: Clock = time.time) -> None:
        self._clock = clock
        self._levels: Mapping[str, TemporaryLevel] = {}
        self._start_anew()

    @property
    def all(self) -> Mapping[str, TemporaryLevel]:
        """All of them, as they are now."""
        return self._levels

    def put(self, name: str, level: int, until: float, *, audited: bool = True) -> bool:
        """Give a logger a level for a time; one that it has for a time already is replaced.

        Args:
            name: The name of the logger, which is made if it does not exist.
            level: The level.
            until: When it is over, in seconds since 1970.
            audited: Whether its end is written to the audit log.

        Returns:
            Whether there was room: there are at most `MAX_LEVELS`.

        Raises:
            RuntimeError: No thread can be started that would end it; nothing has been changed then.
        """
        with self._changed:
            present = self._levels.get(name)
            if present is None and len(self._levels) >= MAX_LEVELS:
                return False
            if present is None or (present.level, present.until) != (level, until):
                self._watch()
                self._begin(name, TemporaryLevel(level, until, self._before(name), audited))
            self._changed.notify()
        return True

    def end(self, name: str) -> None:
        """Take back the temporary level of a logger, if it has one."""
        with self._changed:
            entry = self._levels.get(name)
            if entry is not None:
                self._restore(name, entry)
                self._levels = {other: level for other, level in self._levels.items() if other != name}
            self._changed.notify()

    def end_what_is_over(self) -> None:
        """Take back those whose time is over."""
        with self._changed:
            now = self._clock()
            over = {name: entry for name, entry in self._levels.items() if entry.until <= now}
            for name in over:
                self.end(name)
        for name, entry in over.items():
            if entry.audited:
                levels = {"old_level": level_text(entry.level), "new_level": level_text(threshold_of(name))}
                audit_log("logger.level", actor="expiry", outcome="success", logger=name, **levels)

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Inside of the block loggers have the levels from before, and what is set there comes back at the end."""
        with self._changed:
            for name, entry in self._levels.items():
                self._restore(name, entry)
            try:
                yield
            finally:
                for name, entry in self._levels.items():
                    self._begin(name, replace(entry, before=level_of(logging.getLogger(name))))

    def _before(self, name: str) -> int:
        """What comes back after a temporary level that begins now."""
        present, level = self._levels.get(name), level_of(logging.getLogger(name))
        return level if present is None or present.level != level else present.before

    def _begin(self, name: str, entry: TemporaryLevel) -> None:
        # A new mapping, for others read it without the lock.
        self._levels = {**self._levels, name: entry}
        set_level(logging.getLogger(name), entry.level)

    def _restore(self, name: str, entry: TemporaryLevel) -> None:
        logger = logging.getLogger(name)
        if level_of(logger) == entry.level:
            set_level(logger, entry.before)

    def _watch(self) -> None:
        """See to it that somebody ends them."""
        if self._watcher is None:
            watcher = Thread(target=self._run, name="asgi_obs.levels", daemon=True)
            watcher.start()
            self._watcher = watcher

    def _run(self) -> None:
        while self._wait():
            try:
                self.end_what_is_over()
            except Exception as error:  # noqa: BLE001 - fail open: handlers of others, which get the audit log
                report("TemporaryLevels.end", error)

    def _wait(self) -> bool:
        """Wait for the first that is over, or for a change; False if there is none left."""
        with self._changed:
            if not self._levels:
                self._watcher = None
                return False
            left = min(entry.until for entry in self._levels.values()) - self._clock()
            self._changed.wait(min(max(left, 0.0), TIMEOUT_MAX))
            return True

    def _start_anew(self) -> None:
        """What a forked child does too: another thread may have held the lock, and the watcher is its parent's."""
        self._changed = Condition()
        self._watcher = None
        if self._levels:
            self._watch()


def level_text(level: int) -> str | None:
    """The name of a level in the output; None for NOTSET."""
    return LEVEL_NAMES.get(level, logging.getLevelName(level)) if level else None


temporary_levels: Final = TemporaryLevels()
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows cannot fork
    os.register_at_fork(after_in_child=temporary_levels._start_anew)
