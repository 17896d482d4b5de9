"""A story is whole when every part is there, and each part that is not is named."""

from __future__ import annotations

import copy
import dataclasses
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from examples.cortex.__main__ import conclude
from examples.cortex.samples import Samples
from examples.cortex.story import HEALTH_PATHS, PARTS, ROUTE, Health, Story, Told, missing

TRACE_ID, PARENT_ID, SPAN_ID = "a" * 32, "b" * 16, "c" * 16
TOLD = Told("story-1", TRACE_ID, PARENT_ID, 201, "story-1", "/api/workspaces/1/conversations/2/messages")
OF_ROUTE = f'method="POST",endpoint="{ROUTE}"'

BEFORE = f"""
http_requests_total{{{OF_ROUTE},status_code="201"}} 4
http_request_duration_seconds_bucket{{{OF_ROUTE},le="0.01"}} 4
http_request_duration_seconds_bucket{{{OF_ROUTE},le="+Inf"}} 4
http_request_duration_seconds_count{{{OF_ROUTE}}} 4
http_request_duration_seconds_sum{{{OF_ROUTE}}} 1
"""
AFTER = f"""
http_requests_total{{{OF_ROUTE},status_code="201"}} 5
http_requests_total{{method="GET",endpoint="/fail",status_code="500"}} 1
http_requests_total{{method="GET",endpoint="__unmatched__",status_code="404"}} 1
http_requests_total{{method="GET",endpoint="__redirect__",status_code="307"}} 1
http_requests_total{{method="GET",endpoint="/admin/{{area}}",status_code="200"}} 1
http_request_duration_seconds_bucket{{{OF_ROUTE},le="0.01"}} 5
http_request_duration_seconds_bucket{{{OF_ROUTE},le="+Inf"}} 5
http_request_duration_seconds_count{{{OF_ROUTE}}} 5
http_request_duration_seconds_sum{{{OF_ROUTE}}} 1.0025
http_time_to_first_byte_seconds_count{{{OF_ROUTE}}} 1
http_background_duration_seconds_count{{endpoint="{ROUTE}"}} 1
http_request_body_bytes_total{{{OF_ROUTE}}} 10
http_response_body_bytes_total{{{OF_ROUTE}}} 20
http_exceptions_total{{method="GET",endpoint="/fail",exception="ExportError"}} 1
http_client_disconnects_total{{method="GET",endpoint="/stream"}} 1
websocket_connections_total{{endpoint="/api/live/{{conversation_id}}",close_code="1000"}} 1
sse_connection_duration_seconds_count{{endpoint="/stream",outcome="completed"}} 1
"""


def line(message: str, component: str, **more: Any) -> dict[str, Any]:
    return {
        "timestamp": "2025-03-21T10:15:30.123Z",
        "level": "INFO",
        "component": component,
        "message": message,
        "correlation_id": TOLD.correlation_id,
        "trace_id": TRACE_ID,
        **more,
    }


def span(name: str, parent: str, kind: str = "INTERNAL", span_id: str = "d" * 16) -> dict[str, Any]:
    return {
        "name": name,
        "context": {"trace_id": f"0x{TRACE_ID}", "span_id": f"0x{span_id}"},
        "kind": f"SpanKind.{kind}",
        "parent_id": f"0x{parent}",
        "start_time": "2025-03-21T10:15:30.120000Z",
        "end_time": "2025-03-21T10:15:30.122500Z",
    }


ERROR = {"type": "ExportError", "message": "cannot export", "stack": "Traceback\n  File examples/cortex/service.py\n"}
FAILED = line(
    "GET /fail 500", "asgi_obs.request", correlation_id="x", method="GET", route="/fail", status_code=500, error=ERROR
) | {"level": "ERROR", "duration_ms": 1.0}

WHOLE = Story(
    told=TOLD,
    token="t-secret",
    records=[
        line("message stored", "examples.cortex.service"),
        line("INSERT INTO messages (id) VALUES (?)", "sqlalchemy.engine.Engine"),
        line("POST", "asgi_obs.request", route=ROUTE, status_code=201, user_id="ada", duration_ms=2.5),
        line("conversation summarised", "examples.cortex.service"),
        FAILED,
    ],
    spans=[
        span(f"POST {ROUTE}", PARENT_ID, "SERVER", SPAN_ID),
        span("store message", SPAN_ID),
        span("summarise conversation", SPAN_ID),
    ],
    before=Samples.parse(BEFORE),
    after=Samples.parse(AFTER),
    health={
        path: Health(200, {"status": "healthy", "checks": {"database": {"status": "healthy", "duration_ms": 1}}})
        for path in HEALTH_PATHS
    },
)


def without_line(message: str) -> Story:
    return dataclasses.replace(WHOLE, records=[record for record in WHOLE.records if message not in record["message"]])


