"""One request's whole story: what the service left behind of it, and whether anything is missing."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import httpx

from examples.cortex.driver import Driver
from examples.cortex.samples import Samples
from examples.cortex.server import USER, Server
from examples.cortex.service import SUMMARY_DELAY

ROUTE = "/api/workspaces/{workspace_id}/conversations/{conversation_id}/messages"
COMPLETE_WITHIN = 6.0
"""Seconds the service has to finish what the request began, the background task included."""

HEALTH_PATHS = ("/health", "/health/ready", "/health/live")


@dataclass(frozen=True)
class Told:
    """The request as its client saw it.

    Attributes:
        correlation_id: The ID it sent.
        trace_id: The trace it was part of, 32 hex digits.
        parent_id: The client's span, 16 hex digits.
        status: The status it got.
        echoed_id: The ID it got back.
        path: What it asked for.
    """

    correlation_id: str
    trace_id: str
    parent_id: str
    status: int
    echoed_id: str | None
    path: str


@dataclass(frozen=True)
class Health:
    """The answer of one health path."""

    status: int
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Story:
    """All that is known of one request, and of the traffic around it.

    Attributes:
        told: What the client knows.
        token: The client's bearer token, which must not be found anywhere.
        records: Every log record of the server.
        broken: Every line of its log that is not a JSON object.
        spans: Every span of the server.
        before: The metrics before the request.
        after: The metrics after it.
        health: The answers of the health paths.
    """

    told: Told
    token: str
    records: list[dict[str, Any]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    spans: list[dict[str, Any]] = field(default_factory=list)
    before: Samples = field(default_factory=Samples)
    after: Samples = field(default_factory=Samples)
    health: Mapping[str, Health] = field(default_factory=dict)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log records of the request, by its correlation ID."""
        return [record for record in self.records if record.get("correlation_id") == self.told.correlation_id]

    @property
    def canonical(self) -> dict[str, Any]:
        """The one record that sums the request up; empty if there is none."""
        return next((line for line in self.lines if line.get("component") == "asgi_obs.request"), {})

    @property
    def trace(self) -> list[dict[str, Any]]:
        """The spans of the request, by its trace ID, in the order they began."""
        own = [span for span in self.spans if bare_id(span["context"]["trace_id"]) == self.told.trace_id]
        return sorted(own, key=lambda span: str(span["start_time"]))

    @property
    def server_span(self) -> dict[str, Any]:
        """The span of the request itself; empty if there is none."""
        return next((span for span in self.trace if span["kind"] == "SpanKind.SERVER"), {})

    @property
    def failure(self) -> dict[str, Any]:
        """The canonical record of a request that ended with an exception; empty if there is none."""
        return next((r for r in self.records if r.get("component") == "asgi_obs.request" and r.get("error")), {})

    def delta(self, name: str) -> float:
        """By how much the request moved a metric of its route."""
        return self.after.total(name, **self._labels(name)) - self.before.total(name, **self._labels(name))

    def durations(self) -> dict[str, float]:
        """How long the request took, in milliseconds, by each signal that is there."""
        found: dict[str, float] = {}
        if "duration_ms" in self.canonical:
            found["log"] = float(self.canonical["duration_ms"])
        if self.delta("http_request_duration_seconds_count"):
            found["metric"] = self.delta("http_request_duration_seconds_sum") * 1000
        if self.server_span:
            found["span"] = (moment(self.server_span["end_time"]) - moment(self.server_span["start_time"])) * 1000
        return found

    def _labels(self, name: str) -> dict[str, str]:
        return {"endpoint": ROUTE} if name.startswith("http_background") else {"endpoint": ROUTE, "method": "POST"}


def bare_id(identifier: str | None) -> str:
    """A trace or span ID of the SDK's JSON without its `0x`."""
    return (identifier or "").removeprefix("0x")


def moment(timestamp: str) -> float:
    """Seconds since the epoch of a UTC timestamp that ends in `Z`."""
    return datetime.strptime(timestamp, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc).timestamp()


async def tell(server: Server, driver: Driver) -> Story:
    """Send the request whose story is told, and collect what it leaves until nothing is missing or time is up."""
    async with driver.client() as client:
        before = await _settled(client)
        told = await _send(driver, client)
        deadline = time.monotonic() + COMPLETE_WITHIN
        while True:
            records, broken = server.log()
            story = Story(
                told=told,
                token=driver.token,
                records=records,
                broken=broken,
                spans=server.spans(),
                before=before,
                after=await _scrape(client),
                health={path: await _health(client, path) for path in HEALTH_PATHS},
            )
            if not missing(story) or time.monotonic() > deadline:
                return story
            await asyncio.sleep(0.1)


async def _send(driver: Driver, client: httpx.AsyncClient) -> Told:
    correlation_id = f"story-{secrets.token_hex(4)}"
    trace_id, parent_id = secrets.token_hex(16), secrets.token_hex(8)
    path = f"{driver.conversation}/messages"
    response = await client.post(
        path,
        json={"text": "What does the engine know of its own?"},
        headers={"X-Correlation-ID": correlation_id, "traceparent": f"00-{trace_id}-{parent_id}-01"},
    )
    return Told(
        correlation_id, trace_id, parent_id, response.status_code, response.headers.get("x-correlation-id"), path
    )


