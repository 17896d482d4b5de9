"""The record of an exchange: made in a third of the time that `logging` takes, and written without looking twice.

For one line per request, `logging`'s own way of making a record is most of the cost. These are copies of a record
that it made for the same logger, level and thread, with the time and the message put in.
"""

from __future__ import annotations

import logging
import os
from threading import get_ident
from time import time
from typing import Any, Final

from asgi_obs.logs.safe import escape
from asgi_obs.redaction import Redactor

__all__ = ["RequestRecord", "make_record"]

MAX_TEMPLATES: Final = 1_000
"""Records to keep for copying: one for each logger, level and thread."""

FIELDS: Final = "fields"

# Given as the place the records come from: looking for it would find this library anyway.
_PLACE: Final = __file__

_templates: dict[tuple[str, int, int], dict[str, Any]] = {}
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows cannot fork
    # A child process has a name and an ID of its own.
    os.register_at_fork(after_in_child=_templates.clear)


class RequestRecord(logging.LogRecord):
    """A record whose fields are in one dictionary, and can be read as attributes too.

    Made by `make_record`. Unless somebody adds to its attributes on its way, its fields are all there is to write.

    Attributes:
        fields: What `extra` would have made attributes: names and values, redacted.
        redactor: What has redacted them; None if the record came from another process.
    """

    __slots__ = ("redactor",)

    fields: dict[str, Any]
    redactor: Redactor | None

    def __init__(self, logger: str, level: int, message: str, fields: dict[str, Any], redactor: Redactor) -> None:
        thread = get_ident()
        template = _templates.get((logger, level, thread)) or _make_template(logger, level, thread)
        attributes = template.copy()
        created = time()
        attributes["msg"] = message
        attributes["created"] = created
        attributes["msecs"] = float(int(created % 1 * 1000))
        attributes["relativeCreated"] += (created - template["created"]) * 1000
        attributes[FIELDS] = fields
        self.__dict__ = attributes
        self.redactor = redactor

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__[FIELDS][name]
        except KeyError:
            raise AttributeError(name) from None

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.__dict__,)

    def is_as_made_for(self, redactor: Redactor) -> bool:
        """Whether the fields are all there is to write, and redacted as `redactor` would."""
        attributes = self.__dict__
        return (
            len(attributes) == _ATTRIBUTES
            and self.redactor is redactor
            and not attributes["exc_info"]
            and not attributes["args"]
            and type(attributes["msg"]) is str
        )


def make_record(
    logger: logging.Logger,
    level: int,
    message: str,
    fields: dict[str, Any],
    *,
    redactor: Redactor,
    failure: BaseException | None = None,
) -> logging.LogRecord:
    """A record with these fields; with an ordinary one's attributes, as by `extra`, where others make the records.

    Args:
        logger: The logger that is to handle it.
        level: The level.
        message: The message; what is not printable in it is escaped.
        fields: Names that no record has already, and redacted values.
        redactor: What has redacted them.
        failure: The exception to be logged.
    """
    if not message.isprintable():
        message = escape(message)
    if logging.getLogRecordFactory() is logging.LogRecord and type(logger).makeRecord is logging.Logger.makeRecord:
        record: logging.LogRecord = RequestRecord(logger.name, level, message, fields, redactor)
    else:
        record = logger.makeRecord(logger.name, level, _PLACE, 1, message, (), None)
        record.__dict__.update(fields)
    if failure is not None:
        record.exc_info = (type(failure), failure, failure.__traceback__)
    return record


def _make_template(logger: str, level: int, thread: int) -> dict[str, Any]:
    if len(_templates) >= MAX_TEMPLATES:
        _templates.clear()
    template = logging.LogRecord(logger, level, _PLACE, 1, "", (), None).__dict__
    template[FIELDS] = None
    _templates[logger, level, thread] = template
    return template


def _restore(attributes: dict[str, Any]) -> RequestRecord:
    record = RequestRecord.__new__(RequestRecord)
    record.__dict__.update(attributes)
    record.redactor = None
    return record


_ATTRIBUTES: Final = len(_make_template("", 0, 0))
