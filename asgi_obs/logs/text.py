"""`TextLogFormatter`: log lines for people.

    2025-03-21 10:15:30.123 INFO  asgi_obs.request  GET /items/3 200  duration_ms=1.25  [550e8400]

Fields and redaction are those of the JSON lines. A line is one line, but for the stack of an error below it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from asgi_obs.errors import report
from asgi_obs.logs.fields import RecordReader
from asgi_obs.logs.levels import level_name
from asgi_obs.logs.safe import dumps, escape, safe_text
from asgi_obs.settings import Settings

__all__ = ["TextLogFormatter"]

COMPONENT_WIDTH: Final = 16
SHORT_ID: Final = 8
"""Characters of a correlation ID: enough to follow a request on a screen."""

_LEFT_OUT: Final = frozenset(
    {"correlation_id", "trace_id", "span_id", "method", "path", "status_code", "user_agent", "http_version", "scheme"}
)
"""In the message of a request already, or more than a person wants to read."""

_RESET: Final = "\x1b[0m"
_DIM: Final = "\x1b[2m"
_COLOURS: Final = {
    "TRACE": _DIM,
    "DEBUG": "\x1b[36m",
    "INFO": "\x1b[32m",
    "WARN": "\x1b[33m",
    "ERROR": "\x1b[31m",
    "FATAL": "\x1b[1;31m",
}
"""Select Graphic Rendition: ECMA-48, section 8.3.117."""


class TextLogFormatter(logging.Formatter):
    """Formats records as aligned text, with fields as `key=value`; redacts.

    Args:
        settings: Default: read from the environment.
        colour: Colour the level, and dim what surrounds the message.
    """

    def __init__(self, *, settings: Settings | None = None, colour: bool = False) -> None:
        super().__init__()
        self._reader = RecordReader(Settings() if settings is None else settings)
        self._colours = _COLOURS if colour else {}
        self._dim, self._reset = (_DIM, _RESET) if colour else ("", "")

    def format(self, record: logging.LogRecord) -> str:
        """The line, with the stack of an error on the lines below it; never raises."""
        try:
            return self._render(record)
        except Exception as error:  # noqa: BLE001 - fail open: a line about the line is better than none
            report("TextLogFormatter.format", error)
            return f"a log record of {escape(safe_text(record.name))} could not be formatted"

    def _render(self, record: logging.LogRecord) -> str:
        fields = self._reader.fields(record)
        level = escape(level_name(record))
        colour = self._colours.get(level, "")
        second = int(record.created)
        date = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second))
        parts = [
            f"{self._dim}{date}.{int((record.created - second) * 1000):03d}{self._reset}",
            f"{colour}{level:<5}{self._reset if colour else ''}",
            f"{self._dim}{escape(record.name):<{COMPONENT_WIDTH}}{self._reset}",
            f"{escape(self._reader.message(record))}{self._details(fields)}",
        ]
        return "\n".join((" ".join(parts), *self._stack_lines(fields)))

    def _details(self, fields: Mapping[str, Any]) -> str:
        details = " ".join(f"{escape(safe_text(name))}={_value(value)}" for name, value in _interesting(fields))
        correlation_id = fields.get("correlation_id")
        if correlation_id is not None:
            details += f"  [{escape(safe_text(correlation_id)[:SHORT_ID])}]"
        return f"  {self._dim}{details.lstrip()}{self._reset}" if details else ""

    def _stack_lines(self, fields: Mapping[str, Any]) -> Iterator[str]:
        for name, key in (("error", "stack"), ("context", "stack_info")):
            group = fields.get(name)
            if isinstance(group, dict) and key in group:
                yield from (f"    {escape(line)}" for line in safe_text(group[key]).splitlines())


def _interesting(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if name == "context" and isinstance(value, dict):
            yield from ((key, item) for key, item in value.items() if key != "stack_info")
        elif name == "error" and isinstance(value, dict):
            yield from ((f"error.{key}", item) for key, item in value.items() if key != "stack")
        elif name not in _LEFT_OUT:
            yield name, value


def _value(value: Any) -> str:
    """A value as it is if it is one word, else as JSON."""
    text = value if isinstance(value, str) else dumps(value).decode()
    if isinstance(value, str) and (not text or not text.isprintable() or any(c in text for c in ' "=')):
        text = dumps(text).decode()
    return escape(text)
