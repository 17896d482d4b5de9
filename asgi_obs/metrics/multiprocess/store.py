"""`Store`: where the values of this process are kept, from its first one on."""

from __future__ import annotations

import os
import secrets
from array import array
from collections import deque
from pathlib import Path
from threading import Lock
from typing import Final
from weakref import WeakSet

from asgi_obs.metrics.multiprocess.directory import PATIENCE
from asgi_obs.metrics.multiprocess.file import Cell, MetricFile
from asgi_obs.metrics.multiprocess.fold import Snapshot, fold, take_snapshot

__all__ = ["Store"]

MAX_PROBLEMS: Final = 10

_stores: Final[WeakSet[Store]] = WeakSet()


class Store:
    """The file of the process that asks, made when it asks first; behind a fork it is another one.

    Args:
        path: The directory.

    Attributes:
        path: The directory.
        adding: The lock of values that need one.
        problems: What went wrong and was not told to anybody yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: deque[Exception] = deque(maxlen=MAX_PROBLEMS)
        self.adding = Lock()
        self._file: MetricFile | None = None
        self._lock = Lock()
        _stores.add(self)

    def start(self) -> MetricFile:
        """Make the file, and fold those of processes that have ended; returns it.

        Raises:
            OSError: It cannot be made.
        """
        # Not the PID alone: it may be used again before the file is folded, or in another container.
        self._file = file = MetricFile(self.path / f"{os.getpid()}-{secrets.token_hex(8)}.metrics")
        self.problems.extend(fold(self.path))
        return file

    def cell(self, key: str) -> Cell:
        """Where the value of a key is.

        If the directory is full or gone, it is in memory that nobody else sees: whoever counts can do nothing about
        it, and could not even be told, for to log is to count.
        """
        with self._lock:
            try:
                return (self._file or self.start()).cell(key)
            except OSError as error:
                self.problems.append(error)
                return memoryview(array("d", (0.0, 0.0))), 0

    def take_snapshot(self) -> Snapshot:
        """What all processes have counted; its problems are all that were not told yet.

        Raises:
            TimeoutError: Other processes kept us from reading.
            OSError: A file cannot be read.
        """
        found = take_snapshot(self.path, PATIENCE)
        while self.problems:
            found.problems.append(self.problems.popleft())
        return found

    def forget(self) -> None:
        """Leave the file to the process that this one was forked from; the next value starts another."""
        self.adding, self._lock = Lock(), Lock()
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _after_fork() -> None:
    for store in list(_stores):
        store.forget()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows cannot fork
    os.register_at_fork(after_in_child=_after_fork)
