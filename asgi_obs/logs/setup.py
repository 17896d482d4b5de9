"""`setup_logging`: one handler on the root logger, and the lines of servers, libraries and warnings through it.

Called once by the application, before or after the server configures its own logging. It costs nothing per record
beyond the handler.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from asgi_obs.errors import ConfigurationError, SettingsError
from asgi_obs.logs.audit import AuditHandler, audit_log
from asgi_obs.logs.buffer import RequestBuffer
from asgi_obs.logs.files import FileHandler
from asgi_obs.logs.fold import Fold
from asgi_obs.logs.formatter import StructuredLogFormatter
from asgi_obs.logs.handlers import LineHandler
from asgi_obs.logs.levels import AUDIT, level_number
from asgi_obs.logs.request import LOGGER
from asgi_obs.logs.selected import selection
from asgi_obs.logs.servers import take_over_servers
from asgi_obs.logs.stdout import StdoutHandler
from asgi_obs.logs.temporary import temporary_levels
from asgi_obs.logs.text import TextLogFormatter, wants_colour
from asgi_obs.logs.thresholds import root_level, threshold_of
from asgi_obs.logs.warnings import capture_warnings
from asgi_obs.settings import LOG_LEVELS, Settings

__all__ = ["setup_logging"]

ROOT: Final = "root"
OWN_LOGGERS: Final = ("asgi_obs", LOGGER)


class _InForce:
    """What the last call has put in place, for the next one to replace."""

    settings: Settings | None = None
    handlers: Mapping[str, LineHandler] = {}


def setup_logging(
    service_name: str | None = None, log_level: str | None = None, *, settings: Settings | None = None
) -> logging.Logger:
    """Send every record of this process where the settings say, formatted as they say.

    May be called again: what it has put in place is replaced, the handlers of others stay. Warnings are logged too;
    the access logs of servers are switched off (`RequestLoggingMiddleware` writes a better one), and the rest of
    their records takes the same way as all others. A call that changes something is in the audit log.

    Args:
        service_name: The service in the lines, in place of `SERVICE_NAME`.
        log_level: The least level that is logged, in place of `LOG_LEVEL`.
        settings: Default: read from the environment.

    Returns:
        The root logger.

    Raises:
        ConfigurationError: An argument or an environment variable is wrong, or a file cannot be written; the message
            names what is allowed. Nothing has been changed then.
    """
    settings = _settings_with(settings, service_name, log_level)
    handlers = _handlers(settings)
    before = _InForce.settings if _InForce.handlers.get(ROOT) in logging.getLogger().handlers else None
    _replace_handlers(handlers)
    _replace_levels(before, settings)
    _InForce.settings = settings
    capture_warnings()
    take_over_servers()
    for name in OWN_LOGGERS:
        logging.getLogger(name).disabled = False  # as `logging.config.dictConfig` leaves loggers that it is not told of
    _audit(before, settings)
    return logging.getLogger()


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


def _handlers(settings: Settings) -> dict[str, LineHandler]:
    """A handler for the root logger, and one for the audit log if it has a file; by the names of their loggers."""
    files = {"retention_days": settings.log_retention_days, "mode": settings.log_file_mode}
    handlers: dict[str, LineHandler] = {}
    if settings.log_output == "file":
        handlers[ROOT] = _open("log_file_path", settings, FileHandler, queue_size=settings.log_queue_size, **files)
    else:
        handlers[ROOT] = StdoutHandler(queue_size=settings.log_queue_size)
    if settings.audit_log_path:
        handlers[AUDIT] = _open("audit_log_path", settings, AuditHandler, **files)
    for handler in handlers.values():
        handler.setFormatter(_formatter(settings, handler))
    root = handlers[ROOT]
    if settings.log_buffer_lines:
        root.addFilter(RequestBuffer(root, threshold_of, settings.log_buffer_lines))
    if settings.log_fold_seconds:
        root.addFilter(Fold(root, settings.log_fold_seconds))
    return handlers


def _open(option: str, settings: Settings, kind: Callable[..., FileHandler], **options: Any) -> FileHandler:
    """The handler of a file; what is wrong with it is said of the variable that names the file."""
    path = getattr(settings, option)
    try:
        return kind(path, **options)
    except ConfigurationError as error:
        raise SettingsError(Settings.variables()[option], path, error.allowed) from error


def _formatter(settings: Settings, handler: LineHandler) -> logging.Formatter:
    if settings.log_format == "json":
        return StructuredLogFormatter(settings=settings)
    return TextLogFormatter(settings=settings, colour=isinstance(handler, StdoutHandler) and wants_colour(sys.stdout))


def _replace_handlers(handlers: Mapping[str, LineHandler]) -> None:
    before, _InForce.handlers = _InForce.handlers, handlers
    for name, handler in handlers.items():
        selection.guard(handler)
        logging.getLogger(name).addHandler(handler)
    for name, handler in before.items():
        logging.getLogger(name).removeHandler(handler)
        handler.close()


def _replace_levels(before: Settings | None, settings: Settings) -> None:
    with temporary_levels.lifted():
        for name, _ in before.log_levels if before is not None else ():
            logging.getLogger(name).setLevel(logging.NOTSET)
        for name, level in settings.log_levels:
            logging.getLogger(name).setLevel(level_number(level))
        root_level.mean(level_number(settings.log_level))
        # What is kept in case of an error has to be logged first.
        if settings.log_buffer_lines:
            root_level.lower(RequestBuffer, logging.DEBUG)
        else:
            root_level.lift(RequestBuffer)


def _audit(before: Settings | None, settings: Settings) -> None:
    """Say what was changed; and, to a file for the audit log, with what it began."""
    now = _variables_of(settings)
    if before is None:
        if settings.audit_log_path:
            audit_log("logging.configured", settings=now)
    elif before != settings:
        was = _variables_of(before)
        changed = {name: {"from": was[name], "to": value} for name, value in now.items() if value != was[name]}
        audit_log("logging.changed", changed=changed)


def _variables_of(settings: Settings) -> dict[str, str]:
    return dict(line.split("=", 1) for line in str(settings).splitlines())
