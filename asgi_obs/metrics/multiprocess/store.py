"""`Store`: where the values of this process are kept, from its first one on."""

from __future__ import annotations

import errno
import os
import secrets
from array import array
from collections import deque
from pathlib import Path
from threading import Lock
from typing import Final
from weakref import WeakSet

from asgi_obs.errors import report
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
        self._file = file = MetricFile(self._new_path())
        self.problems.extend(fold(self.path))
        return file

    def _new_path(self) -> Path:
        self.path.mkdir(exist_ok=True)
        # Not the PID alone: it may be used again before the file is folded, or in another container.
        return self.path / f"{os.getpid()}-{secrets.token_hex(8)}.metrics"

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

    def value(self, key: str) -> float:
        """The value of a key in the file of this process; 0.0 if there is none."""
        with self._lock:
            return self._file.value(key) if self._file else 0.0

    def look_after(self) -> None:
        """Make the file and the directory again if somebody has removed them, and report it; costs 4 µs if not.

        What this process has counted is in the new file. To be called now and then, from a thread; does not raise.
        """
        try:
            removed = self._restore()
        except OSError as error:
            report("Store.look_after", error)
            return
        if removed is not None:
            removed.close()
            path = str(removed.path)
            report("Store.look_after", FileNotFoundError(errno.ENOENT, "Somebody removed it; it is made again", path))

    def _restore(self) -> MetricFile | None:
        """Returns the file that was missing and is no longer used; None if there is nothing to do."""
        with self.adding, self._lock:
            file = self._file
            if file is None or file.is_there():
                return None
            self._file = file.copy(self._new_path())
            return file

    def take_snapshot(self) -> Snapshot:
        """What all processes have counted; its problems are all that were not told yet.

        Of a directory that is gone and cannot be made again, it is empty: then each process knows its own values only.

        Raises:
            TimeoutError: Other processes kept us from reading.
            OSError: A file cannot be read.
        """
        self.look_after()
        found = take_snapshot(self.path, PATIENCE) if self.path.is_dir() else Snapshot()
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
