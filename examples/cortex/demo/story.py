"""One request's whole story: what the three services left behind of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from examples.cortex.demo.samples import Samples

ROUTE = "/api/workspaces/{workspace_id}/conversations/{conversation_id}/messages"
STREAM_ROUTE = "/api/workspaces/{workspace_id}/conversations/{conversation_id}/stream"

HEALTH_PATHS = ("/health", "/health/ready", "/health/live")


@dataclass(frozen=True)
class Told:
    """The request as its client saw it.

    Attributes:
        correlation_id: The ID it sent.
        trace_id: The trace it was part of, 32 hex digits.
        parent_id: The client's span, 16 hex digits.
        user: The name of the user who sent it.
        path: What it asked for.
        status: The status it got.
        echoed_id: The ID it got back.
        reply: What came back on the conversation's event stream; None if nothing did.
    """

    correlation_id: str
    trace_id: str
    parent_id: str
    user: str
    path: str
    status: int = 0
    echoed_id: str | None = None
    reply: str | None = None


@dataclass(frozen=True)
class Health:
    """The answer of one health path."""

    status: int
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Evidence:
    """What one service says.

    Attributes:
        records: Every log record.
        broken: Every line of its log that is not a JSON object.
        spans: Every span.
        before: The metrics before the request.
        after: The metrics after it.
        health: The answers of the health paths.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    spans: list[dict[str, Any]] = field(default_factory=list)
    before: Samples = field(default_factory=Samples)
    after: Samples = field(default_factory=Samples)
    health: Mapping[str, Health] = field(default_factory=dict)

    def delta(self, name: str, **labels: str) -> float:
        """By how much the request moved a metric."""
        return self.after.total(name, **labels) - self.before.total(name, **labels)


@dataclass(frozen=True)
class Line:
    """A log record of the request, and the service that wrote it."""

    service: str
    record: dict[str, Any]


@dataclass(frozen=True)
class Span:
    """A span of the request.

    Attributes:
        service: The service that made it.
        name: Its name.
        kind: `SERVER`, `CLIENT` and so on.
        parent: The span around it, whichever service has made that; None if it is the client's, or unknown.
        start: When it began, in seconds since the epoch.
        end: When it ended, likewise.
    """

    service: str
    name: str
    kind: str
    parent: Span | None
    start: float
    end: float

    @property
    def ancestors(self) -> Iterator[Span]:
        """The spans around it, from the inside out."""
        if self.parent is not None:
            yield self.parent
            yield from self.parent.ancestors


@dataclass(frozen=True)
class Story:
    """All that is known of one request, and of the traffic around it.

    Attributes:
        told: What the client knows.
        secrets: The client's password and tokens, which must not be found anywhere.
        services: What every service says, by its name.
        peaks: The metrics of the API while a stream was open.
    """

    told: Told
    secrets: tuple[str, ...]
    services: Mapping[str, Evidence]
    peaks: Samples = field(default_factory=Samples)

    @property
    def api(self) -> Evidence:
        """What the service says that was asked."""
        return self.services["api"]

    @property
    def lines(self) -> list[Line]:
        """The log records of the request, by its correlation ID, in the order they were written."""
        own = [
            Line(service, record)
            for service, evidence in self.services.items()
            for record in evidence.records
            if record.get("correlation_id") == self.told.correlation_id
        ]
        return sorted(own, key=lambda line: str(line.record["timestamp"]))

    @property
    def canonical(self) -> dict[str, Any]:
        """The one record that sums the request up; empty if there is none."""
        sums = (line.record for line in self.lines if line.service == "api" and _sums_up(line.record))
        return next(sums, {})

    @property
    def failure(self) -> dict[str, Any]:
        """The canonical record of a request that ended with an exception; empty if there is none."""
        return next((record for record in self.api.records if _sums_up(record) and record.get("error")), {})

    @property
    def trace(self) -> list[Span]:
        """The spans of the request, by its trace ID, each one behind its parent, in the order they began."""
        children: defaultdict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        for service, evidence in self.services.items():
            for span in evidence.spans:
                if bare_id(span["context"]["trace_id"]) == self.told.trace_id:
                    children[bare_id(span["parent_id"])].append((service, span))
        known = {bare_id(span["context"]["span_id"]) for spans in children.values() for _, span in spans}

        def below(parent_id: str, parent: Span | None) -> Iterator[Span]:
            for service, raw in sorted(children[parent_id], key=lambda one: str(one[1]["start_time"])):
                span = _span(service, raw, parent)
                yield span
                yield from below(bare_id(raw["context"]["span_id"]), span)

        return [span for root in sorted(set(children) - known) for span in below(root, None)]

    @property
    def server_span(self) -> Span | None:
        """The span of the request itself."""
        own = (span for span in self.trace if (span.service, span.kind, span.parent) == ("api", "SERVER", None))
        return next(own, None)

    def durations(self) -> dict[str, float]:
        """How long the request took, in milliseconds, by each signal that is there."""
        found: dict[str, float] = {}
        if "duration_ms" in self.canonical:
            found["log"] = float(self.canonical["duration_ms"])
        of_route = {"endpoint": ROUTE, "method": "POST"}
        if self.api.delta("http_request_duration_seconds_count", **of_route):
            found["metric"] = self.api.delta("http_request_duration_seconds_sum", **of_route) * 1000
        if self.server_span is not None:
            found["span"] = (self.server_span.end - self.server_span.start) * 1000
        return found


def bare_id(identifier: str | None) -> str:
    """A trace or span ID of the SDK's JSON without its `0x`."""
    return (identifier or "").removeprefix("0x")


def moment(timestamp: str) -> float:
    """Seconds since the epoch of a UTC timestamp that ends in `Z`."""
    return datetime.strptime(timestamp, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc).timestamp()


def _sums_up(record: Mapping[str, Any]) -> bool:
    return bool(record.get("component") == "asgi_obs.request")


def _span(service: str, raw: Mapping[str, Any], parent: Span | None) -> Span:
    kind = raw["kind"].removeprefix("SpanKind.")
    return Span(service, raw["name"], kind, parent, moment(raw["start_time"]), moment(raw["end_time"]))
