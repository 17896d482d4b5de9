"""Anything -> what can be written: text from objects that will not be printed, JSON from what is not JSON.

Nothing here raises, whatever it is given.
"""

from __future__ import annotations

import datetime as dt
import enum
import logging
import re
from typing import Any, Final

import orjson

__all__ = ["dumps", "escape", "json_default", "json_line", "json_safe", "message_from", "message_of", "safe_text"]

_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1
"""What `orjson` writes as a number."""

# Dates are left to `json_default`: a time zone that raises would end the process (orjson 3.11).
_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATETIME

MAX_DEPTH: Final = 200
"""Containers within containers; `orjson` writes 254."""

TOO_DEEP: Final = "<too deep>"

_SURROGATE: Final = re.compile("[\ud800-\udfff]")

# Line breaks to `str.splitlines`, and the control characters that a terminal obeys: JSON allows them unescaped.
_BREAKS: Final = re.compile("[\x7f-\x9f\u2028\u2029]")


def safe_text(value: object) -> str:
    """The text of an object, also of one whose `str()` raises."""
    try:
        if isinstance(value, (bytes, bytearray)):
            return value.decode("utf-8", "backslashreplace")
        if isinstance(value, (dt.date, dt.time)):
            return value.isoformat()
        return str(value)
    except Exception:  # noqa: BLE001 - anything may be logged
        return f"<unprintable {type(value).__name__}>"


def escape(text: str) -> str:
    """The text with everything that is not printable written as an escape: one line, obeyed by no terminal."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )


def message_of(record: logging.LogRecord) -> str:
    """The message of a record; if its arguments do not fit, they are written behind it."""
    message = record.msg
    if not record.args and type(message) is str:
        return message
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - a wrong format string does not cost the line
        return message_from(message, record.args)


def message_from(template: object, arguments: object) -> str:
    """As `logging` puts a message together; if the arguments do not fit, they are written behind it."""
    text = safe_text(template)
    if not arguments:
        return text
    try:
        return text % arguments
    except Exception:  # noqa: BLE001 - as above
        return f"{text} {safe_text(arguments)}"


def json_default(value: Any) -> Any:
    """What `orjson` is to write for an object it does not know."""
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, float):
        return float(value)
    return safe_text(value)


def json_safe(value: Any, depth: int = 0) -> Any:
    """A copy that `orjson` can write: for lone surrogates, big integers, keys that are no text, strange objects.

    Args:
        value: Without cycles, as `Redactor.redact` returns it.
        depth: How many containers there are around it.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return json_safe(value.value, depth)
    if isinstance(value, str):
        return _SURROGATE.sub(_escaped, str.__str__(value))
    if isinstance(value, int):
        return value if _INT_MIN <= value <= _INT_MAX else _digits(value)
    if isinstance(value, float):
        return float(value)
    if not isinstance(value, (dict, list, tuple, set, frozenset)):
        return json_safe(safe_text(value))
    if depth >= MAX_DEPTH:
        return TOO_DEEP
    if isinstance(value, dict):
        return {json_safe(safe_text(_plain(key))): json_safe(item, depth + 1) for key, item in value.items()}
    return [json_safe(item, depth + 1) for item in value]


def json_line(encoded: bytes) -> str:
    """JSON as text that is one line, for everyone who splits lines."""
    line = encoded.decode()
    return line if line.isascii() else _BREAKS.sub(_escaped, line)


def dumps(value: Any) -> bytes:
    """JSON of anything without cycles."""
    try:
        return orjson.dumps(value, json_default, _OPTIONS)
    except Exception:  # noqa: BLE001 - anything may be logged
        return orjson.dumps(json_safe(value))


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _plain(key: object) -> object:
    return str.__str__(key) if isinstance(key, str) else key


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # more digits than Python converts: sys.set_int_max_str_digits
        return hex(value)
