"""`setup_logging`: one handler on the root logger, to standard output, and uvicorn's lines through it too.

Called once by the application, before or after uvicorn configures its own logging. It costs nothing per record
beyond the handler; uvicorn's records pass one more filter.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import sys
from typing import Any, Final

from asgi_obs.errors import ConfigurationError, report
from asgi_obs.logs.formatter import StructuredLogFormatter
from asgi_obs.logs.text import TextLogFormatter
from asgi_obs.settings import LOG_LEVELS, Settings

__all__ = ["StdoutHandler", "setup_logging"]

UVICORN_LOGGERS: Final = ("uvicorn", "uvicorn.error", "uvicorn.asgi")
UVICORN_ACCESS: Final = "uvicorn.access"
UVICORN_ERROR: Final = "uvicorn.error"

_NON_ASCII: Final = re.compile(r"[^\x00-\x7f]")


class StdoutHandler(logging.Handler):
    """Writes lines to whatever `sys.stdout` is at that moment. A line that cannot be written is reported."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Write one record, if no filter is against it; without a lock, for a line is handed over in one piece."""
        if self.filters:
            return super().handle(record)
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; never raises."""
        try:
            line = self.format(record) + "\n"
            stream = sys.stdout
            try:
                stream.write(line)
            except UnicodeEncodeError:
                stream.write(_NON_ASCII.sub(_json_escaped, line))
            stream.flush()
        except Exception:  # noqa: BLE001 - fail open: a full disk or a closed pipe is not the caller's fault
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - as `logging` calls it
        """Report the exception being handled, in place of the traceback that `logging` would print."""
        error = sys.exc_info()[1]
        if error is not None:
            report("StdoutHandler.emit", error)


def setup_logging(
    service_name: str | None = None, log_level: str | None = None, *, settings: Settings | None = None
) -> logging.Logger:
    """Send every record of this process to standard output, formatted as the settings say.

    May be called again: its own handler is replaced, those of others stay. Warnings are logged too, uvicorn's
    access log is switched off (`RequestLoggingMiddleware` writes a better one) and the rest of uvicorn's records
    take the same way as all others.

    Args:
        service_name: The service in the lines, in place of `SERVICE_NAME`.
        log_level: The least level that is logged, in place of `LOG_LEVEL`.
        settings: Default: read from the environment.

    Returns:
        The root logger.

    Raises:
        ConfigurationError: An argument or an environment variable is wrong; the message names what is allowed.
    """
    settings = _settings_with(settings, service_name, log_level)
    handler = StdoutHandler()
    handler.setFormatter(_formatter(settings))
    root = logging.getLogger()
    for present in root.handlers[:]:
        if type(present) is StdoutHandler:
            root.removeHandler(present)
            present.close()
    root.addHandler(handler)
    root.setLevel(settings.log_level)
    logging.captureWarnings(capture=True)
    _take_over_uvicorn()
    return root


def _settings_with(settings: Settings | None, service_name: str | None, log_level: str | None) -> Settings:
    given: dict[str, Any] = {}
    if service_name is not None:
        if not isinstance(service_name, str) or not service_name:
            raise ConfigurationError("service_name", service_name, "a name")
        given["service_name"] = service_name
    if log_level is not None:
        if not isinstance(log_level, str) or log_level.upper() not in LOG_LEVELS:
            raise ConfigurationError("log_level", log_level, f"one of {', '.join(LOG_LEVELS)}")
        given["log_level"] = log_level.upper()
    return Settings(**given) if settings is None else dataclasses.replace(settings, **given)


def _formatter(settings: Settings) -> logging.Formatter:
    if settings.log_format == "json":
        return StructuredLogFormatter(settings=settings)
    # https://no-color.org: set and not empty.
    colour = not os.environ.get("NO_COLOR") and sys.stdout is not None and sys.stdout.isatty()
    return TextLogFormatter(settings=settings, colour=colour)


def _take_over_uvicorn() -> None:
    # Filters, for `logging.config.dictConfig`, which uvicorn may yet call, replaces handlers and leaves filters.
    for name in UVICORN_LOGGERS:
        logging.getLogger(name).addFilter(_pass_to_root)
    logging.getLogger(UVICORN_ACCESS).addFilter(_drop)
    logging.getLogger(UVICORN_ERROR).addFilter(_is_no_access_line)


def _pass_to_root(_record: logging.LogRecord) -> bool:
    """Undo what uvicorn configured, as soon as it logs: its handlers go, those of others stay."""
    uvicorn = logging.getLogger("uvicorn")
    for handler in uvicorn.handlers[:]:
        if type(handler.formatter).__module__ == "uvicorn.logging":
            uvicorn.removeHandler(handler)
    uvicorn.propagate = True
    return True


def _drop(_record: logging.LogRecord) -> bool:
    return False


def _is_no_access_line(record: logging.LogRecord) -> bool:
    # uvicorn writes the handshakes of WebSockets, with their query as it came, to its error log.
    return not str(record.msg).startswith('%s - "WebSocket ')


def _json_escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
