"""structlog as a front end: its events become records of `logging`, and all their keys fields.

`configure_structlog()` is all there is to call; `to_logging` ends a chain of processors of your own. A record costs
about what it costs with structlog's own `render_to_log_kwargs`.
"""

from __future__ import annotations

import logging
import sys
import traceback
from contextvars import ContextVar
from types import FrameType
from typing import Any, Final, NoReturn

import structlog
from structlog.typing import EventDict, Processor

from asgi_obs.errors import report
from asgi_obs.logs import TRACE, TraceLogger, get_logger
from asgi_obs.logs.extra import add_fields

__all__ = ["BoundLogger", "configure_structlog", "to_logging"]

_LEVELS: Final = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "exception": logging.ERROR,
    "critical": logging.CRITICAL,
    "fatal": logging.CRITICAL,
}

# The methods for coroutines log in another thread, and leave the frame they were called from here.
_calling_frame: Final[ContextVar[FrameType]] = getattr(
    structlog.contextvars, "_ASYNC_CALLING_STACK", ContextVar("asgi_obs.no_frame")
)


class BoundLogger(structlog.stdlib.BoundLogger):
    """structlog's logger for `logging`, with level TRACE."""

    def trace(self, event: str | None = None, *args: Any, **kw: Any) -> Any:
        """Log with level TRACE; takes what `debug()` takes."""
        return self._proxy_to_logger("trace", event, *args, **kw)

    def log(self, level: int, event: str | None = None, *args: Any, **kw: Any) -> Any:
        """Log with a level given by its number."""
        return self.trace(event, *args, **kw) if level == TRACE else super().log(level, event, *args, **kw)


def configure_structlog(*processors: Processor) -> None:
    """Send structlog's events to `logging`, and so to whatever `setup_logging` has set up.

    The name of a logger is its component, that of the module if `structlog.get_logger()` is given none; its level is
    that of the logger of `logging`. What is bound, also by `structlog.contextvars`, becomes fields.

    Args:
        *processors: Your own, run before the event is handed over. There is no need for any that adds a level, a
            time or a logger, or formats an exception.
    """
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *processors, to_logging],
        wrapper_class=BoundLogger,
        context_class=dict,
        logger_factory=_logger,
        cache_logger_on_first_use=True,
    )


def to_logging(logger: logging.Logger, method_name: str, event_dict: EventDict) -> NoReturn:
    """The last processor of a chain: hands the event to a logger of `logging`.

    Not by the method of that name, as others do: `logging` would take the caller for one in structlog, and raise
    `KeyError` for keys that records have already. Those move under `context`.

    Raises:
        structlog.DropEvent: Always; it tells structlog that there is nothing left to do.
    """
    try:
        level = _LEVELS.get(method_name, logging.INFO)
        if logger.isEnabledFor(level):
            logger.handle(_record_of(logger, level, event_dict))
    except Exception as error:  # noqa: BLE001 - fail open: whoever logs is not to blame
        report("structlog.to_logging", error)
    raise structlog.DropEvent


def _record_of(logger: logging.Logger, level: int, event: EventDict) -> logging.LogRecord:
    frame = _caller(event.pop("stacklevel", 1))
    code = frame.f_code
    record = logger.makeRecord(
        logger.name,
        level,
        code.co_filename,
        frame.f_lineno,
        event.pop("event", ""),
        event.pop("positional_args", ()),
        _exc_info(event.pop("exc_info", None)),
        code.co_name,
        sinfo=_stack_above(frame) if event.pop("stack_info", False) else None,
    )
    add_fields(record, event)
    return record


def _caller(stacklevel: int = 1) -> FrameType:
    """The frame that called structlog; with a higher `stacklevel` one further out, as `logging` counts."""
    frame = _calling_frame.get(None) or sys._getframe()
    while frame.f_back is not None and (_is_inside(frame) or stacklevel > 1):
        stacklevel -= not _is_inside(frame)
        frame = frame.f_back
    return frame


def _is_inside(frame: FrameType) -> bool:
    module: str = frame.f_globals.get("__name__", "")
    return module == __name__ or module.partition(".")[0] == "structlog"


def _exc_info(given: Any) -> Any:
    """What a record has, from all that may be given: an exception, what `sys.exc_info()` returns, or True."""
    if isinstance(given, BaseException):
        return type(given), given, given.__traceback__
    return sys.exc_info() if given and not isinstance(given, tuple) else given or None


def _stack_above(frame: FrameType) -> str:
    return "Stack (most recent call last):\n" + "".join(traceback.format_stack(frame)).rstrip("\n")


def _logger(*names: str) -> TraceLogger:
    return get_logger(names[0] if names else _caller().f_globals.get("__name__", "structlog"))
