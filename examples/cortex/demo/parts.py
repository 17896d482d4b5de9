"""The parts that a whole story has, and how to tell that each is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from examples.cortex.demo.story import HEALTH_PATHS, ROUTE, Span, Story

Part = Callable[[Story], bool]

_DATABASE = ("db_queries_total", "db_query_duration_seconds_count", "db_pool_size", "db_pool_wait_seconds_count")

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "api": (
        "api_auth_attempts_total",
        "api_workspace_operations_total",
        "api_conversation_operations_total",
        "api_message_operations_total",
        "user_logins_total",
        "active_users",
        "workspaces_total",
        "conversations_total",
        "messages_total",
        "ux_response_time_seconds_count",
        "event_bus_events_published_total",
        "event_bus_events_delivered_total",
        "event_bus_subscribers",
        "sse_connections_active",
        "sse_events_sent_total",
        *_DATABASE,
    ),
    "memory": (
        "memory_service_operations_total",
        "memory_service_operation_duration_seconds_count",
        "memory_service_storage_size_bytes",
        *_DATABASE,
    ),
    "cognition": (
        "cognition_service_operations_total",
        "cognition_service_operation_duration_seconds_count",
    ),
}
"""What every service has moved after the traffic."""

AT_REST: Mapping[str, tuple[str, ...]] = dict.fromkeys(
    ("api", "memory"), ("db_pool_connections_checked_out", "db_pool_overflow")
)
"""What is 0 again when nobody asks."""

DEPENDENCIES = {
    "api": ("database", "memory_service", "cognition_service"),
    "memory": ("database",),
    "cognition": ("memory_service",),
}
"""The checks of every service."""


def missing(story: Story) -> list[str]:
    """The names of the parts that are not there."""
    return [name for name, is_there in PARTS.items() if not is_there(story)]


def _says(message: str, component: str, service: str = "api") -> Part:
    def there(story: Story) -> bool:
        return any(
            message in line.record["message"] and line.record["component"].startswith(component)
            for line in story.lines
            if line.service == service
        )

    return there


def _sums_up(story: Story) -> bool:
    line = story.canonical
    return (line.get("route"), line.get("status_code"), line.get("user_id")) == (ROUTE, 201, story.told.user)


def _keeps_secrets(story: Story) -> bool:
    said = str([(one.records, one.broken, one.spans) for one in story.services.values()])
    return not any(secret in said for secret in story.secrets)


def _has_lines(service: str) -> Part:
    return lambda story: any(line.service == service for line in story.lines)


def _has_spans(service: str) -> Part:
    return lambda story: any(span.service == service for span in story.trace)


def _moves(service: str, metric: str, **labels: str) -> Part:
    return lambda story: story.services[service].delta(metric, **labels) == 1


def _moves_route(metric: str) -> Part:
    return _moves("api", metric, endpoint=ROUTE, method="POST")


def _moves_bytes(story: Story) -> bool:
    of_route = {"endpoint": ROUTE, "method": "POST"}
    names = ("http_request_body_bytes_total", "http_response_body_bytes_total")
    return all(story.api.delta(name, **of_route) > 0 for name in names)


def _counts(metric: str, **labels: str) -> Part:
    return lambda story: story.api.after.total(metric, **labels) > 0


def _is_moved(service: str, family: str) -> Part:
    return lambda story: max(story.services[service].after.total(family), story.peaks.total(family)) > 0


def _exists(service: str, family: str) -> Part:
    return lambda story: any(True for _ in story.services[service].after.select(family))


def _is_child_of_client(story: Story) -> bool:
    return story.server_span is not None and story.server_span.name == f"POST {ROUTE}"


def _leads(*way: tuple[str, str]) -> Part:
    """Whether there is a span, and around it the others, from the inside out; more may be in between."""

    def there(story: Story) -> bool:
        return any(_passes([span, *span.ancestors], way) for span in story.trace)

    return there


def _passes(spans: list[Span], way: tuple[tuple[str, str], ...]) -> bool:
    rest = iter(spans)
    return all(any((span.service, span.name[: len(name)]) == (service, name) for span in rest) for service, name in way)


def _agree(story: Story) -> bool:
    durations = story.durations()
    # One clock, but log and span are rounded to microseconds.
    return len(durations) == 3 and max(durations.values()) - min(durations.values()) < 0.01


def _is_healthy(service: str) -> Part:
    def there(story: Story) -> bool:
        health = story.services[service].health
        if [path for path in HEALTH_PATHS if path not in health or health[path].status != 200]:
            return False
        checks = health["/health"].body["checks"]
        return {name: check["status"] for name, check in checks.items()} == dict.fromkeys(
            DEPENDENCIES[service], "healthy"
        )

    return there


_REQUEST = ("api", f"POST {ROUTE}")
_EVENT = ("api", "process message_created")

PARTS: Mapping[str, Part] = {
    "answer: 201 with the correlation ID it was sent": lambda story: (
        (story.told.status, story.told.echoed_id) == (201, story.told.correlation_id)
    ),
    "answer: a reply on the event stream": lambda story: bool(story.told.reply),
    **{f"log: {service}'s lines": _has_lines(service) for service in FAMILIES},
    "log: the application's line": _says("message stored", "examples.cortex.api"),
    "log: a library's line": _says("HTTP Request: POST", "httpx"),
    "log: the background task's line": _says("conversation summarised", "examples.cortex.api"),
    "log: one line that sums up, with route, status and user": _sums_up,
    "log: the trace ID on every line": lambda story: (
        bool(story.lines) and all(line.record.get("trace_id") == story.told.trace_id for line in story.lines)
    ),
    "log: every line one JSON object": lambda story: all(
        one.records and not one.broken for one in story.services.values()
    ),
    "log: no password and no token, nor in a span": _keeps_secrets,
    "log: the failing route's exception": lambda story: "ExportError" in str(story.failure.get("error")),
    "metrics: the request, once": _moves_route("http_requests_total"),
    "metrics: its duration": _moves_route("http_request_duration_seconds_count"),
    "metrics: its time to first byte": _moves_route("http_time_to_first_byte_seconds_count"),
    "metrics: its background task": _moves("api", "http_background_duration_seconds_count", endpoint=ROUTE),
    "metrics: its bytes": _moves_bytes,
    "metrics: its event": _moves("api", "event_bus_events_published_total", event_type="message_created"),
    "metrics: its reply": _moves("api", "ux_response_time_seconds_count", operation="reply"),
    "metrics: its input in the memory": _moves("memory", "memory_service_operations_total", operation="store_input"),
    "metrics: its insertion there": _moves("memory", "db_queries_total", operation="insert", table="memory_inputs"),
    "metrics: its context": _moves("cognition", "cognition_service_operations_total", operation="get_context"),
    "metrics: the failing route's exception": _counts("http_exceptions_total"),
    "metrics: the scanner under one label": _counts("http_requests_total", endpoint="__unmatched__", status_code="404"),
    "metrics: the redirect under one label": _counts("http_requests_total", endpoint="__redirect__"),
    "metrics: the client that left": _counts("http_client_disconnects_total"),
    "metrics: the WebSockets": _counts("websocket_connections_total", endpoint="/api/live/{conversation_id}"),
    "metrics: the mounted application": _counts("http_requests_total", endpoint="/admin/{area}"),
    "trace: the server's span, a child of the client's": _is_child_of_client,
    **{f"trace: {service}'s spans": _has_spans(service) for service in FAMILIES},
    "trace: the background task's span": _leads(("api", "summarise conversation"), _REQUEST),
    "trace: by event bus and HTTP into the memory's database": _leads(
        ("memory", "INSERT"), ("memory", "POST /inputs"), ("api", "POST"), _EVENT, _REQUEST
    ),
    "trace: by event bus and MCP to cognition, and on to the memory": _leads(
        ("memory", "SELECT"),
        ("memory", "GET /history/{user_id}"),
        ("cognition", "mcp.server.get_context"),
        ("api", "mcp.tool.get_context"),
        _EVENT,
        _REQUEST,
    ),
    "trace: as long as log and metric say": _agree,
    **{f"health: {service} and what it needs": _is_healthy(service) for service in FAMILIES},
    **{
        f"families of {service}: {family}": _is_moved(service, family)
        for service, families in FAMILIES.items()
        for family in families
    },
    **{
        f"families of {service}: {family}": _exists(service, family)
        for service, families in AT_REST.items()
        for family in families
    },
}
"""Every part that a whole story has, and how to tell that it is there."""
