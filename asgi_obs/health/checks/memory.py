"""Memory of this process.

It costs some 100 µs: a few files that the kernel makes up, no disk.
"""

from __future__ import annotations

import psutil

from asgi_obs.errors import ConfigurationError
from asgi_obs.health.checks.cgroup import memory_limits
from asgi_obs.health.checks.sizes import size_text
from asgi_obs.health.checks.thresholds import graded, require_ascending
from asgi_obs.health.result import CheckResult

__all__ = ["MemoryCheck"]


class MemoryCheck:
    """Compares the resident memory of this process with what it may use.

    Where several workers share a container, say what each may have: none of them sees what the others use.

    Args:
        limit_bytes: What it may use. Default: the limit of its control group, that of a container, or else the
            machine's memory; read anew each time, because it may change.
        degraded: The share of the limit, 0 to 1: above that the check is degraded.
        unhealthy: The same for unhealthy; no less than `degraded`.

    Raises:
        ConfigurationError: A value is not allowed.
    """

    local = True

    def __init__(self, *, limit_bytes: int | None = None, degraded: float = 0.85, unhealthy: float = 0.95) -> None:
        if limit_bytes is not None and not (type(limit_bytes) is int and limit_bytes > 0):
            raise ConfigurationError("limit_bytes", limit_bytes, "a number of bytes above 0, or None")
        require_ascending(1, degraded=degraded, unhealthy=unhealthy)
        self._limit_bytes = limit_bytes
        self._degraded = degraded
        self._unhealthy = unhealthy

    def __call__(self) -> CheckResult:
        """Check."""
        limit = self._limit_bytes or min([psutil.virtual_memory().total, *memory_limits()])
        used = psutil.Process().memory_info().rss
        return graded(
            f"{size_text(used)} of {size_text(limit)} used",
            degraded=used > self._degraded * limit,
            unhealthy=used > self._unhealthy * limit,
        )