def without_metric(name: str) -> Story:
    kept = tuple(entry for entry in WHOLE.after.entries if name not in str(entry))
    return dataclasses.replace(WHOLE, after=Samples(kept))


def without_span(name: str) -> Story:
    return dataclasses.replace(WHOLE, spans=[span for span in WHOLE.spans if not span["name"].startswith(name)])


def with_record(index: int, **changed: Any) -> Story:
    records = copy.deepcopy(WHOLE.records)
    records[index].update(changed)
    return dataclasses.replace(WHOLE, records=records)


DAMAGED: dict[str, Callable[[], Story]] = {
    "answer: 201 with the correlation ID it was sent": lambda: dataclasses.replace(
        WHOLE, told=dataclasses.replace(TOLD, echoed_id=None)
    ),
    "log: the application's line": lambda: without_line("message stored"),
    "log: a library's line": lambda: without_line("INSERT"),
    "log: the background task's line": lambda: without_line("summarised"),
    "log: one line that sums up, with route, status and user": lambda: with_record(2, route="/raw/path"),
    "log: the trace ID on every line": lambda: with_record(3, trace_id=None),
    "log: every line one JSON object": lambda: dataclasses.replace(WHOLE, broken=["Traceback"]),
    "log: the bearer token nowhere": lambda: with_record(1, query="t-secret"),
    "log: the failing route's exception": lambda: without_line("/fail"),
    "metrics: the request, once": lambda: dataclasses.replace(WHOLE, before=WHOLE.after),
    "metrics: its duration": lambda: without_metric("http_request_duration_seconds_count"),
    "metrics: its time to first byte": lambda: without_metric("http_time_to_first_byte_seconds_count"),
    "metrics: its background task": lambda: without_metric("http_background_duration_seconds_count"),
    "metrics: its bytes": lambda: without_metric("http_response_body_bytes_total"),
    "metrics: the failing route's exception": lambda: without_metric("http_exceptions_total"),
    "metrics: the scanner under one label": lambda: without_metric("__unmatched__"),
    "metrics: the redirect under one label": lambda: without_metric("__redirect__"),
    "metrics: the client that left": lambda: without_metric("http_client_disconnects_total"),
    "metrics: the WebSockets": lambda: without_metric("websocket_connections_total"),
    "metrics: the event streams": lambda: without_metric("sse_connection_duration_seconds_count"),
    "metrics: the mounted application": lambda: without_metric("/admin/"),
    "trace: the server's span, a child of the client's": lambda: without_span("POST"),
    "trace: the application's span": lambda: without_span("store"),
    "trace: the background task's span": lambda: without_span("summarise"),
    "log, metric and span agree on the duration": lambda: with_record(2, duration_ms=302.5),
    "health: ready, alive, and the database checked": lambda: dataclasses.replace(
        WHOLE, health={**WHOLE.health, "/health/ready": Health(503, {"status": "not_ready"})}
    ),
}


def printed(story: Story) -> tuple[int, str]:
    output = io.StringIO()
    code = conclude(story, 1.0, Console(file=output, width=120))
    return code, output.getvalue()


def test_a_whole_story_ends_with_zero() -> None:
    assert missing(WHOLE) == []
    code, text = printed(WHOLE)
    assert code == 0
    assert f"{len(PARTS)} of {len(PARTS)} parts are there" in text
    assert "missing:" not in text


def test_every_part_can_be_missing() -> None:
    assert set(DAMAGED) == set(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_is_named_and_ends_with_one(part: str) -> None:
    story = DAMAGED[part]()
    assert part in missing(story)
    code, text = printed(story)
    assert code == 1
    assert f"missing: {part}" in text


def test_a_story_of_nothing_lacks_every_part_that_something_must_be_there_for() -> None:
    empty = Story(told=dataclasses.replace(TOLD, status=500), token="t-secret")
    assert set(missing(empty)) == set(PARTS) - {"log: the bearer token nowhere"}
    assert printed(empty)[0] == 1


def test_a_quantile_is_interpolated_inside_its_bucket() -> None:
    samples = Samples.parse('d_bucket{le="1"} 0\nd_bucket{le="2"} 8\nd_bucket{le="4"} 10\nd_bucket{le="+Inf"} 10\n')
    assert samples.quantile(0.5, "d") == 1.625
    assert samples.quantile(0.9, "d") == 3.0


def test_a_quantile_above_all_bounds_is_the_highest_of_them() -> None:
    assert Samples.parse('d_bucket{le="2"} 1\nd_bucket{le="+Inf"} 10\n').quantile(0.9, "d") == 2.0


def test_a_quantile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(Samples().quantile(0.5, "d"))
    assert math.isnan(Samples.parse('d_bucket{le="2"} 0\nd_bucket{le="+Inf"} 0\n').quantile(0.5, "d"))
