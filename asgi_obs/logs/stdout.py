"""`StdoutHandler`: lines to standard output.

Whatever `sys.stdout` is when a line is written: a test or `redirect_stdout` may have replaced it. Where it has a file
descriptor, the line goes there in one piece, behind what `print` has left in the buffer. A reader who has stopped
costs the application a second, then lines. Costs two system calls for a line to a pipe, else one.
"""

from __future__ import annotations

import io
import re
import select
import sys
import time
from typing import Final, TextIO

from asgi_obs.logs.descriptor import Descriptor
from asgi_obs.logs.handlers import LineHandler

__all__ = ["Stdout", "StdoutHandler"]

_NON_ASCII: Final = re.compile(r"[^\x00-\x7f]")
_HAS_POLL: Final = hasattr(select, "poll")


class StdoutHandler(LineHandler):
    """Writes lines to whatever `sys.stdout` is at that moment.

    Args:
        queue_size: Lines that may wait for a background writer; 0 writes each one before the call returns.

    Raises:
        ConfigurationError: `queue_size` is negative, or no number.
    """

    def __init__(self, queue_size: int = 0) -> None:
        super().__init__(Stdout(), queue_size=queue_size)


class Stdout:
    """The sink."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, Exception]] = []
        self._stream: TextIO | None = None
        self._fd = -1
        self._descriptor: Descriptor | None = None

    def write(self, line: str) -> None:
        """Write a line.

        Raises:
            BlockingIOError: Nobody reads; nothing of the line was written.
            OSError: It cannot be written, or there is no standard output.
            ValueError: Standard output was closed.
        """
        stream: TextIO | None = sys.stdout
        if stream is None:  # `pythonw`, and daemons that have closed it
            raise OSError("there is no standard output")
        if stream is not self._stream or (self._descriptor is not None and stream.fileno() != self._fd):
            self._attach(stream)
        if self._descriptor is None:
            _write_text(stream, line + "\n")
            return
        self._descriptor.require_room()
        stream.flush()
        # Some formatters let lone surrogates through.
        self._descriptor.write((line + "\n").encode("utf-8", "backslashreplace"))

    def wait(self, seconds: float) -> None:
        """Wait until there is room, or for so long."""
        if self._descriptor is None:
            time.sleep(seconds)
        else:
            self._descriptor.wait(seconds)

    def forget(self) -> None:
        """Leave the rest of a line to the process that this one was forked from."""
        if self._descriptor is not None:
            self._descriptor.forget()

    def close(self) -> None:
        """Nothing: standard output belongs to everybody."""

    def _attach(self, stream: TextIO) -> None:
        self._fd = _fd_of(stream)
        self._descriptor = None if self._fd < 0 else Descriptor(self._fd)
        self._stream = stream


def _fd_of(stream: TextIO) -> int:
    """The descriptor of a stream; -1 if it has none, or does more with a text than write it there."""
    if not _HAS_POLL or not isinstance(stream, io.TextIOWrapper) or type(stream).write is not io.TextIOWrapper.write:
        return -1
    try:
        return stream.fileno()
    except io.UnsupportedOperation:
        return -1


def _write_text(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:
        stream.write(_NON_ASCII.sub(_json_escaped, text))
    stream.flush()


def _json_escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
