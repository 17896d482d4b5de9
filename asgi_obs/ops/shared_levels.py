"""Temporary levels in all workers of a service: what one of them is asked for, the others follow within a second.

Where several processes serve one port, a request reaches any of them. So the one that is asked writes all temporary
levels to a file in a directory that they share, and each looks at it once a second, in a thread of its own. A look
costs some microseconds.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from threading import Event, RLock, Thread
from typing import Final, Literal, TypeAlias

from asgi_obs.errors import report
from asgi_obs.logs.temporary import TemporaryLevels, temporary_levels
from asgi_obs.ops.levels_file import LevelsFile

__all__ = ["Reach", "SharedLevels", "follow", "shared_levels"]

PERIOD: Final = 1.0
"""Seconds between two looks."""

Reach: TypeAlias = Literal["all", "this one", "none"]
"""Of the workers of the service."""


class SharedLevels:
    """The temporary levels of this process, and of those that follow the same directory.

    Args:
        levels: Those of this process.
        period: Seconds between two looks at the file.
    """

    _follower: Thread | None
    _lock: RLock

    def __init__(self, levels: TemporaryLevels, period: float = PERIOD) -> None:
        self.levels = levels
        self._period = period
        self._file: LevelsFile | None = None
        self._version: object = None
        self._left = Event()
        self._start_anew()

    def follow(self, directory: str) -> None:
        """Have what is changed here reach the other processes that follow, and what they change reach this one.

        May be called again: in each process, also behind a fork.

        Args:
            directory: One that they all can write, and nobody else.
        """
        with self._lock:
            self._file = LevelsFile(directory)
            if self._follower is None:
                self._left = Event()
                follower = Thread(target=self._run, args=(self._left,), name="asgi_obs.follow", daemon=True)
                try:
                    follower.start()
                    self._follower = follower
                except RuntimeError as error:  # the process is ending, or there is no room for another thread
                    report("SharedLevels.follow", error)

    def leave(self) -> None:
        """Follow no longer."""
        with self._lock:
            self._file = self._follower = self._version = None
            self._left.set()

    def put(self, name: str, level: int, until: float) -> Reach:
        """Give a logger a level for a time; see `TemporaryLevels.put`.

        Returns:
            Which workers have it, at once or within some seconds.

        Raises:
            RuntimeError: No thread can be started that would end it; nothing has been changed then.
        """
        with self._lock, ExitStack() as stack:
            is_shared = self._is_held(stack)
            if not self.levels.put(name, level, until):
                return "none"
            return "all" if is_shared and self._is_written() else "this one"

    def end(self, name: str) -> Reach:
        """Take back the temporary level of a logger, if it has one; returns in which workers."""
        with self._lock, ExitStack() as stack:
            is_shared = self._is_held(stack)
            self.levels.end(name)
            return "all" if is_shared and self._is_written() else "this one"

    def look(self) -> None:
        """Take over what another process has written, if that is new; never raises."""
        with self._lock:
            try:
                if self._file is not None and (version := self._file.version()) != self._version:
                    self._version = version
                    self._take_over(self._file.read())
            except Exception as error:  # noqa: BLE001 - fail open: levels stay as they are
                report("SharedLevels.look", error)

    def _take_over(self, wanted: dict[str, tuple[int, float]]) -> None:
        for name in self.levels.all.keys() - wanted.keys():
            self.levels.end(name)
        for name, (level, until) in wanted.items():
            self.levels.put(name, level, until, audited=False)  # the process that was asked does that

    def _is_held(self, stack: ExitStack) -> bool:
        """Keep other processes from changing the file, and take over what they have changed."""
        if self._file is None:
            return False
        try:
            stack.enter_context(self._file.held())
        except Exception as error:  # noqa: BLE001 - fail open: the levels of this process can be changed all the same
            report("SharedLevels.hold", error)
            return False
        self.look()
        return True

    def _is_written(self) -> bool:
        """Write the levels of this process to the file that is held."""
        assert self._file is not None  # noqa: S101 - for the type checker: it is held
        try:
            self._file.write(self.levels.all)
            self._version = self._file.version()
        except Exception as error:  # noqa: BLE001 - as above
            report("SharedLevels.write", error)
            return False
        return True

    def _run(self, left: Event) -> None:
        self.look()
        while not left.wait(self._period):
            self.look()

    def _start_anew(self) -> None:
        """What a forked child does too: another thread may have held the lock, and the follower is its parent's."""
        self._lock = RLock()
        self._follower = None


shared_levels: Final = SharedLevels(temporary_levels)
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows cannot fork
    os.register_at_fork(after_in_child=shared_levels._start_anew)


def follow(directory: str) -> None:
    """Share the temporary levels of this process with all others that follow the same directory.

    Args:
        directory: One that they all can write, and nobody else.
    """
    shared_levels.follow(directory)
