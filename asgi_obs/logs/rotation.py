"""Rotation of a log file that several processes write: one renames it, the others notice.

The processes agree by a lock on a file beside the log (`<path>.lock`, which stays), and take it only to rotate.
Nobody waits for it: one that finds it taken goes on writing and looks again.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows, where one process writes a file
    fcntl = None  # type: ignore[assignment]

__all__ = ["DAY", "create", "delete_old", "exclusive", "open_log", "set_aside"]

DAY: Final = 86_400
"""Seconds; the days are those of UTC."""

ATTEMPTS: Final = 10
"""To open a file that others create and rename at the same time."""

# Not to block: a pipe without a reader must not keep the process from starting, nor one whose reader has stopped.
_FLAGS: Final = (
    os.O_WRONLY | os.O_APPEND | sum(getattr(os, f"O_{name}", 0) for name in ("CLOEXEC", "NOCTTY", "NONBLOCK"))
)


def open_log(path: str, mode: int) -> int:
    """Open a file to write at its end; one that is missing is created.

    Args:
        path: The file.
        mode: The permissions of a file that is created; those of one that is there stay.

    Raises:
        OSError: It cannot be opened for writing.
    """
    for _ in range(ATTEMPTS):
        try:
            return os.open(path, _FLAGS)
        except FileNotFoundError:
            with suppress(FileExistsError):  # somebody else was faster
                return create(os.path.realpath(path), mode)
    return os.open(path, _FLAGS)


def create(path: str, mode: int) -> int:
    """Create a file with exactly these permissions, whatever the umask.

    Raises:
        FileExistsError: It is there already.
        OSError: It cannot be created.
    """
    fd = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, mode)
    if hasattr(os, "fchmod"):  # pragma: no branch - Windows has no such permissions
        os.fchmod(fd, mode)
    return fd


@contextmanager
def exclusive(path: str, mode: int) -> Iterator[bool]:
    """Hold the lock of a log file; gives whether it is held, for nobody waits for it."""
    fd = open_log(f"{path}.lock", mode)
    try:
        yield _try_lock(fd)
    finally:
        # Closing is not enough: a process that was forked meanwhile has the same lock open.
        _unlock(fd)
        os.close(fd)


def set_aside(path: str, before: float) -> None:
    """Rename a log file after the day of its last line; never onto another file.

    Args:
        path: The file.
        before: The end of the day, in seconds, that it has lines of at most: one may have come a moment later.

    Raises:
        OSError: It cannot be renamed.
    """
    last = min(Path(path).stat().st_mtime, before)
    name = f"{path}.{time.strftime('%Y-%m-%d', time.gmtime(last))}"
    target, number = name, 0
    while os.path.lexists(target):
        number += 1
        target = f"{name}.{number}"
    Path(path).rename(target)


def delete_old(path: str, today: dt.date, days: int) -> None:
    """Delete what was set aside more than so many days ago; nothing but what `set_aside` has named."""
    log = Path(path)
    rotated = re.compile(re.escape(log.name) + r"\.(\d{4}-\d{2}-\d{2})(?:\.\d+)?")
    for file in log.parent.iterdir():
        found = rotated.fullmatch(file.name)
        with suppress(ValueError, FileNotFoundError):  # no date; deleted by somebody else
            if found and dt.date.fromisoformat(found[1]) < today - dt.timedelta(days=days):
                file.unlink()


def _try_lock(fd: int) -> bool:
    if fcntl is None:  # pragma: no cover - Windows
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(fd: int) -> None:
    if fcntl is not None:  # pragma: no branch - Windows
        fcntl.flock(fd, fcntl.LOCK_UN)
