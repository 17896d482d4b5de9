"""`otel`: OpenTelemetry's log data model, as the JSON of its protocol.

Each line is what the specification calls a JSON lines file of `LogsData`
(https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/), which is meant for logs that are collected from
the standard output of containers. The names of the data model itself (`Timestamp`, `Body`) have no JSON that anything
reads; this is read by a collector's `otlpjsonfile` receiver, by its `filelog` receiver with the `otlpjson` connector,
and by every `/v1/logs`. Attributes are named by the semantic conventions, else as we do.
"""

from __future__ import annotations

import enum
import logging
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from asgi_obs.logs.profiles.base import OTHERS, Line, standard_level
from asgi_obs.logs.safe import dumps, safe_text

__all__ = ["profile"]

_SEVERITIES: Final = {"TRACE": 1, "DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17, "FATAL": 21}

_RESOURCE: Final = {
    "service": "service.name",
    "version": "service.version",
    "environment": "deployment.environment.name",
    "hostname": "host.name",
    "pid": "process.pid",
}
_ATTRIBUTES: Final = {
    "user_id": "user.id",
    "method": "http.request.method",
    "path": "url.path",
    "query": "url.query",
    "scheme": "url.scheme",
    "route": "http.route",
    "status_code": "http.response.status_code",
    "bytes_in": "http.request.body.size",
    "bytes_out": "http.response.body.size",
    "client_ip": "client.address",
    "user_agent": "user_agent.original",
    "http_version": "network.protocol.version",
}
_ERROR: Final = {"type": "exception.type", "message": "exception.message", "stack": "exception.stacktrace"}
_TAKEN: Final = frozenset({OTHERS, *_ATTRIBUTES.values(), *_ERROR.values()})
_NOT_TAKEN_OVER: Final = frozenset({"timestamp", "level", "component", "message", *_RESOURCE, *_TAKEN})

# An ID of another length would make a collector refuse the line.
_IDS: Final = (
    ("trace_id", "traceId", re.compile("(?!0{32})[0-9a-f]{32}")),
    ("span_id", "spanId", re.compile("(?!0{16})[0-9a-f]{16}")),
)

MAX_DEPTH: Final = 40
"""Containers within containers; each takes several levels in this JSON, and no more than 254 can be written."""

_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**63 - 1


def profile(line: Line, record: logging.LogRecord) -> dict[str, Any]:
    """A line of our schema as `LogsData` with one log record."""
    resource = {field: line[name] for name, field in _RESOURCE.items()}
    logs = {"scope": {"name": safe_text(line["component"])}, "logRecords": [_log_record(line, record)]}
    return {"resourceLogs": [{"resource": {"attributes": _pairs(resource.items())}, "scopeLogs": [logs]}]}


def _log_record(line: Line, record: logging.LogRecord) -> dict[str, Any]:
    made: dict[str, Any] = {
        # Whole microseconds: a float has no more. 64-bit numbers are strings in the JSON of Protocol Buffers.
        "timeUnixNano": f"{int(record.created * 1_000_000)}000",
        "severityNumber": _SEVERITIES[standard_level(line["level"], record)],
        "severityText": safe_text(line["level"]),
        "body": _any_value(line["message"]),
    }
    attributes = _attributes(line)
    for name, field, valid in _IDS:
        value = attributes.get(name)
        if type(value) is str and valid.fullmatch(value):
            made[field] = attributes.pop(name)
    made["attributes"] = _pairs(attributes.items())
    return made


def _attributes(line: Line) -> dict[str, Any]:
    attributes = {_ATTRIBUTES.get(name, name): value for name, value in line.items() if name not in _NOT_TAKEN_OVER}
    if not _TAKEN.isdisjoint(line):
        attributes[OTHERS] = {name: value for name, value in line.items() if name in _TAKEN}
    error = attributes.get("error")
    if isinstance(error, dict):
        attributes.update((field, error[name]) for name, field in _ERROR.items() if name in error)
        rest = {name: value for name, value in error.items() if name not in _ERROR}
        if rest:
            attributes["error"] = rest
        else:
            del attributes["error"]
    return attributes


def _pairs(items: Iterable[tuple[Any, Any]], depth: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "key": key if type(key) is str else safe_text(key),
            # Nearly all values are text: they are spared a call.
            "value": {"stringValue": value} if type(value) is str else _any_value(value, depth),
        }
        for key, value in items
    ]


def _any_value(value: Any, depth: int = 0) -> dict[str, Any]:
    """An `AnyValue` of the protocol."""
    kind = type(value)
    if kind is str:
        return {"stringValue": value}
    if kind is int and _INT_MIN <= value <= _INT_MAX:
        return {"intValue": str(value)}
    if kind is bool:
        return {"boolValue": value}
    if value is None:
        return {}
    if isinstance(value, enum.Enum):
        return _any_value(value.value, depth)
    if isinstance(value, float):
        return {"doubleValue": _double(value)}
    if depth >= MAX_DEPTH and isinstance(value, (Mapping, list, tuple, set, frozenset)):
        return {"stringValue": dumps(value).decode()}
    if isinstance(value, Mapping):
        return {"kvlistValue": {"values": _pairs(value.items(), depth + 1)}}
    if isinstance(value, (list, tuple, set, frozenset)):
        return {"arrayValue": {"values": [_any_value(item, depth + 1) for item in value]}}
    return {"stringValue": safe_text(value)}


def _double(value: float) -> float | str:
    """JSON has no names for these; Protocol Buffers have."""
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
