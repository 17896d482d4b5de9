"""loguru as a front end: its messages become records of `logging`, and all that is in `extra` fields.

`configure_loguru()` is all there is to call. Exceptions are written as all others are, so that the values of local
variables, which loguru's own tracebacks show, stay out of the log.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from loguru import logger as loguru_logger

from asgi_obs.classify import error_type
from asgi_obs.errors import report
from asgi_obs.exchange import current_exchange
from asgi_obs.logs import LogContext
from asgi_obs.logs.context import ambient_fields
from asgi_obs.logs.extra import add_fields
from asgi_obs.logs.fields import span_fields
from asgi_obs.logs.safe import json_safe, safe_text
from asgi_obs.redaction import redactor_of

if TYPE_CHECKING:
    from loguru import Message, Record

__all__ = ["configure_loguru"]

_CONTEXT: Final = "asgi_obs.context"
"""An entry of loguru's record: the fields that hold where it was made."""

# To be removed for ours: the one that loguru starts with, later the one before.
_sinks: Final = [0]

_handing_over: Final = ContextVar("asgi_obs.loguru", default=False)


def configure_loguru(*, enqueue: bool = False) -> int:
    """Send loguru's messages to `logging`, and so to whatever `setup_logging` has set up.

    Takes the place of the sink to standard error that loguru starts with; sinks that you added stay. The module that
    logs is the component, and the level that of its logger in `logging`. May be called again.

    Args:
        enqueue: As of loguru's `add`: the records are made in another thread, where those of several processes
            come together.

    Returns:
        The number of the sink, for `logger.remove`.
    """
    with suppress(ValueError):  # has been removed by somebody else
        loguru_logger.remove(_sinks.pop())
    _sinks.append(
        loguru_logger.add(
            _to_logging,
            level=0,
            format="",  # loguru appends the traceback, all we need of it
            filter=_keep_context if enqueue else _is_wanted,
            colorize=False,
            backtrace=False,
            diagnose=False,
            enqueue=enqueue,
        )
    )
    return _sinks[0]


def _is_wanted(said: Record) -> bool:
    # A handler of `logging` that sends records to loguru would get them back for ever.
    return not _handing_over.get() and logging.getLogger(_name_of(said)).isEnabledFor(said["level"].no)


def _keep_context(said: Record) -> bool:
    """As `_is_wanted`; what holds here will not where the record is made, and on its way there it is pickled."""
    wanted = _is_wanted(said)
    if wanted:
        entries: dict[str, Any] = said  # type: ignore[assignment]
        redactor = redactor_of()  # whose copies have no cycles
        entries[_CONTEXT] = {
            name: json_safe(redactor.copy(value))
            for name, value in ambient_fields(current_exchange(), span_fields()).items()
            if value is not None
        }
    return wanted


def _to_logging(message: Message) -> None:
    """The sink; never raises."""
    busy = _handing_over.set(True)
    try:
        said: Mapping[str, Any] = message.record
        record = _record_of(message)
        with LogContext(**said.get(_CONTEXT, {})):
            logging.getLogger(record.name).handle(record)
    except Exception as error:  # noqa: BLE001 - fail open: whoever logs is not to blame
        report("loguru.to_logging", error)
    finally:
        _handing_over.reset(busy)


def _record_of(message: Message) -> logging.LogRecord:
    said = message.record
    name, level = _name_of(said), said["level"]
    exception: Any = said["exception"]
    if exception is not None and exception.type is None:  # `exception=True` where there is none
        exception = None
    enqueued = _CONTEXT in said
    record = logging.getLogger(name).makeRecord(
        name,
        level.no,
        said["file"].path,
        said["line"],
        said["message"],
        (),
        None if enqueued else exception,
        said["function"],
    )
    record.levelname = level.name
    _set_time(record, said["time"].timestamp())
    record.thread, record.threadName = said["thread"].id, said["thread"].name
    record.process, record.processName = said["process"].id, said["process"].name
    if enqueued and exception is not None:
        record.__dict__["error"] = _error(exception.type, exception.value, str(message).strip())
    add_fields(record, said["extra"])
    return record


def _set_time(record: logging.LogRecord, created: float) -> None:
    record.relativeCreated += (created - record.created) * 1000
    record.created = created
    record.msecs = float(int(created % 1 * 1000))


def _error(kind: type[BaseException], value: BaseException | None, stack: str) -> dict[str, str]:
    """The error of a message that was enqueued: neither tracebacks nor all exceptions can be pickled."""
    if value is None:
        return {"type": kind.__qualname__, "stack": stack}
    return {"type": error_type(value), "message": safe_text(value), "stack": stack}


def _name_of(said: Record) -> str:
    return said["name"] or "loguru"
