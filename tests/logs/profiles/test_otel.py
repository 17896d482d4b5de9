from __future__ import annotations

import datetime as dt
import enum
import math
from collections.abc import Callable
from typing import Any

import pytest

PROFILE = "otel"

Render = Callable[..., dict[str, Any]]


class Colour(enum.Enum):
    RED = "red"


def parts_of(made: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The resource, the scope and the one log record."""
    ((resource_logs,),) = made.values()
    (scope_logs,) = resource_logs["scopeLogs"]
    (log_record,) = scope_logs["logRecords"]
    return resource_logs["resource"], scope_logs["scope"], log_record


def log_record_of(made: dict[str, Any]) -> dict[str, Any]:
    return parts_of(made)[2]


def attributes_of(made: dict[str, Any]) -> dict[str, Any]:
    pairs = log_record_of(made)["attributes"]
    attributes = {pair["key"]: pair["value"] for pair in pairs}
    assert len(attributes) == len(pairs)
    return attributes


def text(value: str) -> dict[str, Any]:
    return {"stringValue": value}


def test_a_line_is_one_log_record_of_a_resource_and_a_scope(render: Render) -> None:
    resource, scope, log_record = parts_of(render())
    assert resource == {
        "attributes": [
            {"key": "service.name", "value": text("shop")},
            {"key": "service.version", "value": text("1.2.3")},
            {"key": "deployment.environment.name", "value": text("testing")},
            {"key": "host.name", "value": text("web-1")},
            {"key": "process.pid", "value": {"intValue": "4242"}},
        ]
    }
    assert scope == {"name": "shop.cart"}
    assert log_record == {
        "timeUnixNano": "1742552130123456000",
        "severityNumber": 9,
        "severityText": "INFO",
        "body": text("hello"),
        "attributes": [],
    }


@pytest.mark.parametrize(
    ("level", "number"), [("TRACE", 1), ("DEBUG", 5), ("INFO", 9), ("WARN", 13), ("ERROR", 17), ("FATAL", 21)]
)
def test_a_level_has_its_number(render: Render, level: str, number: int) -> None:
    log_record = log_record_of(render(level=level))
    assert (log_record["severityNumber"], log_record["severityText"]) == (number, level)


def test_a_request_has_the_attributes_of_the_semantic_conventions(
    render: Render, request_fields: dict[str, Any]
) -> None:
    made = render(**request_fields)
    log_record = log_record_of(made)
    assert (log_record["traceId"], log_record["spanId"]) == ("a" * 32, "b" * 16)
    assert attributes_of(made) == {
        "correlation_id": text("c-1"),
        "user.id": text("u-1"),
        "http.request.method": text("GET"),
        "url.path": text("/items/3"),
        "http.route": text("/items/{item_id}"),
        "http.response.status_code": {"intValue": "200"},
        "duration_ms": {"doubleValue": 1.25},
        "ttfb_ms": {"doubleValue": 1.1},
        "http.request.body.size": {"intValue": "7"},
        "http.response.body.size": {"intValue": "12"},
        "outcome": text("completed"),
        "url.query": text("a=1"),
        "client.address": text("127.0.0.1"),
        "user_agent.original": text("curl/8"),
        "network.protocol.version": text("1.1"),
        "url.scheme": text("http"),
        "authenticated": {"boolValue": False},
        "context": {"kvlistValue": {"values": [{"key": "cart", "value": {"intValue": "5"}}]}},
    }


@pytest.mark.parametrize("trace_id", ["abc", "A" * 32, "0" * 32, 7, None])
def test_an_id_that_is_none_stays_an_attribute(render: Render, trace_id: Any) -> None:
    made = render(trace_id=trace_id)
    assert "traceId" not in log_record_of(made)
    assert "trace_id" in attributes_of(made)


def test_an_error_is_an_exception(render: Render) -> None:
    attributes = attributes_of(render(error={"type": "ValueError", "message": "bad", "stack": "Traceback"}))
    assert attributes == {
        "exception.type": text("ValueError"),
        "exception.message": text("bad"),
        "exception.stacktrace": text("Traceback"),
    }


def test_what_else_an_error_has_is_kept(render: Render) -> None:
    attributes = attributes_of(render(error={"type": "ValueError", "causes": [{"type": "OSError"}]}))
    cause = {"kvlistValue": {"values": [{"key": "type", "value": text("OSError")}]}}
    assert attributes["error"] == {
        "kvlistValue": {"values": [{"key": "causes", "value": {"arrayValue": {"values": [cause]}}}]}
    }
    assert attributes_of(render(error="bad"))["error"] == text("bad")


def test_fields_of_others_never_stand_where_the_conventions_have_their_own(render: Render) -> None:
    theirs = {"http.route": "x", "exception.type": "y", "asgi_obs": "z"}
    attributes = attributes_of(render(route="/a", **theirs))
    assert attributes["http.route"] == text("/a")
    pairs = [{"key": name, "value": text(value)} for name, value in theirs.items()]
    assert attributes["asgi_obs"] == {"kvlistValue": {"values": pairs}}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, {}),
        (True, {"boolValue": True}),
        (2**63 - 1, {"intValue": str(2**63 - 1)}),
        (2**63, {"stringValue": str(2**63)}),
        (math.nan, {"doubleValue": "NaN"}),
        (math.inf, {"doubleValue": "Infinity"}),
        (-math.inf, {"doubleValue": "-Infinity"}),
        (("a", 1), {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "1"}]}}),
        ({1}, {"arrayValue": {"values": [{"intValue": "1"}]}}),
        ({1: "a"}, {"kvlistValue": {"values": [{"key": "1", "value": {"stringValue": "a"}}]}}),
        (b"abc", {"stringValue": "abc"}),
        (Colour.RED, {"stringValue": "red"}),
        (dt.date(2025, 3, 21), {"stringValue": "2025-03-21"}),
    ],
)
def test_a_value_has_the_type_that_the_protocol_has_for_it(render: Render, value: Any, expected: Any) -> None:
    assert attributes_of(render(item=value)) == {"item": expected}
