"""The file of a process: one for all its metrics, mapped into memory, so that what was counted survives any death.

The format is that of `prometheus_client.mmap_dict`, but its class is not used: with it there is a look-up and a lock
for each write, a file for each type of metric, a SIGBUS when the disk is full, and no end to reading some damaged
files. Here to move a value is to move a number in an array.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import Final, TypeAlias

from asgi_obs.metrics.multiprocess.directory import lock

__all__ = ["Cell", "MetricFile", "read_entries"]

SIZE: Final = 1 << 16
"""Bytes at first; doubled when they do not suffice. Some 400 series fit."""

HEADER: Final = 8
"""Bytes ahead of the first entry: how many of the file are used."""

_INT: Final = Struct("i")
_ENTRY: Final = Struct("dd")

Cell: TypeAlias = "tuple[memoryview[float], int]"
"""Where a value is: an array of doubles, and the index in it. The one behind it is the time it was set."""


_ZERO: Final[Cell] = memoryview(bytes(8)).cast("d"), 0


class MetricFile:
    """Writes a file that nobody else writes; for one thread at a time.

    Args:
        path: The file; there is none yet.
        size: Bytes there is room for at first.

    Attributes:
        path: The file.

    Raises:
        OSError: It cannot be created, or there is no room.
    """

    def __init__(self, path: Path, size: int = SIZE) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._maps: list[tuple[mmap.mmap, memoryview[float]]] = []
        self._cells: dict[str, Cell] = {}
        self._size = 0
        self._used = HEADER
        try:
            os.fchmod(self._fd, 0o644)  # whatever the umask: workers read what their master wrote as root
            lock(self._fd)
            self._grow(size)
        except OSError:
            self.close()
            path.unlink()
            raise

    def cell(self, key: str) -> Cell:
        """Where the value of a key is; if it is new, 0.0.

        Raises:
            OSError: There is no room.
        """
        if key not in self._cells:
            self._cells[key] = self._add(key.encode())
        return self._cells[key]

    def value(self, key: str) -> float:
        """The value of a key; 0.0 if there is none."""
        cells, index = self._cells.get(key, _ZERO)
        return cells[index]

    def close(self) -> None:
        """Give up the file and its lock; using a cell is a ValueError from now on."""
        self._release()
        for memory, _ in self._maps:
            memory.close()
        os.close(self._fd)

    def is_there(self) -> bool:
        """Whether nobody has removed, replaced or renamed the file.

        Raises:
            OSError: The directory cannot be searched.
        """
        try:
            return os.path.samestat(os.fstat(self._fd), os.lstat(self.path))
        except FileNotFoundError:
            return False

    def copy(self, path: Path) -> MetricFile:
        """Another file with all that is in this one; using a cell of this one is a ValueError from now on.

        Args:
            path: The other file; there is none yet.

        Raises:
            OSError: It cannot be created, or there is no room; this one stays in use.
        """
        file = MetricFile(path, self._size)
        memory, cells = file._maps[0]
        file._cells = {key: (cells, index) for key, (_, index) in self._cells.items()}
        file._used = self._used
        self._release()  # before it is read: nothing is counted that is not copied
        memory[HEADER : self._used] = self._maps[-1][0][HEADER : self._used]
        memory[: _INT.size] = _INT.pack(self._used)  # last, as in `_add`
        return file

    def _release(self) -> None:
        for _, cells in self._maps:
            cells.release()

    def _add(self, key: bytes) -> Cell:
        start = self._used + _INT.size + _padded(len(key))
        end = start + _ENTRY.size
        if end > self._size:
            self._grow(max(2 * self._size, 2 * end))
        memory, cells = self._maps[-1]
        memory[self._used : start] = _INT.pack(len(key)) + key.ljust(_padded(len(key)))
        self._used = end
        memory[: _INT.size] = _INT.pack(end)  # last: readers do not wait
        return cells, start // 8

    def _grow(self, size: int) -> None:
        """Map the file anew. The cells of smaller maps stay in use, for it is the same memory."""
        size -= size % mmap.PAGESIZE
        _allocate(self._fd, size)
        memory = mmap.mmap(self._fd, size)
        memory[: _INT.size] = _INT.pack(self._used)
        self._maps.append((memory, memoryview(memory).cast("d")))
        self._size = size


def _padded(length: int) -> int:
    """The length of a key so that the doubles behind it are aligned; there is always some padding."""
    return length + 8 - (length + _INT.size) % 8


def _allocate(fd: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
    else:  # pragma: no cover - macOS
        os.ftruncate(fd, size)


def read_entries(path: Path) -> Iterator[tuple[str, float, float]]:
    """Key, value and time of all that is in a file; read by this call, taken apart bit by bit.

    Raises:
        OSError: It cannot be read.
        ValueError: It is damaged; also while it is taken apart.
    """
    data = path.read_bytes()
    used = _INT.unpack_from(data)[0] if len(data) >= HEADER else HEADER
    if used > len(data) > 0:
        raise ValueError(f"{path.name} was truncated")
    # Nothing but zeros is what a process leaves that was killed as it made the file.
    if used % 8 or (used < HEADER and any(data)):
        raise ValueError(f"{path.name} is damaged")
    return _entries(path.name, data, used)


def _entries(name: str, data: bytes, used: int) -> Iterator[tuple[str, float, float]]:
    position = HEADER
    while position < used:
        (length,) = _INT.unpack_from(data, position)
        position += _INT.size
        end = position + _padded(length)
        if length < 0 or end + _ENTRY.size > used:
            raise ValueError(f"{name} is damaged")
        yield data[position : position + length].decode(), *_ENTRY.unpack_from(data, end)
        position = end + _ENTRY.size
