"""Where the spans are that have ended: every one that was sampled is exported, lost, or on its way.

Costs a lock per span.
"""

from __future__ import annotations

import threading
from typing import Final

from asgi_obs.metrics.catalogue import process_wide

__all__ = ["DROPPED", "SpanLedger"]

DROPPED: Final = process_wide("trace_spans_dropped_total")


class SpanLedger:
    """Where the spans are that have ended: how many wait, how many are being exported, how many are lost.

    Args:
        size: How many may wait.

    Attributes:
        exported: How many have got through.
        lost: How many have not.
        settled: Whether what was outstanding is given up.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.start_anew()

    def start_anew(self) -> None:
        """Forget all: in a process that was forked these spans are up to the parent."""
        self._lock = threading.RLock()  # a garbage collector or a signal may end a span in the middle of anything
        self._waiting = 0
        self._exporting = 0
        self._closed = False
        self.settled = False
        self.exported = 0
        self.lost = 0

    @property
    def outstanding(self) -> int:
        """Spans that wait or are being exported."""
        return self._waiting + self._exporting

    def admit(self) -> bool:
        """Have one more wait; it is lost if there is no room."""
        with self._lock:
            if self._waiting < self.size and not self._closed:
                self._waiting += 1
                return True
        self._lose(1)
        return False

    def take(self, count: int) -> bool:
        """Begin to export so many of those that wait; False if they are given up already."""
        with self._lock:
            if self.settled:
                return False
            self._waiting -= count
            self._exporting += count
        return True

    def finish(self, count: int, *, exported: bool) -> None:
        """So many that were taken have got through, or are lost."""
        with self._lock:
            if self.settled:
                return
            self._exporting -= count
            if exported:
                self.exported += count
        if not exported:
            self._lose(count)

    def close(self) -> None:
        """No span may wait from now on."""
        with self._lock:
            self._closed = True

    def settle(self) -> int:
        """Give up what is outstanding; returns how many that were."""
        with self._lock:
            self.settled = True
            given_up, self._waiting, self._exporting = self.outstanding, 0, 0
        self._lose(given_up)
        return given_up

    def _lose(self, count: int) -> None:
        with self._lock:
            self.lost += count
        DROPPED.inc(count)
