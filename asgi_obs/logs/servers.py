"""The loggers of servers: what uvicorn, gunicorn, hypercorn, granian and daphne log goes the way of all other records.

A server configures its logging before it loads the application or after, and gunicorn does so again when it is told
to reload. So what it configured is undone at once, and again when it logs. Costs one filter for each record of a
server; those of the application pass none.
"""

from __future__ import annotations

import logging
import sys
from typing import Final

__all__ = ["ACCESS_LOGGERS", "SERVER_LOGGERS", "take_over_servers"]

UVICORN_ERROR: Final = "uvicorn.error"

SERVER_LOGGERS: Final = ("uvicorn", UVICORN_ERROR, "uvicorn.asgi", "gunicorn.error", "hypercorn.error", "_granian")
"""Those that servers log to. daphne's need nothing: it configures the root logger alone."""

ACCESS_LOGGERS: Final = ("uvicorn.access", "gunicorn.access", "hypercorn.access", "granian.access")
"""Those that get a line for each request, which `RequestLoggingMiddleware` writes better."""

_UVICORN_FORMATTERS: Final = "uvicorn.logging"
_DATE: Final = "[%Y-%m-%d %H:%M:%S %z]"
_LAYOUTS: Final[dict[tuple[str | None, str | None], tuple[str, ...]]] = {
    ("%(asctime)s [%(process)d] [%(levelname)s] %(message)s", _DATE): ("gunicorn", "hypercorn"),
    ("[%(levelname)s] %(message)s", _DATE): ("granian",),
    ("%(asctime)-15s %(levelname)-8s %(message)s", None): ("daphne",),
}
"""Format and date format of the handlers that servers attach unless they are told otherwise; the servers' packages."""


def take_over_servers() -> None:
    """Let the records of servers go to the handlers of the root logger, and switch their access logs off.

    May be called again, before and after a server configures logging. The handlers to the console that servers
    attach themselves go. All others stay: those of the application, and the files that a server was told to write.
    """
    for name in SERVER_LOGGERS:
        logger = logging.getLogger(name)
        logger.disabled = False  # `logging.config.dictConfig` does this to loggers that it is not told of
        _release(logger)
        # Filters, for `dictConfig`, which servers may yet call, replaces handlers and leaves filters.
        logger.addFilter(_pass_to_root)
    for name in ACCESS_LOGGERS:
        logging.getLogger(name).addFilter(_drop)
    logging.getLogger(UVICORN_ERROR).addFilter(_is_no_access_line)


def _release(logger: logging.Logger | None) -> None:
    """Undo what a server configured on the way from this logger to the root."""
    while logger is not None:
        for handler in logger.handlers[:]:
            if _is_of_a_server(handler):
                logger.removeHandler(handler)
        logger.propagate = True
        logger = logger.parent


def _is_of_a_server(handler: logging.Handler) -> bool:
    if type(handler) is not logging.StreamHandler:
        return False
    formatter = handler.formatter
    if type(formatter).__module__ == _UVICORN_FORMATTERS:
        return True
    if type(formatter) is not logging.Formatter:
        return False
    # Somebody else may like the same format.
    return any(package in sys.modules for package in _LAYOUTS.get((formatter._fmt, formatter.datefmt), ()))


def _pass_to_root(record: logging.LogRecord) -> bool:
    _release(logging.getLogger(record.name))
    return True


def _drop(_record: logging.LogRecord) -> bool:
    return False


def _is_no_access_line(record: logging.LogRecord) -> bool:
    # uvicorn writes the handshakes of WebSockets, with their query as it came, to its error log.
    return not str(record.msg).startswith('%s - "WebSocket ')
