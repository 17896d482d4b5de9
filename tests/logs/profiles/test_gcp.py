from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import pytest

from asgi_obs.logs.profiles.gcp import CloudLogging
from asgi_obs.logs.records import make_record
from asgi_obs.redaction import redactor_of

PROFILE = "gcp"

Render = Callable[..., dict[str, Any]]

PLACE = "logging.googleapis.com/sourceLocation"
LABELS = "logging.googleapis.com/labels"
TRACE = "logging.googleapis.com/trace"
SPAN = "logging.googleapis.com/spanId"


def test_a_line_has_the_fields_that_cloud_logging_knows(render: Render) -> None:
    assert render() == {
        "severity": "INFO",
        "time": "2025-03-21T10:15:30.123Z",
        "message": "hello",
        PLACE: {"file": "/srv/shop/cart.py", "line": "42", "function": "add"},
        LABELS: {
            "level": "INFO",
            "component": "shop.cart",
            "hostname": "web-1",
            "pid": "4242",
            "environment": "testing",
        },
        "serviceContext": {"service": "shop", "version": "1.2.3"},
    }


@pytest.mark.parametrize(
    ("level", "severity"),
    [
        ("TRACE", "DEBUG"),
        ("DEBUG", "DEBUG"),
        ("INFO", "INFO"),
        ("WARN", "WARNING"),
        ("ERROR", "ERROR"),
        ("FATAL", "CRITICAL"),
    ],
)
def test_a_level_has_its_severity_and_is_a_label(render: Render, level: str, severity: str) -> None:
    made = render(level=level)
    assert (made["severity"], made[LABELS]["level"]) == (severity, level)


def test_a_request_is_an_http_request(render: Render, request_fields: dict[str, Any]) -> None:
    made = render(**request_fields)
    assert made["httpRequest"] == {
        "requestMethod": "GET",
        "requestUrl": "/items/3?a=1",
        "status": 200,
        "requestSize": "7",
        "responseSize": "12",
        "userAgent": "curl/8",
        "remoteIp": "127.0.0.1",
        "latency": "0.001250s",
        "protocol": "HTTP/1.1",
    }
    assert (made["correlation_id"], made["route"], made["ttfb_ms"]) == ("c-1", "/items/{item_id}", 1.1)
    assert (made["scheme"], made["user_id"], made["context"]) == ("http", "u-1", {"cart": 5})
    assert not {"method", "path", "query", "status_code", "duration_ms", "trace_id"} & made.keys()


def test_a_line_about_no_request_keeps_its_fields(render: Render) -> None:
    for theirs in ({"path": "/srv/x", "duration_ms": 5}, {"method": "GET"}, {"method": "GET", "path": 5}):
        made = render(**theirs)
        assert "httpRequest" not in made
        assert made.items() >= theirs.items()


@pytest.mark.parametrize(
    "strange",
    [{"status_code": "200"}, {"duration_ms": math.nan}, {"duration_ms": "1"}, {"http_version": None}, {"query": 5}],
)
def test_a_value_of_another_type_than_its_field_stays_beside_it(render: Render, strange: dict[str, Any]) -> None:
    made = render(method="GET", path="/x", **strange)
    assert made["httpRequest"] == {"requestMethod": "GET", "requestUrl": "/x"}
    assert made.items() >= strange.items()


def test_a_trace_is_linked_to_its_project(render: Render) -> None:
    line = {**dict.fromkeys(("timestamp", "message", "service", "version", "component", "hostname", "pid"), "-")}
    line.update(level="INFO", environment="testing", trace_id="a" * 32, span_id="b" * 16)
    record = logging.makeLogRecord({})
    made = CloudLogging("acme")(line, record)
    assert (made[TRACE], made[SPAN]) == (f"projects/acme/traces/{'a' * 32}", "b" * 16)
    assert CloudLogging("")(line, record)[TRACE] == "a" * 32


def test_an_id_that_is_no_text_is_kept(render: Render) -> None:
    made = render(trace_id=5, span_id=None)
    assert (made["trace_id"], made["span_id"]) == (5, None)
    assert not {TRACE, SPAN} & made.keys()


def test_the_line_of_a_request_does_not_say_where_this_library_made_it(render: Render) -> None:
    record = make_record(logging.getLogger("x"), logging.INFO, "m", {}, redactor=redactor_of())
    assert PLACE not in render(record=record)
    assert PLACE not in render(record=logging.makeLogRecord({"lineno": None}))


def test_an_error_is_found_by_error_reporting(render: Render) -> None:
    error = {"type": "ValueError", "message": "bad", "stack": "Traceback"}
    made = render(level="ERROR", error=error)
    assert made["@type"].endswith(".ReportedErrorEvent")
    assert made["stack_trace"] == "Traceback"
    assert made["error"] == {"type": "ValueError", "message": "bad"}


@pytest.mark.parametrize("error", [{"type": "ValueError", "message": "bad"}, "bad", {"stack": 5}])
def test_an_error_without_a_stack_is_found_too(render: Render, error: Any) -> None:
    made = render(level="FATAL", error=error)
    assert "@type" in made
    assert "stack_trace" not in made
    assert made["error"] == error


def test_an_error_that_was_only_a_warning_is_not_reported(render: Render) -> None:
    error = {"type": "ValueError", "stack": "Traceback"}
    made = render(level="WARN", error=error)
    assert not {"@type", "stack_trace"} & made.keys()
    assert made["error"] == error


def test_fields_of_others_never_stand_where_cloud_logging_has_its_own(render: Render) -> None:
    theirs = {"severity": 1, "time": 2, "timestampNanos": 3, TRACE: 4, "stack_trace": 5, "asgi_obs": 6}
    made = render(item="x", **theirs)
    assert made["asgi_obs"] == theirs
    assert (made["severity"], made["item"]) == ("INFO", "x")
