"""The file in which the workers of a service share temporary levels.

It is read only if it belongs to the user of this process and nobody else can write it: who writes it sets levels. Other
processes see it as it was or as it is now, never half written.
"""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import orjson

from asgi_obs.logs.levels import level_number
from asgi_obs.logs.temporary import TemporaryLevel, level_text
from asgi_obs.metrics.multiprocess.directory import exclusive
from asgi_obs.settings import LOG_LEVELS
from asgi_obs.settings.parse import is_number

__all__ = ["MAX_NAME", "MAX_SECONDS", "LevelsFile", "is_logger_name"]

FILE: Final = "loggers.json"

MAX_NAME: Final = 200
"""Characters in the name of a logger."""

MAX_SECONDS: Final = 86_400
"""How long a level may be temporary."""

PATIENCE: Final = 2.0
"""Seconds to wait for another process that changes the file."""

_LATEST: Final = 1e12
_MAX_BYTES: Final = 256 * 1024
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
# Not through a link, and not to block: a pipe without a writer must not stop who reads.
_FLAGS: Final = os.O_RDONLY | sum(getattr(os, f"O_{name}", 0) for name in ("CLOEXEC", "NOFOLLOW", "NONBLOCK"))


class LevelsFile:
    """The file of one directory.

    Args:
        directory: One that all workers can write, and nobody else.
    """

    def __init__(self, directory: str) -> None:
        self._path = Path(directory, FILE).absolute()

    def held(self) -> AbstractContextManager[None]:
        """Inside of the block no other process changes it.

        Raises:
            TimeoutError: Another one has held it for `PATIENCE` seconds.
            OSError: There is no such directory.
        """
        return exclusive(self._path.parent, PATIENCE)

    def version(self) -> object:
        """What is another one when the file has been written; None if there is none.

        Raises:
            OSError: It cannot be told.
        """
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def read(self) -> dict[str, tuple[int, float]]:
        """Level and end by name of a logger; what is not valid is left out, and so is what is over.

        Raises:
            PermissionError: Somebody else might have written it.
            OSError: It cannot be read.
            ValueError: It is not in JSON.
        """
        try:
            with open(self._path, "rb", opener=lambda path, _: os.open(path, _FLAGS)) as file:
                _require_own(os.fstat(file.fileno()))
                content = orjson.loads(file.read(_MAX_BYTES))
        except FileNotFoundError:
            return {}
        entries = content.items() if isinstance(content, dict) else ()
        return {name: (level_number(e["level"]), e["until"]) for name, e in entries if _is_valid(name, e)}

    def write(self, levels: Mapping[str, TemporaryLevel]) -> None:
        """Replace it.

        Raises:
            OSError: It cannot be written.
        """
        content = {name: {"level": level_text(entry.level), "until": entry.until} for name, entry in levels.items()}
        descriptor, new = tempfile.mkstemp(dir=self._path.parent, prefix=".loggers-")  # for this user alone
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(orjson.dumps(content))
            Path(new).replace(self._path)
        except BaseException:
            Path(new).unlink(missing_ok=True)
            raise


def is_logger_name(name: str) -> bool:
    """Whether a logger may be made with this name because somebody asks for it."""
    return 0 < len(name) <= MAX_NAME and name.isprintable() and all(name.split("."))


def _require_own(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & _OTHERS_MAY_WRITE:
        raise PermissionError(f"{FILE} is not a file that only this user can write")


def _is_valid(name: str, entry: Any) -> bool:
    if not isinstance(entry, dict) or not is_logger_name(name) or entry.get("level") not in LOG_LEVELS:
        return False
    until: Any = entry.get("until")
    return is_number(until, _LATEST) and 0 < until - time.time() <= MAX_SECONDS
