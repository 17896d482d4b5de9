"""`DatabaseUse`: what one exchange asks of databases. Whoever sees its statements adds them here."""

from __future__ import annotations

from threading import Lock
from typing import Final

__all__ = ["DatabaseUse"]

MAX_FINGERPRINTS: Final = 1_000
"""Different statements of one exchange that are told apart."""


class DatabaseUse:
    """The statements of one exchange; those of several threads at once are counted right.

    Attributes:
        queries: How many there were.
        seconds: How long they took, one after another, in seconds: more than the request if some ran at the same time.
    """

    __slots__ = ("_lock", "_repeats", "queries", "seconds")

    def __init__(self) -> None:
        self.queries = 0
        self.seconds = 0.0
        self._repeats: dict[str, int] = {}
        self._lock = Lock()

    def add(self, fingerprint: str | None, seconds: float) -> int:
        """Count a statement that has ended.

        Args:
            fingerprint: What statements that differ in their values only have in common; None for one that repeats
                nothing.
            seconds: How long it took.

        Returns:
            How many times this exchange has executed it by now; 0 if it repeats nothing, or if there are too many
            different ones to tell.
        """
        with self._lock:
            self.queries += 1
            self.seconds += seconds
            if fingerprint is None:
                return 0
            times = self._repeats.get(fingerprint, 0) + 1
            if times == 1 and len(self._repeats) >= MAX_FINGERPRINTS:
                return 0
            self._repeats[fingerprint] = times
            return times
