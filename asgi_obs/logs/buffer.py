"""`RequestBuffer`: the DEBUG lines of a request, written only if it ends in an error.

A filter of a handler. A record below the level that is configured for its logger is formatted at once, in the context
of the call, and its line is kept on the exchange. `RequestLoggingMiddleware` has the lines of an exchange that ends in
an error written ahead of its own; those of all others are gone with the exchange. A kept line costs its formatting.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from asgi_obs.errors import ConfigurationError, report
from asgi_obs.exchange import Exchange, current_exchange
from asgi_obs.logs.levels import AUDIT
from asgi_obs.logs.selected import is_selected

if TYPE_CHECKING:
    from asgi_obs.logs.handlers import LineHandler

__all__ = ["RequestBuffer", "write_kept_lines"]

MAX_KEPT: Final = 256 * 1024
"""Bytes of memory that the lines of one request may take, for each handler."""

LEFT_OUT: Final = "earlier lines of this request were left out"

_KEPT: Final = object()
"""What an exchange holds the lines under, by buffer."""


class RequestBuffer(logging.Filter):
    """Holds back the records of requests that are below the threshold; drops those from outside of requests.

    Records at the threshold and above it pass, and so do all of requests that are logged at DEBUG. So that there are
    records below it, the loggers have to let them through. Stand behind the handler's other filters: those behind do
    not see what is kept.

    Args:
        handler: The handler that this is a filter of.
        threshold: The least level that is written at once; or a callable that tells it from a logger's name.
        max_lines: How many lines of a request are kept, the newest.

    Raises:
        ConfigurationError: An option has a wrong value.
    """

    def __init__(self, handler: LineHandler, threshold: Callable[[str], int] | int, max_lines: int) -> None:
        super().__init__()
        if not callable(threshold) and not isinstance(threshold, int):
            raise ConfigurationError("threshold", threshold, "a level, or a callable that takes a logger's name")
        if isinstance(max_lines, bool) or not isinstance(max_lines, int) or max_lines < 1:
            raise ConfigurationError("max_lines", max_lines, "a whole number from 1")
        self._handler = handler
        self._threshold = threshold if callable(threshold) else lambda _: threshold
        self._max_lines = max_lines

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be written now; never raises."""
        try:
            if record.levelno >= self._threshold(record.name) or record.name == AUDIT:
                return True
            exchange = current_exchange()
            if is_selected(exchange):
                return True
            if exchange is not None and exchange.outcome is None:  # a background task's error is not the request's
                self._keep(exchange, self._handler.format(record), record.levelno)
        except Exception as error:  # noqa: BLE001 - fail open: a line too many is better than one too few
            report("RequestBuffer.filter", error)
            return True
        return False

    def _keep(self, exchange: Exchange, line: str, level: int) -> None:
        handler = self._handler
        handler.acquire()  # threads of the request log too; this lock is usable again after a fork
        try:
            buffers: dict[RequestBuffer, _Lines] | None = exchange.noted(_KEPT)
            if buffers is None:
                exchange.note(_KEPT, buffers := {})
            lines = buffers.get(self)
            if lines is None:
                lines = buffers[self] = _Lines()
            lines.add(line, level, self._max_lines)
        finally:
            handler.release()

    def _write(self, exchange: Exchange, lines: _Lines) -> None:
        handler = self._handler
        if lines.left_out:
            handler.write(handler.format(_left_out(exchange, lines.left_out)), logging.DEBUG)
        for line, level in list(lines.newest):
            handler.write(line, level)


class _Lines:
    """The newest lines of one exchange, for one handler."""

    __slots__ = ("left_out", "newest", "size")

    def __init__(self) -> None:
        self.newest: deque[tuple[str, int]] = deque()
        self.size = self.left_out = 0

    def add(self, line: str, level: int, max_lines: int) -> None:
        self.newest.append((line, level))
        self.size += sys.getsizeof(line)
        while len(self.newest) > max_lines or self.size > MAX_KEPT:
            self.size -= sys.getsizeof(self.newest.popleft()[0])
            self.left_out += 1


def write_kept_lines(exchange: Exchange) -> None:
    """Write what was kept of an exchange that has ended in an error; never raises."""
    try:
        buffers: dict[RequestBuffer, _Lines] | None = exchange.noted(_KEPT)
        if buffers is not None:
            exchange.note(_KEPT, None)
            for buffer, lines in list(buffers.items()):  # copies: a thread may still be logging
                buffer._write(exchange, lines)
    except Exception as error:  # noqa: BLE001 - fail open: the line of the request itself is still to come
        report("RequestBuffer.write", error)


def _left_out(exchange: Exchange, count: int) -> logging.LogRecord:
    # With the IDs, for an exchange may end outside of its own context.
    ids = {"correlation_id": exchange.correlation_id, "trace_id": exchange.trace_id, "span_id": exchange.span_id}
    fields = {"name": "asgi_obs.logs", "levelno": logging.DEBUG, "levelname": "DEBUG", "msg": LEFT_OUT}
    return logging.makeLogRecord({**fields, **ids, "left_out": count})
