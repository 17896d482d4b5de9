"""The record of an exchange: made in a fraction of the time that `logging` takes.

For one line per request, `logging`'s own way of making a record is most of the cost. These have at first no more
than our formatter reads; all that `logging` would have put in comes when somebody looks for it.
"""

from __future__ import annotations

import logging
import os
from time import time
from typing import Any, Final

from asgi_obs.logs.safe import escape
from asgi_obs.redaction import Redactor

__all__ = ["RequestRecord", "make_record"]

FIELDS: Final = "fields"

_LAST: Final = "args"
"""An attribute that comes with the rest."""

# Given as the place the records come from: looking for it would find this library anyway.
_PLACE: Final = __file__


class _Process:
    """The process that runs this; asking the system for every record would take longer than the rest of it."""

    def __init__(self) -> None:
        self.ask()

    def ask(self) -> None:
        self.id = os.getpid()


_process: Final = _Process()
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows cannot fork
    os.register_at_fork(after_in_child=_process.ask)


class RequestRecord(logging.LogRecord):
    """A record whose fields are in one dictionary, and can be read as attributes too.

    Made by `make_record`. Unless somebody looks at the rest, or adds to it, its fields are all there is to write.

    Attributes:
        fields: What `extra` would have made attributes: names and values, redacted.
        redactor: What has redacted them; None if the record came from another process.
    """

    __slots__ = ("redactor",)

    fields: dict[str, Any]
    redactor: Redactor | None

    def __init__(self, logger: str, level: int, message: str, fields: dict[str, Any], redactor: Redactor) -> None:
        self.__dict__ = {
            "name": logger,
            "levelno": level,
            "msg": message,
            "created": time(),
            "process": _process.id,
            FIELDS: fields,
        }
        self.redactor = redactor

    def __getattr__(self, name: str) -> Any:
        attributes = self.__dict__
        if FIELDS in attributes and _LAST not in attributes:
            self._fill_in()
        try:
            return attributes[name] if name in attributes else attributes[FIELDS][name]
        except KeyError:
            raise AttributeError(name) from None

    def __reduce__(self) -> tuple[Any, ...]:
        if _LAST not in self.__dict__:
            self._fill_in()
        return _restore, (self.__dict__,)

    def _fill_in(self) -> None:
        attributes = self.__dict__
        whole = logging.LogRecord(attributes["name"], attributes["levelno"], _PLACE, 1, attributes["msg"], (), None)
        created = attributes["created"]
        whole.relativeCreated -= (whole.created - created) * 1000
        whole.msecs = float(int(created % 1 * 1000))
        for name, value in whole.__dict__.items():
            attributes.setdefault(name, value)

    def is_as_made_for(self, redactor: Redactor) -> bool:
        """Whether the fields are all there is to write, and redacted as `redactor` would."""
        return len(self.__dict__) == _ATTRIBUTES and self.redactor is redactor and type(self.msg) is str


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


def _restore(attributes: dict[str, Any]) -> RequestRecord:
    record = RequestRecord.__new__(RequestRecord)
    record.__dict__.update(attributes)
    record.redactor = None
    return record


_ATTRIBUTES: Final = 6
"""Those that a record is made with."""
