"""`Descriptor`: whole lines to a file descriptor whose reader may have stopped.

A pipe, socket or terminal that nobody reads would block a write for ever. Here it does so for a second at most; then
it has stalled, and lines are refused at once until there is room again. Of a line that found room for a part, the
rest is kept and written first, so that no line is torn. Costs nothing beyond the system call; nothing is changed on
the descriptor itself, which other processes may share.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
import weakref
from contextlib import suppress
from typing import Any, Final

__all__ = ["Descriptor"]

GRACE: Final = 1.0
"""Seconds that a write waits for a reader which has fallen behind."""

GRACE_INTERVAL: Final = 10.0
"""Seconds after a wait in vain in which no write waits."""

ATOMIC: Final = getattr(select, "PIPE_BUF", 512)
"""Bytes that fit whenever there is room at all: `pipe(7)`."""

# Linux: a write that does not block, whatever the descriptor's flags are; for pipes from version 6.4 on.
_NO_WAIT: Final = getattr(os, "RWF_NOWAIT", None) if hasattr(os, "pwritev") else None
_NOT_SUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM})


class Descriptor:
    """Writes to a file descriptor; for one thread at a time, but for `wait`.

    Args:
        fd: The descriptor; whoever opened it closes it.
        is_own: It was opened with `O_NONBLOCK`, and its flags are nobody else's.

    Raises:
        OSError: It is not open.
    """

    def __init__(self, fd: int, *, is_own: bool = False) -> None:
        mode = os.fstat(fd).st_mode
        terminal = None if is_own or not os.isatty(fd) else _open_terminal(fd)
        if terminal is not None:
            weakref.finalize(self, os.close, terminal)
        self._fd = fd if terminal is None else terminal
        self._stalls = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)
        self._may_block = self._stalls and not is_own and terminal is None
        self._no_wait = _NO_WAIT
        self._poll = _poll(self._fd) if self._stalls else None
        self._no_grace_until = 0.0
        self._rest: bytes | memoryview = b""

    def write(self, data: bytes) -> None:
        """Write a line, or as much of it as there is room for, and the rest at the next opportunity.

        Raises:
            BlockingIOError: Nobody reads; nothing of the line was written.
            OSError: It cannot be written.
        """
        if self._rest:
            self._finish()
        written = self._write(data)
        if written < len(data):
            self._rest = memoryview(data)[written:]
            with suppress(OSError):
                self._finish()

    def require_room(self) -> None:
        """Return when a write would not block.

        Raises:
            BlockingIOError: Nobody reads.
        """
        if self._poll is not None and not self._poll.poll(0) and not self._grant_grace():
            raise BlockingIOError(errno.EAGAIN, "nobody reads")

    def wait(self, seconds: float) -> bool:
        """Wait until there is room again, or for so long; returns whether there is."""
        if self._stalls:
            # With an object of its own, for another thread may be using the other one.
            return bool(_poll(self._fd).poll(seconds * 1000))
        time.sleep(seconds)
        return False

    def forget(self) -> None:
        """Leave the rest of a line to the process that this one was forked from."""
        self._rest = b""
        if self._poll is not None:
            # The copy of one that a thread was using when the process was forked counts as in use for ever.
            self._poll = _poll(self._fd)

    def _finish(self) -> None:
        while self._rest:
            self._rest = self._rest[self._write(self._rest) :]

    def _write(self, data: bytes | memoryview) -> int:
        try:
            return self._put(data)
        except BlockingIOError:
            if not self._grant_grace():
                raise
            return self._put(data)

    def _put(self, data: bytes | memoryview) -> int:
        if not self._may_block:
            return os.write(self._fd, data)
        if self._no_wait is not None:
            try:
                return os.pwritev(self._fd, (data,), -1, self._no_wait)
            except OSError as error:
                if error.errno not in _NOT_SUPPORTED:
                    raise
                self._no_wait = None
        if self._poll is not None and not self._poll.poll(0):
            raise BlockingIOError(errno.EAGAIN, "nobody reads")
        return os.write(self._fd, data[:ATOMIC])

    def _grant_grace(self) -> bool:
        now = time.monotonic()
        if now < self._no_grace_until:
            return False
        if self._stalls and self.wait(GRACE):
            return True
        self._no_grace_until = now + GRACE + GRACE_INTERVAL
        return False


def _poll(fd: int) -> Any:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return poll


def _open_terminal(fd: int) -> int | None:
    """A descriptor of our own for a terminal: there, that there is some room does not mean that there is enough."""
    try:
        return os.open(os.ttyname(fd), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # another user's
        return None
