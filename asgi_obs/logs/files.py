"""`FileHandler`: lines to a file that rotates at midnight UTC, also when several processes write it.

Each line is one write at the end of the file, so that lines of several processes never mix. Before each one the path
is looked up, to follow a file that was renamed by another process or by `logrotate`: costs a system call for a line.
With `logrotate`, use `create` or `nocreate` (a signal, SIGUSR1, makes it faster, but need not be) and
`delaycompress`. `copytruncate` loses the lines that are written between its copy and its cut.
"""

from __future__ import annotations

import datetime as dt
import errno
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from asgi_obs.errors import ConfigurationError, report
from asgi_obs.logs.descriptor import Descriptor
from asgi_obs.logs.handlers import LineHandler
from asgi_obs.logs.rotation import DAY, delete_old, exclusive, open_log, set_aside
from asgi_obs.logs.signals import REOPEN, call_on

__all__ = ["FileHandler", "LogFile"]

PATIENCE: Final = 1.0
"""Seconds for whoever has renamed the file to create the new one: `logrotate` does not expect us to."""

LOCKED_INTERVAL: Final = 0.1
FAILED_INTERVAL: Final = 60.0
"""Seconds after which a rotation is tried again: if another process was at it, and if it failed."""


class FileHandler(LineHandler):
    """Writes lines to a file, which is rotated at midnight UTC.

    Args:
        path: The file. What is no regular file (`/dev/stdout`, a pipe) is written, and never rotated.
        retention_days: How long rotated files are kept.
        mode: The permissions of files that are created, whatever the umask.
        fsync: Have each line on the disk before the next.
        queue_size: Lines that may wait for a background writer; 0 writes each one before the call returns.
        clock: Tells the time, in seconds since 1970.

    Raises:
        ConfigurationError: The file cannot be written, or an option is not valid.
    """

    def __init__(
        self,
        path: str,
        *,
        retention_days: int = 30,
        mode: int = 0o640,
        fsync: bool = False,
        queue_size: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(retention_days, int) or retention_days < 1:
            raise ConfigurationError("retention_days", retention_days, "a whole number from 1")
        if not isinstance(mode, int) or not (0 <= mode <= 0o777 and mode & 0o200):
            raise ConfigurationError("mode", mode, "permissions up to 0o777, with writing for the owner")
        self._file = LogFile(path, retention_days=retention_days, mode=mode, fsync=fsync, clock=clock)
        super().__init__(self._file, queue_size=queue_size)
        call_on(REOPEN, self.reopen)

    def rotate(self) -> bool:
        """Rotate the file now; returns whether it was: False if it is empty, or another process is at it."""
        rotated: list[bool] = []
        try:
            self._delivery.run(lambda: rotated.append(self._file.rotate()))
        except OSError as error:
            report("FileHandler.rotate", error)
        return any(rotated)

    def reopen(self) -> None:
        """Open the file anew, now if no line is being written, else before the next; safe in a signal handler."""
        self._file.reopen_soon()
        with suppress(OSError):  # the next line fails, and is counted
            self._delivery.run(self._file.follow_if_open, wait=False)


class LogFile:
    """The sink.

    Args:
        path: The file.
        retention_days: How long rotated files are kept.
        mode: The permissions of files that are created.
        fsync: Have each line on the disk before the next.
        clock: Tells the time.

    Raises:
        ConfigurationError: It cannot be written.
    """

    def __init__(self, path: str, *, retention_days: int, mode: int, fsync: bool, clock: Callable[[], float]) -> None:
        self.problems: list[tuple[str, Exception]] = []
        self._fd = -1
        self._path = os.path.abspath(path)  # noqa: PTH100 - without links resolved: they may be changed
        self._retention_days = retention_days
        self._mode = mode
        self._fsync = fsync
        self._clock = clock
        self._missing_since = 0.0
        self._look_again = 0.0
        try:
            self._open()
        except OSError as error:
            allowed = f"a file that can be written ({error.strerror or error})"
            raise ConfigurationError("path", path, allowed) from error

    def write(self, line: str) -> None:
        """Write a line.

        Raises:
            OSError: It cannot be written.
        """
        data = (line + "\n").encode("utf-8", "backslashreplace")
        self.follow()
        if self._is_regular:
            if self._clock() >= self._day_ends:
                self._rotate_daily()
            self._append(data)
        else:
            self._descriptor.write(data)

    def wait(self, seconds: float) -> None:
        """Wait until there is room in a pipe, or for so long."""
        self._descriptor.wait(seconds)

    def forget(self) -> None:
        """Leave the rest of a line to the process that this one was forked from, and open the file for this one."""
        self._descriptor.forget()
        self._stale = True

    def close(self) -> None:
        """Close the file; a line that comes yet opens it again."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __del__(self) -> None:
        # A line may have come after closing, and nobody closes it then.
        with suppress(AttributeError, OSError):
            self.close()

    def reopen_soon(self) -> None:
        """Have the file opened anew before the next line."""
        self._stale = True

    def follow(self) -> None:
        """Open what is at the path now, unless that is what is open.

        Raises:
            OSError: It cannot be opened, and what is open was deleted.
        """
        if self._fd < 0 or self._stale:
            self._reopen()
            return
        try:
            found = os.stat(self._path)  # noqa: PTH116 - for every line
        except FileNotFoundError:
            self._follow_missing()
        except OSError:
            pass  # what is open can be written all the same
        else:
            self._missing_since = 0.0
            if _identity(found) != self._identity:
                self._reopen()

    def follow_if_open(self) -> None:
        """As `follow`, unless the file was closed: then the next line opens it.

        Raises:
            OSError: As there.
        """
        if self._fd >= 0:
            self.follow()

    def rotate(self) -> bool:
        """Rotate the file now; returns whether it was.

        Raises:
            OSError: It cannot be renamed, or the new one not be created.
        """
        self.follow()
        return self._is_regular and self._rotate(is_due=lambda: True)

    def _open(self) -> None:
        fd = open_log(self._path, self._mode)
        self.close()
        self._fd = fd
        status = os.fstat(fd)
        self._identity = _identity(status)
        self._is_regular = stat.S_ISREG(status.st_mode)
        self._descriptor = Descriptor(fd, is_own=True)
        self._stale = False
        self._missing_since = 0.0
        # A file that has lines is of the day of its last one.
        self._day_ends = _end_of_day(status.st_mtime if status.st_size else self._clock())

    def _reopen(self) -> None:
        try:
            self._open()
        except OSError as error:
            if self._fd < 0 or os.fstat(self._fd).st_nlink == 0:
                raise
            self._stale = False
            self.problems.append(("FileHandler.reopen", error))

    def _follow_missing(self) -> None:
        now = time.monotonic()
        if os.fstat(self._fd).st_nlink == 0:
            self._reopen()  # deleted: nobody would ever read what is written to it
        elif not self._missing_since:
            self._missing_since = now
        elif now - self._missing_since >= PATIENCE:
            self._reopen()

    def _rotate_daily(self) -> None:
        now = time.monotonic()
        if now < self._look_again:
            return
        try:
            self._look_again = now + LOCKED_INTERVAL
            self._rotate(is_due=lambda: self._clock() >= self._day_ends)
        except OSError as error:
            self._look_again = now + FAILED_INTERVAL
            self.problems.append(("FileHandler.rotate", error))

    def _rotate(self, *, is_due: Callable[[], bool]) -> bool:
        """Rotate, unless another process is at it, or was, or there is nothing to set aside."""
        path = os.path.realpath(self._path)
        with exclusive(path, self._mode) as is_ours:
            if not is_ours:
                return False
            self.follow()
            now = self._clock()
            if not is_due() or not self._is_at(path):
                return False
            if os.fstat(self._fd).st_size == 0:
                self._day_ends = _end_of_day(now)
                return False
            set_aside(path, min(now, self._day_ends - 1))
            self._open()
            self._delete_old(path, now)
        return True

    def _delete_old(self, path: str, now: float) -> None:
        try:
            delete_old(path, dt.datetime.fromtimestamp(now, dt.timezone.utc).date(), self._retention_days)
        except (OSError, OverflowError) as error:  # more days than there are dates
            self.problems.append(("FileHandler.delete_old", error))

    def _is_at(self, path: str) -> bool:
        """Whether what is open is what is there, and not what somebody is just replacing."""
        try:
            return _identity(os.stat(path)) == self._identity  # noqa: PTH116
        except FileNotFoundError:
            return False

    def _append(self, data: bytes) -> None:
        written = os.write(self._fd, data)
        if written < len(data):
            self._take_back(written)
            raise OSError(errno.ENOSPC, "there was room for a part of the line only")
        if self._fsync:
            os.fsync(self._fd)

    def _take_back(self, written: int) -> None:
        """Remove the part of a line that was written, if nobody has written behind it."""
        end = os.lseek(self._fd, 0, os.SEEK_CUR)
        if os.fstat(self._fd).st_size == end:
            os.ftruncate(self._fd, end - written)


def _end_of_day(seconds: float) -> float:
    return (seconds // DAY + 1) * DAY


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_ino, status.st_dev
