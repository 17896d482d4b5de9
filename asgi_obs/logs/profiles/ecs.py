"""`ecs`: the Elastic Common Schema, version 8.

In the shape of Elastic's own logging libraries (https://github.com/elastic/ecs-logging/tree/main/spec): objects in
objects, but for `log.level` and `ecs.version`, and the first three keys in that order. All that the schema has no
field for stands under `asgi_obs` by our name for it, as the schema asks for (`labels` takes neither numbers nor
objects); so does what is not of the type of its field, for which Elasticsearch would refuse the whole line.
"""

from __future__ import annotations

import ipaddress
import logging
from functools import lru_cache
from typing import Any, Final

from asgi_obs.logs.profiles.base import OTHERS, Line
from asgi_obs.logs.safe import safe_text

__all__ = ["profile"]

VERSION: Final = "8.11.0"

_PLACES: Final = {
    "component": ("log", "logger"),
    "service": ("service", "name"),
    "version": ("service", "version"),
    "environment": ("service", "environment"),
    "hostname": ("host", "hostname"),
    "pid": ("process", "pid"),
    # "The id may be contained in a non-standard HTTP header, such as X-Request-ID or X-Correlation-ID."
    "correlation_id": ("http", "request", "id"),
    "trace_id": ("trace", "id"),
    "span_id": ("span", "id"),
    "user_id": ("user", "id"),
    "method": ("http", "request", "method"),
    "status_code": ("http", "response", "status_code"),
    "bytes_in": ("http", "request", "body", "bytes"),
    "bytes_out": ("http", "response", "body", "bytes"),
    "http_version": ("http", "version"),
    "path": ("url", "path"),
    "query": ("url", "query"),
    "scheme": ("url", "scheme"),
    "user_agent": ("user_agent", "original"),
}
_NUMBERS: Final = frozenset({"pid", "status_code", "bytes_in", "bytes_out"})
_ERROR: Final = {"type": "type", "message": "message", "stack": "stack_trace"}
_HEAD: Final = frozenset({"timestamp", "level", "message"})

_OUTCOMES: Final = {
    "completed": "success",
    "error": "failure",
    "incomplete": "failure",
    "client_disconnected": "unknown",
    "cancelled": "unknown",
    "success": "success",
    "failure": "failure",
    "unknown": "unknown",
}
"""Ours, and those of the schema; a status of 500 and above is a failure, whatever became of the response."""

MAX_DURATION: Final = 1e12
"""Milliseconds whose nanoseconds are a number to Elasticsearch."""


def profile(line: Line, record: logging.LogRecord) -> dict[str, Any]:  # noqa: ARG001 - the line says it all
    """A line of our schema in the Elastic Common Schema."""
    made: dict[str, Any] = {
        "@timestamp": line["timestamp"],
        "log.level": safe_text(line["level"]).lower(),
        "message": line["message"],
        "ecs.version": VERSION,
    }
    others: Line = {}
    for name, value in line.items():
        place = _PLACES.get(name)
        if place is None:
            if name not in _HEAD:
                others[name] = value
        elif type(value) is (int if name in _NUMBERS else str):
            node = made
            for key in place[:-1]:
                node = node.setdefault(key, {})
            node[place[-1]] = value
        else:
            others[name] = value
    _move_event(made, others, line.get("status_code"))
    _move_client(made, others)
    _move_error(made, others)
    if others:
        made[OTHERS] = others
    return made


def _move_event(made: dict[str, Any], others: Line, status: object) -> None:
    event: dict[str, Any] = {}
    duration = others.get("duration_ms")
    if type(duration) in {int, float} and 0 <= duration < MAX_DURATION:  # type: ignore[operator] # it is a number
        event["duration"] = int(others.pop("duration_ms") * 1_000_000)
    outcome = others.get("outcome")
    if type(outcome) is str and outcome in _OUTCOMES:
        event["outcome"] = "failure" if type(status) is int and status >= 500 else _OUTCOMES[outcome]
    if event:
        made["event"] = event


def _move_client(made: dict[str, Any], others: Line) -> None:
    """The address of the client; that of a Unix socket or a test client is none to Elasticsearch."""
    address = others.get("client_ip")
    if type(address) is str:
        made["client"] = {"address": others.pop("client_ip")}
        if _is_ip(address):
            made["client"]["ip"] = address


@lru_cache(maxsize=1024)
def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return "%" not in address  # the zone of an IPv6 address


def _move_error(made: dict[str, Any], others: Line) -> None:
    error = others.get("error")
    if isinstance(error, dict):
        known = {field: error[name] for name, field in _ERROR.items() if type(error.get(name)) is str}
        rest = {name: value for name, value in error.items() if _ERROR.get(name) not in known}
    elif type(error) is str:
        known, rest = {"message": error}, {}
    else:
        return
    if known:
        made["error"] = known
        del others["error"]
        if rest:
            others["error"] = rest
