"""How much memory the control groups of this process allow: what a container may use before it is killed.

Both versions are read: https://docs.kernel.org/admin-guide/cgroup-v2.html and `cgroup-v1/memory.html` beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

__all__ = ["memory_limits"]


def memory_limits(root: Path = Path("/")) -> list[int]:
    """Every limit that counts, in bytes: of the group and of those around it, as far as they can be seen.

    There are none outside Linux. Version 1 says 8 EiB for no limit.

    Args:
        root: Where `proc` and `sys` are.
    """
    limits = []
    for path in _files(root):
        # In a container the path is often the host's: of its directories only the outermost can be seen.
        with suppress(OSError, ValueError):  # no such file, or `max` for no limit
            limits.append(int(path.read_text()))
    return limits


def _files(root: Path) -> Iterator[Path]:
    for group, mount, name in _groups(root):
        place = PurePosixPath(group.lstrip("/"))
        for directory in (place, *place.parents):
            yield root / "sys/fs/cgroup" / mount / directory / name


def _groups(root: Path) -> Iterator[tuple[str, str, str]]:
    """The group that each version has for this process, where it is mounted, and the file that has its limit."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _number, controllers, group = line.split(":", 2)
            if not controllers:
                yield group, "", "memory.max"
            elif "memory" in controllers.split(","):
                yield group, "memory", "memory.limit_in_bytes"
