"""`gcp`: what Google Cloud Logging reads from standard output.

The fields it knows (https://cloud.google.com/logging/docs/structured-logging#special-payload-fields) say severity,
request, trace and place; all others are searched as `jsonPayload` by our names. An error is one that Error Reporting
finds, with a stack and without (https://cloud.google.com/error-reporting/docs/formatting-error-messages).
"""

from __future__ import annotations

import logging
from typing import Any, Final

from asgi_obs.logs.profiles.base import OTHERS, Line, standard_level
from asgi_obs.logs.records import RequestRecord
from asgi_obs.logs.safe import safe_text

__all__ = ["CloudLogging"]

_SEVERITIES: Final = {
    "TRACE": "DEBUG",
    "DEBUG": "DEBUG",
    "INFO": "INFO",
    "WARN": "WARNING",
    "ERROR": "ERROR",
    "FATAL": "CRITICAL",
}
_REPORTED: Final = frozenset({"ERROR", "CRITICAL"})
_REPORTED_ERROR: Final = "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent"

_TRACE: Final = "logging.googleapis.com/trace"
_SPAN: Final = "logging.googleapis.com/spanId"
_PLACE: Final = "logging.googleapis.com/sourceLocation"
_LABELS: Final = "logging.googleapis.com/labels"

_LABELLED: Final = ("level", "component", "hostname", "pid", "environment")
_ELSEWHERE: Final = frozenset({"timestamp", "message", "service", "version", *_LABELLED})

_TAKEN: Final = frozenset(
    {
        OTHERS,
        "severity",
        "time",
        "message",
        "httpRequest",
        "serviceContext",
        "stack_trace",
        "@type",
        _TRACE,
        _SPAN,
        _PLACE,
        _LABELS,
        # Read, and taken out of the payload, in a line of anybody's.
        "timestamp",
        "timestampSeconds",
        "timestampNanos",
        "logging.googleapis.com/insertId",
        "logging.googleapis.com/operation",
        "logging.googleapis.com/trace_sampled",
    }
)

# Name of ours, of theirs, the type of ours, and whether theirs is text: 64-bit numbers are, in JSON.
_REQUEST: Final = (
    ("status_code", "status", int, False),
    ("bytes_in", "requestSize", int, True),
    ("bytes_out", "responseSize", int, True),
    ("user_agent", "userAgent", str, False),
    ("client_ip", "remoteIp", str, False),
)

MAX_LATENCY: Final = 1e12
"""Milliseconds."""


class CloudLogging:
    """A line of our schema as Google Cloud Logging reads it.

    Args:
        project: The ID of the project whose traces a line is linked to; without one the trace stays a bare ID.
    """

    def __init__(self, project: str) -> None:
        self._traces = f"projects/{project}/traces/" if project else ""

    def __call__(self, line: Line, record: logging.LogRecord) -> dict[str, Any]:
        """The object that is written."""
        severity = _SEVERITIES[standard_level(line["level"], record)]
        others = {name: value for name, value in line.items() if name not in _ELSEWHERE}
        made: dict[str, Any] = {"severity": severity, "time": line["timestamp"], "message": line["message"]}
        request = _take_request(others)
        if request is not None:
            made["httpRequest"] = request
        self._move_ids(made, others)
        place = _place_of(record)
        if place is not None:
            made[_PLACE] = place
        made[_LABELS] = {name: safe_text(line[name]) for name in _LABELLED}
        made["serviceContext"] = {"service": line["service"], "version": line["version"]}
        _move_error(made, others)
        if not _TAKEN.isdisjoint(others):
            made[OTHERS] = {name: others.pop(name) for name in list(others) if name in _TAKEN}
        made.update(others)
        return made

    def _move_ids(self, made: dict[str, Any], others: Line) -> None:
        if type(others.get("trace_id")) is str:
            made[_TRACE] = self._traces + others.pop("trace_id")
        if type(others.get("span_id")) is str:
            made[_SPAN] = others.pop("span_id")


def _take_request(others: Line) -> dict[str, Any] | None:
    """What the line says of a request; None for one that is not about any."""
    if type(others.get("method")) is not str or type(others.get("path")) is not str:
        return None
    url = others.pop("path")
    if type(others.get("query")) is str:
        url = f"{url}?{others.pop('query')}"
    request: dict[str, Any] = {"requestMethod": others.pop("method"), "requestUrl": url}
    for name, field, kind, as_text in _REQUEST:
        if type(others.get(name)) is kind:
            value = others.pop(name)
            request[field] = str(value) if as_text else value
    duration = others.get("duration_ms")
    if type(duration) in {int, float} and 0 <= duration < MAX_LATENCY:  # type: ignore[operator] # it is a number
        request["latency"] = f"{others.pop('duration_ms') / 1000:.6f}s"
    if type(others.get("http_version")) is str:
        request["protocol"] = f"HTTP/{others.pop('http_version')}"
    return request


def _place_of(record: logging.LogRecord) -> dict[str, Any] | None:
    """Where a record was made; the line of a request was made in here, which is not worth telling."""
    if isinstance(record, RequestRecord) or type(record.lineno) is not int:
        return None
    return {"file": safe_text(record.pathname), "line": str(record.lineno), "function": safe_text(record.funcName)}


def _move_error(made: dict[str, Any], others: Line) -> None:
    error = others.get("error")
    if error is None or made["severity"] not in _REPORTED:
        return
    # With this, the line is an error even if nothing in it looks like a stack.
    made["@type"] = _REPORTED_ERROR
    if isinstance(error, dict) and type(error.get("stack")) is str:
        made["stack_trace"] = error["stack"]
        others["error"] = {name: value for name, value in error.items() if name != "stack"}
