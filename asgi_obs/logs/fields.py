"""A log record -> the fields of its line: collected and redacted.

What both formatters have in common. Of several sources for one field, the record's own `extra` wins over
`LogContext` and `bind`, and these over the exchange.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.trace import INVALID_SPAN, get_current_span

from asgi_obs.exchange import current_exchange, failed_exchange
from asgi_obs.logs.context import ambient_fields, current_layer
from asgi_obs.logs.failure import describe
from asgi_obs.logs.records import FIELDS, RequestRecord
from asgi_obs.logs.safe import message_from, message_of
from asgi_obs.redaction import redactor_for
from asgi_obs.settings import Settings

__all__ = ["REQUEST_FIELDS", "RecordReader", "span_fields"]

RESERVED: Final = frozenset(
    {"timestamp", "level", "service", "component", "message", "hostname", "pid", "environment", "version"}
)
"""What the formatter alone sets: a field of this name moves under `context`."""

_ORDER: Final = (
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
SCHEMA: Final[frozenset[str]] = frozenset(_ORDER)
"""The other fields of the schema, but `context`. One without a value is left out."""

REQUEST_FIELDS: Final = (
    *_ORDER,
    "query",
    "client_ip",
    "user_agent",
    "http_version",
    "scheme",
    "authenticated",
    "close_code",
    "messages_in",
    "messages_out",
    "db_queries",
    "db_duration_ms",
    "sample_rate",
    "context",
    "request_headers",
    "response_headers",
    "request_body",
    "request_body_truncated",
    "response_body",
    "response_body_truncated",
)
"""All that `RequestLoggingMiddleware` sets."""

_STANDARD: Final = len(logging.makeLogRecord({}).__dict__)
"""Attributes that every record has, before those of `extra`."""

# Set by `logging`, by the formatters of others, and by uvicorn (its message once more, with colours).
_NO_FIELDS: Final = frozenset({*logging.makeLogRecord({}).__dict__, "message", "asctime", "color_message"})
_SPECIAL: Final = _NO_FIELDS | RESERVED | {"context"}
_CONSTANTS: Final = frozenset({str, int, float, bool, type(None)})

_NO_SPAN: Final[Mapping[str, str]] = {}


class RecordReader:
    """Reads the message and the fields of records.

    Args:
        settings: Says what is redacted, and whether stack traces may be logged.
    """

    def __init__(self, settings: Settings) -> None:
        self.redactor = redactor_for(settings)
        self._stack_traces = settings.stack_traces

    def message(self, record: logging.LogRecord) -> str:
        """The message, redacted."""
        arguments: Any = record.args
        if type(arguments) is not tuple and isinstance(arguments, Mapping):
            # Its keys say what is sensitive, the message may not.
            return self.redactor.redact_text(message_from(record.msg, self.redactor.redact(arguments)))
        message = message_of(record)
        if arguments:
            return self.redactor.redact_message(message, record.msg, arguments)
        return self.redactor.redact_text(message)

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """Everything but the reserved fields, redacted: those of the schema, others, `error`, `context`."""
        failure = _exception_of(record) if record.exc_info else None
        # A record of a request says itself which exchange it is about.
        found, context = ({}, {}) if isinstance(record, RequestRecord) else self._ambient(failure)
        given, beside = _given(record)
        error = None
        if failure is not None or record.exc_text or "error" in given or "error" in found:
            error = self._error(record, failure, given.pop("error", found.pop("error", None)), beside)
        if record.stack_info and self._stack_traces:
            beside["stack_info"] = record.stack_info
        found.update(self.redactor.redact_fields(given))
        if error is not None:
            found["error"] = self.redactor.redact_field("error", error)
        if beside:
            context.update(self.redactor.redact_fields(beside))
        if context:
            found["context"] = context
        return found

    def _ambient(self, failure: BaseException | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """The fields that a record gets from where it is logged, redacted: those of the schema, and others."""
        exchange = current_exchange()
        if exchange is None and failure is not None:
            exchange = failed_exchange(failure)
        span = span_fields()
        if exchange is not None:
            return self._split(ambient_fields(exchange, span))
        layer = current_layer()
        if layer is None:
            return {**span}, {}
        seen = layer.seen
        if seen is None or seen[0] is not self:
            fields = {**layer.around, **layer.fields}
            seen = (self, *self._split(fields))
            if all(type(value) in _CONSTANTS for value in fields.values()):
                layer.seen = seen
        return {**seen[1], **span}, {**seen[2]}

    def _split(self, fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        found: dict[str, Any] = {}
        context: dict[str, Any] = {}
        for name, value in fields.items():
            if name not in SCHEMA:
                _add_context(context, name, value)
            elif value is not None:
                found[name] = value
        return self.redactor.redact_fields(found), self.redactor.redact_fields(context)

    def _error(
        self, record: logging.LogRecord, failure: BaseException | None, given: Any, context: dict[str, Any]
    ) -> Any:
        """The error of a record: its exception, else what was given as `error`."""
        if failure is not None:
            if given is not None:
                context["error"] = given
            return describe(failure, stack=self._stack_traces)
        if isinstance(given, BaseException):
            return describe(given, stack=self._stack_traces)
        if isinstance(given, Mapping) and not self._stack_traces:
            return _without_stacks(given)
        if given is None and record.exc_text and not record.exc_info and self._stack_traces:
            return {"stack": record.exc_text}  # of a record that came from another process
        return given


def _given(record: logging.LogRecord) -> tuple[dict[str, Any], dict[str, Any]]:
    """What came with a record as `extra`: fields, and what goes under `context`."""
    given: dict[str, Any] = {}
    beside: dict[str, Any] = {}
    attributes = record.__dict__
    names = [*attributes]
    if type(record) is logging.LogRecord:
        names = names[_STANDARD:]  # where `logging` alone has made the record its own attributes come first
    elif isinstance(record, RequestRecord):
        attributes = {**attributes[FIELDS], **attributes}
        del attributes[FIELDS]
        names = [*attributes]
    for name in names:
        value = attributes[name]
        if name in _SPECIAL:
            if name not in _NO_FIELDS:
                _add_context(beside, name, value)
        elif value is not None or name not in SCHEMA:
            given[name] = value
    return given, beside


def _add_context(context: dict[str, Any], name: str, value: Any) -> None:
    if name == "context" and isinstance(value, Mapping):
        context.update(value)
    else:
        context[name] = value


def _without_stacks(error: Any) -> Any:
    """An error without its stack, and those of its causes and members."""
    if isinstance(error, Mapping):
        return {name: _without_stacks(value) for name, value in error.items() if name != "stack"}
    return list(map(_without_stacks, error)) if type(error) in {list, tuple} else error


def _exception_of(record: logging.LogRecord) -> BaseException | None:
    info: Any = record.exc_info
    error = info[1] if isinstance(info, tuple) else info
    return error if isinstance(error, BaseException) else None


def span_fields() -> Mapping[str, str]:
    """`trace_id` and `span_id` of OpenTelemetry's current span; nothing if there is none."""
    current = get_current_span()
    if current is INVALID_SPAN:
        return _NO_SPAN
    span = current.get_span_context()
    if not span.is_valid:
        return _NO_SPAN
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
