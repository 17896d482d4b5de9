"""Room on a disk.

It costs one system call, in a thread: a file system of the network may hang.
"""

from __future__ import annotations

import os
import shutil

from asgi_obs.errors import ConfigurationError
from asgi_obs.health.checks.sizes import size_text
from asgi_obs.health.checks.thresholds import graded, require_ascending
from asgi_obs.health.result import CheckResult

__all__ = ["DiskCheck"]


class DiskCheck:
    """Looks how much of a disk is free for those who are not root.

    Args:
        path: A file or directory on it.
        degraded: The share of the disk, 0 to 1: with less than that free the check is degraded.
        unhealthy: The same for unhealthy; no more than `degraded`.

    Raises:
        ConfigurationError: A value is not allowed.
    """

    def __init__(self, path: str | os.PathLike[str] = "/", *, degraded: float = 0.1, unhealthy: float = 0.05) -> None:
        if not isinstance(path, str | os.PathLike) or not os.fspath(path):
            raise ConfigurationError("path", path, "a path")
        require_ascending(1, unhealthy=unhealthy, degraded=degraded)
        self._path = path
        self._degraded = degraded
        self._unhealthy = unhealthy

    def __call__(self) -> CheckResult:
        """Check; raises OSError when there is no such path."""
        disk = shutil.disk_usage(self._path)
        return graded(
            f"{size_text(disk.free)} of {size_text(disk.total)} free",
            degraded=disk.free < self._degraded * disk.total,
            unhealthy=disk.free < self._unhealthy * disk.total,
        )
