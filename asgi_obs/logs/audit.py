"""`audit_log`: who did what and how it ended, in a log that leaves nothing out.

A line is written through logger `audit` whatever the levels say; no sampling, folding or full queue drops it. With
`AUDIT_LOG_PATH` it is written to a file of its own too, and is on the disk when the call returns: that takes as long
as the disk does, some milliseconds. Everything else costs what any record costs.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from asgi_obs.logs.extra import add_fields
from asgi_obs.logs.files import FileHandler
from asgi_obs.logs.formatter import StructuredLogFormatter
from asgi_obs.logs.handlers import LineHandler
from asgi_obs.logs.levels import AUDIT
from asgi_obs.logs.stdout import StdoutHandler

__all__ = ["AuditHandler", "audit_log"]


class AuditHandler(FileHandler):
    """The handler of a file for the audit log: each line is on the disk before the call that logs it returns.

    Args:
        path: The file.
        retention_days: How long rotated files are kept.
        mode: The permissions of files that are created.
    """

    def __init__(self, path: str, *, retention_days: int = 30, mode: int = 0o640) -> None:
        super().__init__(path, retention_days=retention_days, mode=mode, fsync=True)

    def count(self, level: int) -> None:
        """Nothing: the handler of the root logger counts the record."""


def audit_log(event: str, *, actor: str | None = None, outcome: str | None = None, **fields: Any) -> None:
    """Write one line to the audit log; like any other it has the IDs of its request, and is redacted.

    Where no handler takes it, as before `setup_logging`, it goes to standard output.

    Args:
        event: What happened, such as `user.login`.
        actor: Who did it.
        outcome: How it ended, such as `success` or `denied`.
        **fields: Any others.
    """
    logger = logging.getLogger(AUDIT)
    caller = sys._getframe(1)
    code = caller.f_code
    record = logger.makeRecord(AUDIT, logging.INFO, code.co_filename, caller.f_lineno, event, (), None, code.co_name)
    given = {"event": event, "actor": actor, "outcome": outcome}
    add_fields(record, {**{name: value for name, value in given.items() if value is not None}, **fields})
    # Not by the logger: its level, its filters, those of handlers, and `disabled`, which `logging.config` sets, all
    # leave lines out.
    takers = [
        handler for handler in _handlers(logger) if isinstance(handler, LineHandler) or record.levelno >= handler.level
    ]
    for handler in takers or [_standard_output()]:
        handler.handle(record)


def _handlers(logger: logging.Logger) -> Iterator[logging.Handler]:
    """Those that `logging` would call."""
    current: logging.Logger | None = logger
    while current is not None:
        yield from list(current.handlers)
        current = current.parent if current.propagate else None


@lru_cache(maxsize=1)
def _standard_output() -> LineHandler:
    handler = StdoutHandler()
    handler.setFormatter(StructuredLogFormatter())
    return handler
