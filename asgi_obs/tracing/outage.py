"""What is said of a collector that is down: one warning when that begins, one line when it is over.

The SDK's exporters log every attempt that fails. What they log in the course of an export of ours is taken for its
reason and kept out of the log; what they log for others is left alone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from asgi_obs.errors import REPORT_INTERVAL

__all__ = ["Outages", "exporters_warnings"]

_EXPORTERS: Final = "opentelemetry.exporter."
_MAX_LENGTH: Final = 500

_log = logging.getLogger("asgi_obs")


class _OfThisThread(logging.Filter):
    """Takes the warnings of a thread that exports, instead of the log."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        warnings: list[str] | None = getattr(self.thread, "warnings", None)
        if warnings is None or record.levelno < logging.WARNING:
            return True
        with suppress(Exception):  # its arguments may not fit
            warnings.append(record.getMessage()[:_MAX_LENGTH])
        return False


_filter: Final = _OfThisThread()


@contextmanager
def exporters_warnings() -> Iterator[list[str]]:
    """What the SDK's exporters warn of in this thread, inside of the block; it does not get to the log."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.startswith(_EXPORTERS) and isinstance(logger, logging.Logger) and _filter not in logger.filters:
            logger.filters.insert(0, _filter)  # the SDK has a filter of its own, which drops repetitions
    warnings: list[str] = []
    _filter.thread.warnings = warnings
    try:
        yield warnings
    finally:
        del _filter.thread.warnings


class Outages:
    """Says when spans begin to get lost, and when they no longer do.

    Args:
        destination: Where the spans go.
        queue_size: How many may wait.
    """

    def __init__(self, destination: str, queue_size: int) -> None:
        self._destination = destination
        self._queue_size = queue_size
        self.start_anew()

    def start_anew(self) -> None:
        """Forget what was said: in a process that was forked it was the parent."""
        self._down = False
        self._said_lost = 0
        self._full_said_at = -REPORT_INTERVAL

    def failed(self, reason: str) -> None:
        """An export has failed, or takes too long."""
        if not self._down:
            self._down = True
            _log.warning("Spans cannot be sent to %s: %s", self._destination, reason)

    def succeeded(self, lost: int) -> None:
        """An export was successful; so many spans were lost until now, whatever for."""
        if self._down:
            self._down = False
            _log.info("Spans can be sent to %s again; %d were lost", self._destination, self._unsaid(lost))
        elif lost > self._said_lost and time.monotonic() - self._full_said_at >= REPORT_INTERVAL:
            self._full_said_at = time.monotonic()
            _log.warning(
                "%d spans were lost: more than %d waited for %s (OTEL_BSP_MAX_QUEUE_SIZE)",
                self._unsaid(lost),
                self._queue_size,
                self._destination,
            )

    def ended(self, lost: int) -> None:
        """The process ends, and so many spans are lost with it."""
        if lost:
            _log.warning("%d spans were lost at exit: %s has not answered in time", lost, self._destination)

    def _unsaid(self, lost: int) -> int:
        unsaid, self._said_lost = lost - self._said_lost, lost
        return unsaid
