"""The directory that the processes of one service share: which one it is, whether it will do, and its lock.

Two kinds of lock are used, both `flock(2)`, which the kernel takes back whatever ends a process. The one that each
process has on its own file says that it lives: a PID would not, for in containers it is soon used again. The one on
the directory is held while files are folded, or read for a scrape.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from asgi_obs.errors import SettingsError

if sys.platform != "win32":  # pragma: no branch - `prepare` says so
    import fcntl

__all__ = ["FOLDED", "PATIENCE", "VARIABLE", "configured", "exclusive", "is_live", "lock", "prepare", "process_files"]

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

FOLDED: Final = "folded.metrics"
"""The name of the file with the totals of processes that have ended."""

PATIENCE: Final = 5.0
"""Seconds to wait for the lock of the directory; a scraper waits for ten."""

INTERVAL: Final = 0.005
"""Seconds after which it is tried again."""

_PROCESS_FILE: Final = re.compile(r"(\d+)-[0-9a-f]+\.metrics")
_ALLOWED: Final = "a directory on a local file system that can be written"

_held: Final[set[int]] = set()


def configured() -> str | None:
    """What the variable says, in either spelling that `prometheus_client` takes; None without it."""
    return os.environ.get(VARIABLE, os.environ.get(VARIABLE.lower()))


def prepare(value: str) -> Path:
    """Check the directory, and create it if nothing but itself is missing.

    Args:
        value: What the variable says.

    Raises:
        SettingsError: It cannot be used.
    """
    if sys.platform == "win32":  # pragma: no cover - the tests run where there are such locks
        raise SettingsError(VARIABLE, value, "to be unset: this system has no file locks")
    if not value:  # `prometheus_client` takes the working directory then
        raise SettingsError(VARIABLE, value, f"{_ALLOWED}, or to be unset")
    path = Path(value).absolute()  # a daemon changes its working directory
    try:
        path.mkdir(exist_ok=True)
        _try(path)
    except OSError as error:
        raise SettingsError(VARIABLE, value, f"{_ALLOWED} ({error.strerror or error})") from error
    return path


def _try(path: Path) -> None:
    """Lock a file twice: network file systems have no locks, or some that let the same process in again."""
    if (path / FOLDED).exists() and not (path / FOLDED).is_file():
        raise OSError(f"{FOLDED} in it is no file")
    with tempfile.NamedTemporaryFile(dir=path, prefix=".probe-") as file:
        lock(file.fileno())
        if not is_live(Path(file.name)):
            raise OSError("locks have no effect there")


def lock(fd: int) -> None:
    """Lock a file, or a directory, until it is closed.

    Raises:
        BlockingIOError: Another one has locked it.
        OSError: It cannot be locked.
    """
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def process_files(path: Path) -> Iterator[tuple[str, Path]]:
    """The files of processes that live or did, each with the PID."""
    for file in sorted(path.iterdir()):
        found = _PROCESS_FILE.fullmatch(file.name)
        if found and _has_content(file):
            yield found[1], file


def _has_content(file: Path) -> bool:
    """Whether it is a file, and locked if its process lives: until then it is empty."""
    try:
        status = file.lstat()
    except FileNotFoundError:  # somebody cleans up
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def is_live(file: Path) -> bool:
    """Whether the process whose file this is lives: it has it locked.

    Raises:
        OSError: The file cannot be opened.
    """
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@contextmanager
def exclusive(path: Path, patience: float) -> Iterator[None]:
    """Hold the lock of the directory.

    Args:
        path: The directory.
        patience: Seconds to wait for it.

    Raises:
        TimeoutError: Another process or thread has it all that time; a process that was stopped may.
        OSError: The directory cannot be opened.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    _held.add(fd)
    try:
        _wait_for(fd, path, patience)
        yield
    finally:
        _held.discard(fd)
        # Closing is not enough: a process that was forked meanwhile may have the same lock open.
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def _wait_for(fd: int, path: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        with suppress(BlockingIOError):
            return lock(fd)
        if time.monotonic() >= deadline:
            raise TimeoutError(f"another process has had {path} locked for {patience} seconds")
        time.sleep(INTERVAL)


def _let_go() -> None:
    """Leave the lock to the process that this one was forked from: here it would outlive that one."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows cannot fork
    os.register_at_fork(after_in_child=_let_go)
