"""What a fork must leave usable: locks that another thread of the parent held, and what its threads were about.

It costs nothing until a process forks.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import Final, Protocol
from weakref import WeakSet

__all__ = ["ForkSafeLock", "Renewable", "renew_in_children"]


class Renewable(Protocol):
    """Something that begins anew in a process that was forked."""

    def after_fork(self) -> None:
        """Begin anew: the threads of the parent are not here."""


_renewables: Final[WeakSet[Renewable]] = WeakSet()


def renew_in_children(renewable: Renewable) -> None:
    """Have `after_fork` called in processes that are forked, as long as there is this object."""
    _renewables.add(renewable)


class ForkSafeLock:
    """A lock for some instructions of our own, never for code of others; free in a process that was forked."""

    def __init__(self) -> None:
        self.after_fork()
        renew_in_children(self)

    def after_fork(self) -> None:
        """Be free: who held the lock is in the parent."""
        self._lock = Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _after_fork() -> None:
    for renewable in list(_renewables):
        renewable.after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows cannot fork
    os.register_at_fork(after_in_child=_after_fork)
