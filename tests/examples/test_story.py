"""A story is whole when every part is there, and each part that is not is named."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from examples.cortex.__main__ import conclude
from examples.cortex.demo.parts import AT_REST, DEPENDENCIES, FAMILIES, PARTS, missing
from examples.cortex.demo.samples import Samples
from examples.cortex.demo.story import HEALTH_PATHS, ROUTE, STREAM_ROUTE, Evidence, Health, Story, Told

TRACE_ID, CLIENT_ID = "a" * 32, "b" * 16
TOLD = Told("story-1", TRACE_ID, CLIENT_ID, "ada", "/api/workspaces/1/conversations/2/messages", 201, "story-1", "Yes.")
OF_ROUTE = f'method="POST",endpoint="{ROUTE}"'

BEFORE = {
    "api": f"""
http_requests_total{{{OF_ROUTE},status_code="201"}} 4
http_request_duration_seconds_bucket{{{OF_ROUTE},le="0.01"}} 4
http_request_duration_seconds_bucket{{{OF_ROUTE},le="+Inf"}} 4
http_request_duration_seconds_count{{{OF_ROUTE}}} 4
http_request_duration_seconds_sum{{{OF_ROUTE}}} 1
""",
    "memory": "",
    "cognition": "",
}
AFTER = {
    "api": f"""
http_requests_total{{{OF_ROUTE},status_code="201"}} 5
http_requests_total{{method="GET",endpoint="/fail",status_code="500"}} 1
http_requests_total{{method="GET",endpoint="__unmatched__",status_code="404"}} 1
http_requests_total{{method="GET",endpoint="__redirect__",status_code="307"}} 1
http_requests_total{{method="GET",endpoint="/admin/{{area}}",status_code="200"}} 1
http_requests_total{{method="GET",endpoint="{STREAM_ROUTE}",status_code="200"}} 7
http_requests_total{{method="GET",endpoint="/a",status_code="200"}} 1
http_requests_total{{method="GET",endpoint="/b",status_code="200"}} 1
http_requests_total{{method="GET",endpoint="/c",status_code="200"}} 1
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
event_bus_events_published_total{{event_type="message_created"}} 1
ux_response_time_seconds_count{{operation="reply"}} 1
""",
    "memory": """
