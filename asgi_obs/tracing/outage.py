"""What is said of a collector that is down: one warning when that begins, one line when it is over.

There is one warning in `REPORT_INTERVAL`, so that a collector that comes and goes does not fill the log: of an outage
that was not announced the end is not announced either, and what it has cost is told by the next line.

The SDK's exporters log every attempt that fails. What they log in the course of an export of ours is taken for its
reason and kept out of the log; what they log for others is left alone. A reason is redacted: exporters quote URLs.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from asgi_obs.errors import REPORT_INTERVAL
from asgi_obs.redaction.mask import MASK
from asgi_obs.redaction.redactor import redactor_of

__all__ = ["Outages", "exporters_warnings"]

_EXPORTERS: Final = "opentelemetry.exporter."
_MAX_LENGTH: Final = 500

_QUERY: Final = re.compile(r"\?[^\s'\")\]>]+")
"""Of a URL. All of it may be secret: which parameter is, only the collector knows."""

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
            warnings.append(record.getMessage())
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
        self._announced = False
        self._reason = ""
        self._said_lost = 0
        self._cleared_lost = 0
        self._said_waiting = -1
        self._warned_at = -REPORT_INTERVAL
        self._at_last = False

    def failed(self, reason: str, lost: int) -> None:
        """An export has failed; so many spans were lost until now, whatever for."""
        self._reason = reason
        if not self._announced and self._may_warn():
            self._announced = True
            said = "Spans cannot be sent to %s: %s; %d were lost"
            _log.warning(said, self._destination, _shown(reason), self._unsaid(lost))

    def stalled(self, seconds: float, waiting: int, *, last: bool) -> None:
        """A flush was in vain.

        Args:
            seconds: How long it has waited.
            waiting: How many spans do.
            last: Whether the process may say nothing after this. It is said in any case then, once.
        """
        is_new = last and not self._at_last and waiting != self._said_waiting
        self._at_last |= last
        if is_new or (not self._announced and self._may_warn()):
            self._announced, self._said_waiting, self._warned_at = True, waiting, time.monotonic()
            said = "Spans cannot be sent to %s: no answer within %g s, and %d wait"
            _log.warning(said, self._destination, round(seconds, 2), waiting)

    def succeeded(self, lost: int) -> None:
        """An export was successful; so many spans were lost until now, whatever for."""
        if self._announced:
            self._announced, self._reason, self._said_waiting = False, "", -1
            cost, self._said_lost, self._cleared_lost = lost - self._cleared_lost, lost, lost
            _log.info("Spans can be sent to %s again; %d were lost", self._destination, cost)
        elif lost > self._said_lost and self._may_warn():
            self.tell(lost)

    def tell(self, lost: int) -> None:
        """Say what was lost until now, as far as that was not said."""
        unsaid = self._unsaid(lost)
        if unsaid:
            self._cleared_lost = lost
            full = f"more than {self._queue_size} waited (OTEL_BSP_MAX_QUEUE_SIZE)"
            reason, self._reason = _shown(self._reason) or full, ""
            _log.warning("%d spans were lost on the way to %s: %s", unsaid, self._destination, reason)

    def ended(self, given_up: int, lost: int) -> None:
        """The process ends, and so many spans are given up with it; so many were lost, these included."""
        self.tell(lost - given_up)
        if self._unsaid(lost):
            _log.warning("%d spans were lost at exit: %s has not answered in time", given_up, self._destination)

    def _may_warn(self) -> bool:
        now = time.monotonic()
        if now - self._warned_at < REPORT_INTERVAL:
            return False
        self._warned_at = now
        return True

    def _unsaid(self, lost: int) -> int:
        unsaid, self._said_lost = lost - self._said_lost, lost
        return unsaid


def _shown(reason: str) -> str:
    return redactor_of().redact_text(_QUERY.sub(f"?{MASK}", reason))[:_MAX_LENGTH].rstrip(".")
