"""`LineHandler`: the base of our handlers. Filters, counts and formats a record, and hands its line to a delivery.

Formatting happens in the thread that logs, outside of any lock, for the context of the record is there. All this
costs about a microsecond beyond formatting and writing.
"""

from __future__ import annotations

import contextvars
import logging
import sys
from bisect import bisect_right
from functools import lru_cache
from typing import Any, Final

from asgi_obs.errors import ConfigurationError, report
from asgi_obs.logs.delivery import Delivery, Direct, Sink
from asgi_obs.logs.levels import AUDIT, LEVEL_NAMES
from asgi_obs.logs.queued import Queued
from asgi_obs.metrics.catalogue import process_wide

__all__ = ["LineHandler"]

LOSS_LOGGER: Final = "asgi_obs.logs"
LOSS_MESSAGE: Final = "log records were lost"

_LEVELS: Final = sorted(LEVEL_NAMES)


class LineHandler(logging.Handler):
    """Writes the line of each record to a sink. A line that cannot be written is counted, and announced later.

    Records of the logger `audit` are held until they can be written. Nothing raises into the call that logs.

    Args:
        sink: Where lines are written.
        queue_size: 0 writes a line before the call that logs it returns. More leaves that to a thread, as long as
            no more lines than this wait; others are dropped.

    Raises:
        ConfigurationError: `queue_size` is negative, or no number.
    """

    def __init__(self, sink: Sink, *, queue_size: int = 0) -> None:
        if not isinstance(queue_size, int) or queue_size < 0:
            raise ConfigurationError("queue_size", queue_size, "a whole number from 0")
        super().__init__()
        self.is_queued = queue_size > 0
        self._component = f"{type(self).__name__}.emit"
        direct = Direct(sink, self._loss_line, self._component)
        self._delivery: Delivery = Queued(direct, queue_size) if self.is_queued else direct

    def handle(self, record: logging.LogRecord) -> bool:
        """Write one record, if no filter is against it; a filter may also replace it (Python 3.12 and later)."""
        if self.filters:
            verdict: Any = self.filter(record)
            if not verdict and record.name != AUDIT:
                return False
            record = verdict if isinstance(verdict, logging.LogRecord) else record
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; never raises."""
        try:
            self.count(record.levelno)
        except Exception:  # noqa: BLE001 - fail open: records that others made may have any level
            self.handleError(record)
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - fail open: what a formatter does is not the caller's fault
            self._delivery.lose()
            self.handleError(record)
        else:
            self._delivery.deliver(line, keep=record.name == AUDIT)

    def count(self, level: int) -> None:
        """Count a record that will be written, or lost."""
        _records_of(level).inc()

    def write(self, line: str, level: int = logging.INFO) -> None:
        """Write a line that was formatted already; never raises.

        Args:
            line: The line, without a line break at its end.
            level: The level it is counted under.
        """
        self.count(level)
        self._delivery.deliver(line)

    def flush(self) -> None:
        """Write all that waits, also in filters; returns after some seconds if the sink makes no progress."""
        self._flush_filters()
        self._delivery.flush()

    def drain(self) -> None:
        """Flush, and write every line before the call that logs it returns from now on: the process is ending."""
        self._flush_filters()
        self._delivery.drain()

    def close(self) -> None:
        """Flush, and let go of the sink. A line that is logged later is written all the same."""
        self._flush_filters()
        try:
            self._delivery.close()
        except Exception as error:  # noqa: BLE001 - fail open
            report(f"{type(self).__name__}.close", error)
        super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - as `logging` calls it
        """Report the exception being handled, in place of the traceback that `logging` would print."""
        error = sys.exc_info()[1]
        if error is not None:
            report(self._component, error)

    def _flush_filters(self) -> None:
        """Have filters that hold records back let them go."""
        for held_by in self.filters[:]:
            try:
                getattr(held_by, "flush", _nothing)()
            except Exception as error:  # noqa: BLE001 - fail open: filters of others
                report(f"{type(self).__name__}.flush", error)

    def _loss_line(self, lost: int) -> str:
        record = logging.LogRecord(LOSS_LOGGER, logging.WARNING, __file__, 1, LOSS_MESSAGE, (), None)
        record.lost = lost
        try:
            # Not in the context of the record that happens to be next: the loss is nobody's.
            return contextvars.Context().run(self.format, record)
        except Exception as error:  # noqa: BLE001 - fail open: the count matters more than the format
            report(self._component, error)
            return f"{LOSS_MESSAGE}: {lost}"


def _nothing() -> None:
    pass


@lru_cache(maxsize=128)
def _records_of(level: int) -> Any:
    """The counter of a level: that of the greatest of ours which is not above it."""
    position = max(0, bisect_right(_LEVELS, level) - 1)
    return process_wide("log_records_total").labels(LEVEL_NAMES[_LEVELS[position]])
