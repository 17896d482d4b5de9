"""The log lines of statements, from logger `asgi_obs.db`.

=====================  =====  ==================================================================================
message                level  when
=====================  =====  ==================================================================================
SQL Query              DEBUG  before the driver is called
SQL Query Completed    DEBUG  when it has executed the statement
SQL Query Failed       DEBUG  when it has not; the exception itself is for whoever handles it
slow SQL query         WARN   when it took long, either way
repeated SQL query     WARN   when one request has executed a statement too often: a query in a loop (N+1)
=====================  =====  ==================================================================================

Not `sqlalchemy.engine`, at whose DEBUG SQLAlchemy itself logs statements with all their values. A level that is off
costs 0.1 µs.
"""

from __future__ import annotations

import logging
import math
from typing import Any, Final

from asgi_obs.classify import error_type
from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import Exchange
from asgi_obs.integrations.sqlalchemy.normal import MAX_TEXT
from asgi_obs.integrations.sqlalchemy.parameters import Parameters
from asgi_obs.integrations.sqlalchemy.statements import Statement, describe
from asgi_obs.logs import get_logger
from asgi_obs.logs.safe import safe_text
from asgi_obs.redaction import redactor_for
from asgi_obs.settings import Settings

__all__ = ["LOGGER", "QueryLog"]

LOGGER: Final = "asgi_obs.db"

_CODES: Final = ("sqlstate", "pgcode", "sqlite_errorname")
"""The attributes of an exception that hold it: those of psycopg 3 and asyncpg, psycopg 2, sqlite3 (Python 3.11)."""

_log = get_logger(LOGGER)


class QueryLog:
    """Writes the lines of one engine's statements.

    Args:
        slow_seconds: A statement that takes so long or longer is slow; 0 if none is.
        settings: Say what is redacted, in place of the environment; in production no parameters are logged, no values
            that stand in statements, and no messages of drivers, which tell values too.
        hide_parameters: Whether the engine was told to hide parameters: so are messages.

    Raises:
        ConfigurationError: An option has a wrong value.
    """

    def __init__(self, *, slow_seconds: float, settings: Settings | None, hide_parameters: bool) -> None:
        if (
            isinstance(slow_seconds, bool)
            or not isinstance(slow_seconds, (int, float))
            or not 0 <= slow_seconds < math.inf
        ):
            raise ConfigurationError("slow_seconds", slow_seconds, "a number of seconds, 0 for no limit")
        if settings is not None and not isinstance(settings, Settings):
            raise ConfigurationError("settings", settings, "None, or a Settings")
        settings = Settings() if settings is None else settings
        self._slow_seconds = slow_seconds or math.inf
        self._redactor = redactor_for(settings)
        self._is_production = settings.environment == "production"
        self._parameters = None if self._is_production or hide_parameters else Parameters(self._redactor)

    def begins(self, text: str, parameters: tuple[Any, ...], context: Any) -> None:
        """The driver is about to be called.

        Args:
            text: The statement as it goes to the driver.
            parameters: Likewise, those of an executemany in a sequence; none at all if it has none.
            context: SQLAlchemy's execution context.
        """
        if not _log.isEnabledFor(logging.DEBUG):
            return
        fields: dict[str, Any] = {"statement": self._shown(text, context)}
        if self._parameters is not None:
            fields["parameters"] = self._parameters.shown(text, parameters, context)
        _log.debug("SQL Query", extra={**fields, "executemany": context.executemany})

    def succeeded(self, statement: Statement, seconds: float, cursor: Any, context: Any) -> None:
        """The driver has executed a statement.

        Args:
            statement: What it is.
            seconds: How long it took.
            cursor: The driver's cursor.
            context: SQLAlchemy's execution context.
        """
        if seconds >= self._slow_seconds:
            self._slow(statement, seconds)
        if _log.isEnabledFor(logging.DEBUG):
            fields = _fields(statement, seconds)
            rows = getattr(cursor, "rowcount", None)
            if isinstance(rows, int) and rows >= 0:  # -1: the driver does not know
                fields["rows"] = rows
            _log.debug("SQL Query Completed", extra={**fields, "executemany": context.executemany})

    def failed(self, statement: Statement, seconds: float, error: BaseException) -> None:
        """The driver has failed to execute a statement.

        Args:
            statement: What it is.
            seconds: How long that took.
            error: The driver's own exception: SQLAlchemy's tells the parameters too.
        """
        if seconds >= self._slow_seconds:
            self._slow(statement, seconds)
        if _log.isEnabledFor(logging.DEBUG):
            described = {"type": error_type(error), **_code(error)}
            if self._parameters is not None:
                described["message"] = self._redactor.redact_text(safe_text(error))
            _log.debug("SQL Query Failed", extra={**_fields(statement, seconds), "error": described})

    def repeated(self, statement: Statement, times: int, exchange: Exchange) -> None:
        """One exchange has executed a statement so many times."""
        place = {"method": exchange.method, "path": self._redactor.redact_text(exchange.path)}
        route = exchange.resolve_route()
        if route is not None:
            place["route"] = route
        fields = {**_identity(statement), "statement": statement.text, "times": times}
        _log.warning("repeated SQL query", extra={**place, **fields})

    def _shown(self, text: str, context: Any) -> str:
        # What is sensitive may stand anywhere in such a statement: in a comment, between dollars, in JSON.
        if self._is_production or self._redactor.is_sensitive(text):
            return describe(text, context).text
        return self._redactor.redact_text(text)[:MAX_TEXT]

    def _slow(self, statement: Statement, seconds: float) -> None:
        _log.warning("slow SQL query", extra={**_fields(statement, seconds), "statement": statement.text})


def _code(error: BaseException) -> dict[str, str]:
    """The SQLSTATE, or SQLite's name of an error, where the driver tells it."""
    codes = (getattr(error, name, None) for name in _CODES)
    return next(({"code": code} for code in codes if isinstance(code, str)), {})


def _fields(statement: Statement, seconds: float) -> dict[str, Any]:
    # Whole microseconds, as in the line of a request.
    return {"duration_ms": int(seconds * 1e6) / 1000, **_identity(statement)}


def _identity(statement: Statement) -> dict[str, str]:
    return {"operation": statement.operation, "table": statement.table, "fingerprint": statement.fingerprint}
