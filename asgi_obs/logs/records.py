"""Log records made in a third of the time: for one line per request, `logging`'s own way is most of the cost.

The records are those of `logging`, except that `taskName` is not looked up. What `logging.setLogRecordFactory` and a
logger's own `makeRecord` would do is done as ever.
"""

from __future__ import annotations

import logging
import os
from threading import current_thread, get_ident
from time import time
from typing import Any, Final

from asgi_obs.logs.safe import escape
from asgi_obs.redaction import Redactor

__all__ = ["CANONICAL", "canonical_fields", "make_record"]

CANONICAL: Final = "_asgi_obs_fields"
"""The first attribute that is added to a record: the dictionary of the others, and the redactor of the query."""

STANDARD_ATTRIBUTES: Final = len(logging.makeLogRecord({}).__dict__)

# Given as the place the records come from: looking for it would find this library anyway.
_PLACE: Final = __file__

_templates: dict[tuple[str, int], dict[str, Any]] = {}
# A child process has a name and an ID of its own.
os.register_at_fork(after_in_child=_templates.clear)


def make_record(
    logger: logging.Logger,
    level: int,
    message: str,
    fields: dict[str, Any],
    *,
    redactor: Redactor,
    failure: BaseException | None = None,
) -> logging.LogRecord:
    """A record with these fields as attributes, as `extra` would set them.

    Args:
        logger: The logger that is to handle it.
        level: The level.
        message: The message; what is not printable in it is escaped.
        fields: Names that no record has already, and values without a need for looking into them, except
            `path`, `user_agent` and `context`.
        redactor: What has redacted `query`.
        failure: The exception to be logged.
    """
    message = escape(message)
    exc_info = None if failure is None else (type(failure), failure, failure.__traceback__)
    if logging.getLogRecordFactory() is logging.LogRecord and type(logger).makeRecord is logging.Logger.makeRecord:
        record = logging.LogRecord.__new__(logging.LogRecord)
        attributes = record.__dict__ = _attributes(logger.name, level)
        attributes["msg"] = message
        attributes["exc_info"] = exc_info
    else:
        record = logger.makeRecord(logger.name, level, _PLACE, 1, message, (), exc_info)
        attributes = record.__dict__
    attributes[CANONICAL] = fields, redactor
    attributes.update(fields)
    return record


def canonical_fields(record: logging.LogRecord) -> tuple[dict[str, Any], Redactor] | None:
    """The fields of a record from `make_record`, and the redactor, if nobody added or changed one since."""
    attributes = record.__dict__
    made: tuple[dict[str, Any], Redactor] | None = attributes.get(CANONICAL)
    if made is not None and list(attributes.values())[STANDARD_ATTRIBUTES + 1 :] == list(made[0].values()):
        return made
    return None


def _attributes(name: str, level: int) -> dict[str, Any]:
    template = _templates.get((name, level))
    if template is None:
        template = logging.LogRecord(name, level, _PLACE, 1, "", (), None).__dict__
        template[CANONICAL] = None
        _templates[name, level] = template
    attributes = template.copy()
    created = attributes["created"] = time()
    attributes["msecs"] = float(int(created % 1 * 1000))
    attributes["relativeCreated"] += (created - template["created"]) * 1000
    if logging.logThreads:
        attributes["thread"] = get_ident()
        attributes["threadName"] = current_thread().name
    return attributes