memory_service_operations_total{operation="store_input"} 1
db_queries_total{operation="insert",table="memory_inputs"} 1
""",
    "cognition": 'cognition_service_operations_total{operation="get_context"} 1\n',
}


def scrape(service: str) -> Samples:
    """What moved, and one more of every family, without the labels."""
    names = [*FAMILIES[service], *AT_REST.get(service, ())]
    return Samples.parse(AFTER[service] + "".join(f"{name} {0 if 'pool_c' in name else 1}\n" for name in names))


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


def span(number: int, parent: int, name: str, kind: str = "INTERNAL") -> dict[str, Any]:
    return {
        "name": name,
        "context": {"trace_id": f"0x{TRACE_ID}", "span_id": f"0x{number:016x}"},
        "kind": f"SpanKind.{kind}",
        "parent_id": f"0x{parent:016x}",
        "start_time": "2025-03-21T10:15:30.120000Z",
        "end_time": "2025-03-21T10:15:30.122500Z",
    }


ERROR = {"type": "ExportError", "message": "cannot export", "stack": "Traceback\n  File examples/cortex/api/app.py\n"}
FAILED = line(
    "GET /fail 500", "asgi_obs.request", correlation_id="x", method="GET", route="/fail", status_code=500, error=ERROR
) | {"level": "ERROR", "duration_ms": 1.0}

RECORDS = {
    "api": [
        line("message stored", "examples.cortex.api.conversations"),
        line("POST /a/1 201", "asgi_obs.request", route=ROUTE, status_code=201, user_id="ada", duration_ms=2.5),
        line('HTTP Request: POST http://127.0.0.1/inputs "HTTP/1.1 201 Created"', "httpx"),
        line("conversation summarised", "examples.cortex.api.conversations"),
        FAILED,
    ],
    "memory": [line("input stored", "examples.cortex.memory.app")],
    "cognition": [line("context found", "examples.cortex.cognition.context")],
}
SPANS = {
    "api": [
        span(1, int(CLIENT_ID, 16), f"POST {ROUTE}", "SERVER"),
        span(2, 1, "summarise conversation"),
        span(3, 1, "publish message_created", "PRODUCER"),
        span(4, 3, "process message_created", "CONSUMER"),
        span(5, 4, "POST", "CLIENT"),
        span(8, 4, "mcp.tool.get_context", "CLIENT"),
        span(14, 4, "MCP send initialize", "CLIENT"),
    ],
    "memory": [
        span(6, 5, "POST /inputs", "SERVER"),
        span(7, 6, "INSERT memory-service.db", "CLIENT"),
        span(11, 10, "GET /history/{user_id}", "SERVER"),
        span(12, 11, "SELECT memory-service.db", "CLIENT"),
        {**span(13, 0, "SELECT memory-service.db"), "context": {"trace_id": "0x1", "span_id": "0x2"}},
    ],
    "cognition": [span(9, 8, "mcp.server.get_context", "SERVER"), span(10, 9, "GET", "CLIENT")],
}

WHOLE = Story(
    told=TOLD,
    secrets=("t-secret", "p-secret"),
    services={
        service: Evidence(
            records=RECORDS[service],
            spans=SPANS[service],
            before=Samples.parse(BEFORE[service]),
            after=scrape(service),
            health={
                path: Health(
                    200,
                    {
                        "status": "healthy",
                        "checks": {name: {"status": "healthy", "duration_ms": 1.0} for name in DEPENDENCIES[service]},
                    },
                )
                for path in HEALTH_PATHS
            },
        )
        for service in FAMILIES
    },
)


def having(service: str, **changed: Any) -> Story:
    return replace(WHOLE, services={**WHOLE.services, service: replace(WHOLE.services[service], **changed)})


def without_line(message: str, service: str = "api") -> Story:
    return having(service, records=[record for record in RECORDS[service] if message not in record["message"]])


def without_metric(name: str, service: str = "api") -> Story:
    entries = WHOLE.services[service].after.entries
    return having(service, after=Samples(tuple(entry for entry in entries if name not in str(entry))))


def without_span(name: str, service: str = "api") -> Story:
    return having(service, spans=[span for span in SPANS[service] if not span["name"].startswith(name)])


def with_record(index: int, **changed: Any) -> Story:
    records = copy.deepcopy(RECORDS["api"])
    records[index].update(changed)
    return having("api", records=records)


def unhealthy(service: str) -> Story:
    health = dict(WHOLE.services[service].health)
    health["/health"] = Health(200, {"status": "degraded", "checks": {}})
    return having(service, health=health)


DAMAGED: dict[str, Callable[[], Story]] = {
    "answer: 201 with the correlation ID it was sent": lambda: replace(WHOLE, told=replace(TOLD, echoed_id=None)),
    "answer: a reply on the event stream": lambda: replace(WHOLE, told=replace(TOLD, reply=None)),
    "log: api's lines": lambda: without_line("", "api"),
    "log: memory's lines": lambda: without_line("", "memory"),
    "log: cognition's lines": lambda: without_line("", "cognition"),
    "log: the application's line": lambda: without_line("message stored"),
    "log: a library's line": lambda: without_line("HTTP Request"),
    "log: the background task's line": lambda: without_line("summarised"),
    "log: one line that sums up, with route, status and user": lambda: with_record(1, route="/raw/path"),
    "log: the trace ID on every line": lambda: with_record(3, trace_id=None),
    "log: every line one JSON object": lambda: having("memory", broken=["Traceback"]),
    "log: no password and no token, nor in a span": lambda: with_record(1, query="p-secret"),
    "log: the failing route's exception": lambda: without_line("/fail"),
    "metrics: the request, once": lambda: having("api", before=WHOLE.api.after),
    "metrics: its duration": lambda: without_metric("http_request_duration_seconds_count"),
    "metrics: its time to first byte": lambda: without_metric("http_time_to_first_byte_seconds_count"),
    "metrics: its background task": lambda: without_metric("http_background_duration_seconds_count"),
    "metrics: its bytes": lambda: without_metric("http_response_body_bytes_total"),
    "metrics: its event": lambda: without_metric("event_bus_events_published_total"),
    "metrics: its reply": lambda: without_metric("ux_response_time_seconds_count"),
    "metrics: its input in the memory": lambda: without_metric("store_input", "memory"),
    "metrics: its insertion there": lambda: without_metric("memory_inputs", "memory"),
    "metrics: its context": lambda: without_metric("get_context", "cognition"),
    "metrics: the failing route's exception": lambda: without_metric("http_exceptions_total"),
    "metrics: the scanner under one label": lambda: without_metric("__unmatched__"),
    "metrics: the redirect under one label": lambda: without_metric("__redirect__"),
    "metrics: the client that left": lambda: without_metric("http_client_disconnects_total"),
    "metrics: the WebSockets": lambda: without_metric("websocket_connections_total"),
    "metrics: the mounted application": lambda: without_metric("/admin/"),
    "trace: the server's span, a child of the client's": lambda: without_span(f"POST {ROUTE}"),
    "trace: api's spans": lambda: without_span("", "api"),
    "trace: memory's spans": lambda: without_span("", "memory"),
    "trace: cognition's spans": lambda: without_span("", "cognition"),
    "trace: the background task's span": lambda: without_span("summarise"),
    "trace: by event bus and HTTP into the memory's database": lambda: without_span("INSERT", "memory"),
    "trace: by event bus and MCP to cognition, and on to the memory": lambda: without_span("mcp.tool"),
    "trace: as long as log and metric say": lambda: with_record(1, duration_ms=302.5),
    "health: api and what it needs": lambda: unhealthy("api"),
    "health: memory and what it needs": lambda: having("memory", health={}),
    "health: cognition and what it needs": lambda: unhealthy("cognition"),
    **{
        f"families of {service}: {name}": lambda service=service, name=name: without_metric(f"'{name}'", service)
        for service in FAMILIES
        for name in (*FAMILIES[service], *AT_REST.get(service, ()))
    },
}


def printed(story: Story, width: int = 120) -> tuple[int, str]:
    output = io.StringIO()
    code = conclude(story, 1.0, Console(file=output, width=width))
    return code, output.getvalue()


def test_a_whole_story_ends_with_zero() -> None:
    assert missing(WHOLE) == []
    code, text = printed(WHOLE)
    assert code == 0
    assert f"{len(PARTS)} of {len(PARTS)} parts are there" in text
    assert "missing:" not in text


def test_what_would_bury_the_rest_is_counted_instead() -> None:
    text = printed(WHOLE)[1]
    assert "and 1 of httpx" in text
    assert "and 1 of MCP's sessions" in text
    assert "1 others" in text
    assert "/inputs 201" not in text


def test_a_narrow_terminal_shows_it_all() -> None:
    code, text = printed(WHOLE, 80)
    assert code == 0
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text.replace("…/conversations", "")


def test_what_did_not_move_is_not_shown() -> None:
    name = "db_query_duration_seconds_sum"
    moved = {
        "api": {"before": f"{name} 0.3", "after": f"{name} 0.30000000000000004"},  # a rest of the float's
        "memory": {"before": "at_rest_total 1", "after": "at_rest_total 1"},
    }
    services = {
        service: replace(WHOLE.services[service], **{when: Samples.parse(text + "\n") for when, text in both.items()})
        for service, both in moved.items()
    }
    text = printed(replace(WHOLE, services={**WHOLE.services, **services}))[1].partition("\nmissing:")[0]
    assert name not in text
    assert "at_rest_total" not in text
    assert "cognition_service_operations_total" in text


def test_the_stream_that_brought_the_reply_is_not_counted_to_the_request() -> None:
    rows = [line.split() for line in printed(WHOLE)[1].splitlines() if "http_requests_total" in line]
    assert [row[1] for row in rows] == ["+8"]  # the eight requests of the samples that are new, and not the stream's


def test_a_stream_that_was_open_counts_though_it_is_closed_now() -> None:
    closed = without_metric("'sse_connections_active'")
    assert missing(replace(closed, peaks=Samples.parse("sse_connections_active 1\n"))) == []


def test_a_span_below_another_service_is_found_in_its_way() -> None:
    (select,) = (span for span in WHOLE.trace if span.name.startswith("SELECT"))
    assert [f"{one.service}: {one.name}" for one in select.ancestors] == [
        "memory: GET /history/{user_id}",
        "cognition: GET",
        "cognition: mcp.server.get_context",
        "api: mcp.tool.get_context",
        "api: process message_created",
        "api: publish message_created",
        f"api: POST {ROUTE}",
    ]


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
    nothing = {service: Evidence() for service in FAMILIES}
    empty = Story(told=replace(TOLD, status=500, reply=None), secrets=("t-secret",), services=nothing)
    assert set(missing(empty)) == set(PARTS) - {"log: no password and no token, nor in a span"}
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
