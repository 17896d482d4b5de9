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


class MetricFile:
    """Writes a file that nobody else writes; for one thread at a time.

    Args:
        path: The file; there is none yet.

    Attributes:
        path: The file.

    Raises:
        OSError: It cannot be created, or there is no room.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._maps: list[tuple[mmap.mmap, memoryview[float]]] = []
        self._cells: dict[str, Cell] = {}
        self._size = 0
        self._used = HEADER
        try:
            os.fchmod(self._fd, 0o644)  # whatever the umask: workers read what their master wrote as root
            lock(self._fd)
            self._grow(SIZE)
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

    def close(self) -> None:
        """Give up the file and its lock; using a cell is a ValueError from now on."""
        for memory, cells in self._maps:
            cells.release()
            memory.close()
        os.close(self._fd)

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
