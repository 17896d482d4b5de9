"""Levels: TRACE below DEBUG, the names in the output, and loggers that can `trace()`."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, Final, Protocol, cast

__all__ = ["AUDIT", "LEVEL_NAMES", "TRACE", "TraceLogger", "get_logger", "level_name", "level_number"]

TRACE: Final = 5

AUDIT: Final = "audit"
"""The logger whose records are held rather than lost."""

LEVEL_NAMES: Final = {
    TRACE: "TRACE",
    logging.DEBUG: "DEBUG",
    logging.INFO: "INFO",
    logging.WARNING: "WARN",
    logging.ERROR: "ERROR",
    logging.CRITICAL: "FATAL",
}
"""The level of a record -> its name in the output."""

# `setLevel("TRACE")` and the formatters of others know the level by this.
logging.addLevelName(TRACE, "TRACE")


class _Trace(Protocol):
    def __call__(self, msg: object, /, *args: object, **options: Any) -> None: ...


class TraceLogger(logging.Logger):
    """The type of what `get_logger` returns, for annotations. At run time it is the logger of `logging` itself.

    Attributes:
        trace: Logs with level TRACE; takes what `debug()` takes.
    """

    trace: _Trace


def get_logger(name: str) -> TraceLogger:
    """The logger of this name, as `logging.getLogger` returns it, with `trace()` beside `debug()` and `fatal()`.

    Args:
        name: Usually `__name__`. Loggers that were made by others before, and their handlers, stay what they are.
    """
    logger = logging.getLogger(name)
    if "trace" not in logger.__dict__:
        # On this logger alone: the class belongs to everybody. A partial is no frame of its own, so that
        # the caller is found and `stacklevel` counts as it does for `debug()`.
        logger.__dict__["trace"] = partial(logger.log, TRACE)
    return cast("TraceLogger", logger)


def level_number(name: str) -> int:
    """The number of a level from its name, as `logging` knows it."""
    number: int = logging.getLevelName(name)  # of a name it tells the number
    return number


def level_name(record: logging.LogRecord) -> str:
    """The name of a record's level in the output; levels that others made up keep their own."""
    level = record.levelno
    return (LEVEL_NAMES.get(level) if isinstance(level, int) else None) or record.levelname
