"""The warning for several workers that each count for themselves.

A worker is a child of the same parent that accepts connections at the same address. All of them look, and the one with
the lowest PID says it, once it has seen the others twice: workers start together, but not at the same instant. Looking
costs some milliseconds, more with thousands of open connections; it ends when it was said, or after `LOOKS` looks.
"""

from __future__ import annotations

import logging
from threading import Lock
from typing import Any, Final

import psutil

from asgi_obs.metrics.multiprocess.directory import VARIABLE, configured

__all__ = ["SiblingWatch", "warn_of_siblings"]

LOOKS: Final = 20

_log: Final = logging.getLogger("asgi_obs")


class SiblingWatch:
    """Looks for workers beside this one, and warns of them once, when it sees them for the second time in a row."""

    def __init__(self) -> None:
        self._looks = LOOKS
        self._seen = False
        self._lock = Lock()

    def look(self) -> None:
        """Warn if this is the first of several workers and the variable is not set; to be called now and then.

        Costs nothing when there is nothing more to look for.
        """
        with self._lock:
            if self._looks == 0 or configured() is not None:
                return
            self._looks -= 1
            siblings = _siblings()
            is_first_sight, self._seen = not self._seen, bool(siblings)
            if is_first_sight or not siblings:
                return
            self._looks = 0
        if min(siblings) > psutil.Process().pid:
            _log.warning(
                "%d workers serve one address, and each counts its own requests only: a scrape shows those of one of "
                "them. Set %s to a directory, the same for all.",
                len(siblings) + 1,
                VARIABLE,
            )


def _siblings() -> list[int]:
    """The PIDs of the other children of our parent that accept connections where we do."""
    try:
        process = psutil.Process()
        parent = process.parent()
        others = [] if parent is None else [child for child in parent.children() if child.pid != process.pid]
        ours = _addresses(process) if others else set()
    except psutil.Error:
        return []
    return [child.pid for child in others if ours & _addresses_if_known(child)]


def _addresses_if_known(process: Any) -> set[object]:
    try:
        return _addresses(process)
    except psutil.Error:  # it has ended, or is another user's
        return set()


def _addresses(process: Any) -> set[object]:
    """Where a process accepts connections: addresses and ports, paths of Unix sockets."""
    read = process.net_connections if hasattr(process, "net_connections") else process.connections
    tcp = {connection.laddr for connection in read(kind="tcp") if connection.status == psutil.CONN_LISTEN}
    return tcp | {connection.laddr for connection in read(kind="unix") if connection.laddr}


_watch: Final = SiblingWatch()

warn_of_siblings: Final = _watch.look
"""Call it now and then, from a thread."""