async def _scrape(client: httpx.AsyncClient) -> Samples:
    return Samples.parse((await client.get("/metrics")).raise_for_status().text)


async def _settled(client: httpx.AsyncClient) -> Samples:
    """The metrics when the background tasks of earlier requests have ended."""
    deadline = time.monotonic() + COMPLETE_WITHIN
    samples = await _scrape(client)
    while time.monotonic() < deadline:
        await asyncio.sleep(2 * SUMMARY_DELAY)
        earlier, samples = samples, await _scrape(client)
        if _background_tasks(earlier) == _background_tasks(samples):
            break
    return samples


def _background_tasks(samples: Samples) -> float:
    return samples.total("http_background_duration_seconds_count")


async def _health(client: httpx.AsyncClient, path: str) -> Health:
    answer = await client.get(path)
    return Health(answer.status_code, answer.json())


def _says(message: str, component: str) -> Callable[[Story], bool]:
    return lambda story: any(
        message in line["message"] and line["component"].startswith(component) for line in story.lines
    )


def _moves(metric: str) -> Callable[[Story], bool]:
    return lambda story: story.delta(metric) == 1


def _counts(metric: str, **labels: str) -> Callable[[Story], bool]:
    return lambda story: story.after.total(metric, **labels) > 0


def _child(name: str) -> Callable[[Story], bool]:
    def there(story: Story) -> bool:
        parent = story.server_span.get("context", {}).get("span_id")
        return any(span["name"] == name and span["parent_id"] == parent for span in story.trace)

    return there


def _sums_up(story: Story) -> bool:
    line = story.canonical
    return (line.get("route"), line.get("status_code"), line.get("user_id")) == (ROUTE, 201, USER)


def _is_child_of_client(story: Story) -> bool:
    span = story.server_span
    return span.get("name") == f"POST {ROUTE}" and bare_id(span["parent_id"]) == story.told.parent_id


def _agree(story: Story) -> bool:
    durations = story.durations()
    # One clock, but log and span are rounded to microseconds.
    return len(durations) == 3 and max(durations.values()) - min(durations.values()) < 0.01


def _is_healthy(story: Story) -> bool:
    health = story.health
    checks = health["/health"].body.get("checks", {}) if "/health" in health else {}
    answered = [path for path in HEALTH_PATHS if path in health and health[path].status == 200]
    return len(answered) == len(HEALTH_PATHS) and checks.get("database", {}).get("status") == "healthy"


PARTS: Mapping[str, Callable[[Story], bool]] = {
    "answer: 201 with the correlation ID it was sent": lambda s: (
        (s.told.status, s.told.echoed_id) == (201, s.told.correlation_id)
    ),
    "log: the application's line": _says("message stored", "examples.cortex"),
    "log: a library's line": _says("INSERT INTO messages", "sqlalchemy"),
    "log: the background task's line": _says("conversation summarised", "examples.cortex"),
    "log: one line that sums up, with route, status and user": _sums_up,
    "log: the trace ID on every line": lambda s: (
        bool(s.lines) and all(line.get("trace_id") == s.told.trace_id for line in s.lines)
    ),
    "log: every line one JSON object": lambda s: bool(s.records) and not s.broken,
    "log: the bearer token nowhere": lambda s: s.token not in str((s.records, s.broken, s.spans)),
    "log: the failing route's exception": lambda s: "ExportError" in str(s.failure.get("error")),
    "metrics: the request, once": _moves("http_requests_total"),
    "metrics: its duration": _moves("http_request_duration_seconds_count"),
    "metrics: its time to first byte": _moves("http_time_to_first_byte_seconds_count"),
    "metrics: its background task": _moves("http_background_duration_seconds_count"),
    "metrics: its bytes": lambda s: (
        s.delta("http_request_body_bytes_total") > 0 < s.delta("http_response_body_bytes_total")
    ),
    "metrics: the failing route's exception": _counts("http_exceptions_total"),
    "metrics: the scanner under one label": _counts("http_requests_total", endpoint="__unmatched__", status_code="404"),
    "metrics: the redirect under one label": _counts("http_requests_total", endpoint="__redirect__"),
    "metrics: the client that left": _counts("http_client_disconnects_total"),
    "metrics: the WebSockets": _counts("websocket_connections_total", endpoint="/api/live/{conversation_id}"),
    "metrics: the event streams": _counts("sse_connection_duration_seconds_count"),
    "metrics: the mounted application": _counts("http_requests_total", endpoint="/admin/{area}"),
    "trace: the server's span, a child of the client's": _is_child_of_client,
    "trace: the application's span": _child("store message"),
    "trace: the background task's span": _child("summarise conversation"),
    "log, metric and span agree on the duration": _agree,
    "health: ready, alive, and the database checked": _is_healthy,
}
"""Every part that a whole story has, and how to tell that it is there."""


def missing(story: Story) -> list[str]:
    """The names of the parts that are not there."""
    return [name for name, is_there in PARTS.items() if not is_there(story)]
