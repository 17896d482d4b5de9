"""Which level a logger is meant to have.

For all but the root logger it is the one it has. The root logger may have a lower one for a while, where something
wants to see records before it is known whether they are written: `RequestBuffer`, and requests that are logged at
DEBUG. Handlers then drop what is below the level that is meant. Telling it takes less than a microsecond.
"""

from __future__ import annotations

import logging
import os
from threading import RLock
from typing import Final

__all__ = ["RootLevel", "level_of", "root_level", "set_level", "threshold_of"]


class RootLevel:
    """The level of the root logger: the one that is meant, and a lower one while somebody needs it.

    Args:
        root: The root logger.
    """

    _lock: RLock

    def __init__(self, root: logging.Logger) -> None:
        self._root = root
        self._needs: dict[object, int] = {}
        self._meant: int = logging.NOTSET
        self.renew_lock()

    @property
    def meant(self) -> int:
        """The level that is meant. If somebody has raised the logger's own in the meantime, he means that."""
        return max(self._root.level, self._meant)

    def mean(self, level: int) -> None:
        """Set the level that is meant."""
        with self._lock:
            lowest = min([level, *self._needs.values()])
            # In this order, so that `meant` is right at any time: a record that slips through would be written.
            if lowest < level:
                self._meant = level
                self._root.setLevel(lowest)
            else:
                self._root.setLevel(level)
                self._meant = logging.NOTSET

    def lower(self, who: object, level: int) -> None:
        """Let records of a level through until `lift`, whatever is meant.

        Args:
            who: Who needs it.
            level: The level.
        """
        with self._lock:
            meant = self.meant
            self._needs[who] = level
            self.mean(meant)

    def lift(self, who: object) -> None:
        """End what `lower` has begun; nothing if it has not."""
        with self._lock:
            if self._needs.pop(who, None) is not None:
                self.mean(self.meant)

    def renew_lock(self) -> None:
        """In a process that was forked: another thread may have held the lock."""
        self._lock = RLock()


root_level: Final = RootLevel(logging.getLogger())
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows cannot fork
    os.register_at_fork(after_in_child=root_level.renew_lock)


def level_of(logger: logging.Logger) -> int:
    """The level that is meant for a logger itself; NOTSET if it has that of the nearest one above it."""
    return root_level.meant if isinstance(logger, logging.RootLogger) else logger.level


def set_level(logger: logging.Logger, level: int) -> None:
    """Set the level that is meant for a logger."""
    if isinstance(logger, logging.RootLogger):
        root_level.mean(level)
    else:
        logger.setLevel(level)


def threshold_of(name: str) -> int:
    """The least level that is written of a logger: its own, or that of the nearest one above it.

    Args:
        name: The name of the logger, which need not exist.
    """
    loggers = logging.Logger.manager.loggerDict
    while name:
        logger = loggers.get(name)
        if isinstance(logger, logging.Logger) and logger.level:
            return logger.level
        name = name.rpartition(".")[0]
    return root_level.meant
