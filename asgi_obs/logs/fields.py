"""A log record -> the fields of its line: collected, in the order of the schema, redacted.

What both formatters have in common. Of several sources for one field, the record's own `extra` wins over
`LogContext` and `bind`, and these over the exchange.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.trace import get_current_span

from asgi_obs.classify import error_type
from asgi_obs.exchange import current_exchange, failed_exchange
from asgi_obs.logs.context import ambient_fields
from asgi_obs.logs.records import FIELDS, RequestRecord
from asgi_obs.logs.safe import message_of, safe_text
from asgi_obs.redaction import redactor_of
from asgi_obs.settings import Settings

__all__ = ["REQUEST_FIELDS", "RecordReader", "span_fields"]

RESERVED: Final = frozenset(
    {"timestamp", "level", "service", "component", "message", "hostname", "pid", "environment", "version"}
)
"""What the formatter alone sets: a field of this name moves under `context`."""

SCHEMA: Final = (
    "correlation_id",
    "trace_id",
    "span_id",
    "user_id",
    "request_id",
    "method",
    "path",
    "route",
    "status_code",
    "duration_ms",
    "ttfb_ms",
    "bytes_in",
    "bytes_out",
    "outcome",
    "error",
)
"""The other fields of the schema, but `context`, in their order. One without a value is left out."""

REQUEST_FIELDS: Final = (
    *SCHEMA,
    "query",
    "client_ip",
    "user_agent",
    "http_version",
    "scheme",
    "authenticated",
    "close_code",
    "messages_in",
    "messages_out",
    "context",
)
"""All that `RequestLoggingMiddleware` sets."""

_SCHEMA_NAMES: Final[frozenset[str]] = frozenset(SCHEMA)
# Set by `logging`, by the formatters of others, and by uvicorn (its message once more, with colours).
_NO_FIELDS: Final = frozenset({*logging.makeLogRecord({}).__dict__, "message", "asctime", "color_message"})
_NO_SPAN: Final[Mapping[str, str]] = {}


class RecordReader:
    """Reads the message and the fields of records.

    Args:
        settings: Says what is redacted, and whether stack traces may be logged.
    """

    def __init__(self, settings: Settings) -> None:
        self.redactor = redactor_of(settings.sensitive_keys)
        self._stack_traces = settings.stack_traces

    def message(self, record: logging.LogRecord) -> str:
        """The message, redacted."""
        return self.redactor.redact_text(message_of(record))

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """Everything but the reserved fields, redacted: those of the schema, others, `error`, `context`."""
        found: dict[str, Any] = {}
        context: dict[str, Any] = {}
        failure = _exception_of(record)
        attributes = record.__dict__
        if isinstance(record, RequestRecord):  # says itself which exchange it is about
            attributes = {**attributes[FIELDS], **attributes}
            del attributes[FIELDS]
        else:
            exchange = current_exchange() or failed_exchange(failure)
            for source in ambient_fields(exchange, span_fields()):
                for name, value in source.items():
                    if name not in _SCHEMA_NAMES:
                        _add_context(context, name, value)
                    elif value is not None:
                        found[name] = value
        for name, value in attributes.items():
            if name in _NO_FIELDS:
                continue
            if name in RESERVED or name == "context":
                _add_context(context, name, value)
            elif value is not None or name not in _SCHEMA_NAMES:
                found[name] = value
        error = self._error(record, failure, found.pop("error", None), context)
        if record.stack_info and self._stack_traces:
            context["stack_info"] = record.stack_info
        return self._redacted(found, error, context)

    def _redacted(self, found: dict[str, Any], error: Any, context: dict[str, Any]) -> dict[str, Any]:
        ordered: dict[str, Any] = {name: found.pop(name) for name in SCHEMA if name in found}
        ordered.update(found)
        if error is not None:
            ordered["error"] = error
        if context:
            ordered["context"] = context
        redact = self.redactor.redact_field
        return {name: redact(name, value) for name, value in ordered.items()}

    def _error(
        self, record: logging.LogRecord, failure: BaseException | None, given: Any, context: dict[str, Any]
    ) -> Any:
        """The error of a record: its exception, else what was given as `error`."""
        if failure is not None:
            if given is not None:
                context["error"] = given
            return self._describe(failure)
        if isinstance(given, BaseException):
            return self._describe(given)
        if isinstance(given, dict) and not self._stack_traces:
            return {name: value for name, value in given.items() if name != "stack"}
        if given is None and record.exc_text and self._stack_traces:  # a record that came from another process
            return {"stack": record.exc_text}
        return given

    def _describe(self, error: BaseException) -> dict[str, str]:
        described = {"type": error_type(error), "message": safe_text(error)}
        if self._stack_traces:
            described["stack"] = _stack_of(error)
        return described


def _add_context(context: dict[str, Any], name: str, value: Any) -> None:
    if name == "context" and isinstance(value, Mapping):
        context.update(value)
    else:
        context[name] = value


def _exception_of(record: logging.LogRecord) -> BaseException | None:
    info: Any = record.exc_info
    error = info[1] if isinstance(info, tuple) else info
    return error if isinstance(error, BaseException) else None


def _stack_of(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception as failure:  # noqa: BLE001 - an exception with attributes that raise
        return f"<no stack: {type(failure).__name__}>"


def span_fields() -> Mapping[str, str]:
    """`trace_id` and `span_id` of OpenTelemetry's current span; nothing if there is none."""
    span = get_current_span().get_span_context()
    if not span.is_valid:
        return _NO_SPAN
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
