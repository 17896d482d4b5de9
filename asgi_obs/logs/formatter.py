"""`StructuredLogFormatter`: one record, one line of JSON.

Whatever is logged, the line is valid JSON and one line. A final line of `RequestLoggingMiddleware` costs about
2 µs, a record with some fields of its own about 4, redacted; what `orjson` cannot write costs a second pass.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from functools import partial
from typing import Any, Final

from asgi_obs.errors import ConfigurationError, report
from asgi_obs.logs.fields import REQUEST_FIELDS, RecordReader
from asgi_obs.logs.levels import LEVEL_NAMES, level_name
from asgi_obs.logs.profiles import Profile, make_profile
from asgi_obs.logs.records import RequestRecord
from asgi_obs.logs.safe import dumps, json_line, safe_text
from asgi_obs.settings import Settings

__all__ = ["StructuredLogFormatter"]

MAX_HEADS: Final = 1024
"""The constant parts of lines that are kept: one for each logger and level."""

LAST_RESORT: Final = "a log record could not be formatted"

_MILLISECONDS: Final = tuple(b'.%03dZ"' % i for i in range(1000))


class StructuredLogFormatter(logging.Formatter):
    """Formats records as JSON, one line each, in the schema of this library or that of a profile; redacts.

    Args:
        service_name: The service in the lines; default that of the settings.
        settings: Default: read from the environment.

    Raises:
        ConfigurationError: `service_name` is empty, or the environment is wrong.
    """

    def __init__(self, service_name: str | None = None, *, settings: Settings | None = None) -> None:
        super().__init__()
        settings = Settings() if settings is None else settings
        service = settings.service_name if service_name is None else service_name
        if not isinstance(service, str) or not service:
            raise ConfigurationError("service_name", service_name, "a name")
        self._reader = RecordReader(settings)
        self._service = service
        self._place = {
            "hostname": socket.gethostname(),
            "pid": os.getpid(),
            "environment": settings.environment,
            "version": settings.version,
        }
        self._heads: dict[tuple[int, str], bytes] = {}
        self._tail = self._tail_of(os.getpid())
        self._second = (-1, b"")
        profile = make_profile(settings)
        self._render = self._own if profile is None else partial(self._profiled, profile)
        # With a word that is part of one of these names, their values have to be redacted like any others.
        self._redactor = self._reader.redactor
        self._trusts_names = not any(map(self._redactor.is_sensitive, REQUEST_FIELDS))

    def format(self, record: logging.LogRecord) -> str:
        """The line, without a line break; never raises."""
        try:
            if type(record) is RequestRecord and self._trusts_names and record.is_as_made_for(self._redactor):
                return json_line(self._render(record, record.msg, record.fields))
            return json_line(self._render(record, self._reader.message(record), self._reader.fields(record)))
        except Exception as error:  # noqa: BLE001 - fail open: a line about the line is better than none
            report("StructuredLogFormatter.format", error)
            return self._last_resort(record, error)

    def _own(self, record: logging.LogRecord, message: str, fields: dict[str, Any]) -> bytes:
        """The line in our schema, put together from parts that seldom change and two that do."""
        created = record.created
        second = int(created)
        known, date = self._second
        if second != known:
            date = time.strftime('{"timestamp":"%Y-%m-%dT%H:%M:%S', time.gmtime(second)).encode()
            self._second = (second, date)
        head = self._heads.get((record.levelno, record.name)) or self._head_of(record)
        pid, tail = self._tail
        if record.process != pid:
            pid, tail = self._tail = self._tail_of(record.process or os.getpid())
        millisecond = _MILLISECONDS[int((created - second) * 1000)]
        if not fields:
            return b"".join((date, millisecond, head, dumps(message), tail))
        return b"".join((date, millisecond, head, dumps(message), b",", dumps(fields)[1:-1], tail))

    def _profiled(self, profile: Profile, record: logging.LogRecord, message: str, fields: dict[str, Any]) -> bytes:
        """The line in the schema of the profile."""
        line = {
            "timestamp": _timestamp(record.created),
            "level": level_name(record),
            "service": self._service,
            "component": record.name,
            "message": message,
            **fields,
            **self._place,
            "pid": record.process or os.getpid(),
        }
        return dumps(profile(line, record))

    def _head_of(self, record: logging.LogRecord) -> bytes:
        named = {"level": level_name(record), "service": self._service, "component": record.name}
        head = b"," + dumps(named)[1:-1] + b',"message":'
        if record.levelno in LEVEL_NAMES:  # any other number may have several names
            if len(self._heads) >= MAX_HEADS:
                self._heads.clear()
            self._heads[record.levelno, record.name] = head
        return head

    def _tail_of(self, pid: int) -> tuple[int, bytes]:
        return pid, b"," + dumps({**self._place, "pid": pid})[1:]

    def _last_resort(self, record: logging.LogRecord, error: Exception) -> str:
        level = record.levelno if isinstance(record.levelno, int) else logging.ERROR
        told = logging.LogRecord(safe_text(record.name), level, __file__, 1, LAST_RESORT, (), None)
        fields = {"type": type(error).__name__, "message": "see the report of StructuredLogFormatter.format"}
        return json_line(self._render(told, LAST_RESORT, {"error": fields}))


def _timestamp(seconds: float) -> str:
    date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{date}.{int(seconds % 1 * 1000):03d}Z"
