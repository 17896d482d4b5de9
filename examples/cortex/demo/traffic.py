"""What the traffic was: requests, errors and latency, by service and by route."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from examples.cortex.demo.layout import label, short, table_of
from examples.cortex.demo.samples import Samples
from examples.cortex.demo.story import Story

ROUTES = 8
"""Routes that are shown, those with the most requests."""


def by_service(story: Story, seconds: float) -> Table:
    """What each service did."""
    numbers = ("requests", "per s", "5xx", "p50 ms", "p95 ms", "queries", "events", "operations", "MB")
    table = table_of("service", *numbers, right=numbers)
    for name, evidence in story.services.items():
        total = evidence.after.total
        table.add_row(
            label(name),
            *_rates(evidence.after, seconds),
            f"{total('db_queries_total'):.0f}",
            f"{total('event_bus_events_published_total'):.0f}",
            f"{_operations(evidence.after):.0f}",
            f"{total('process_memory_usage_bytes') / 1e6:.0f}",
        )
    return table


def _operations(samples: Samples) -> float:
    return sum(value for name, _, value in samples.entries if name.endswith("_operations_total"))


def by_route(samples: Samples, seconds: float) -> Table:
    """What each route of the API did."""
    numbers = ("requests", "per s", "5xx", "p50 ms", "p95 ms")
    table = table_of("of the API", "", *numbers, right=numbers)
    counts: dict[tuple[str, str], float] = {}
    for labels, value in samples.select("http_requests_total"):
        key = (labels["method"], labels["endpoint"])
        counts[key] = counts.get(key, 0.0) + value
    ranked = sorted(counts, key=lambda key: -counts[key])
    for method, endpoint in ranked[:ROUTES]:
        table.add_row(method, Text(short(endpoint)), *_rates(samples, seconds, method=method, endpoint=endpoint))
    others = sum(counts[key] for key in ranked[ROUTES:])
    if others:
        table.add_row("", Text(f"{len(ranked) - ROUTES} others", style="dim"), Text(f"{others:.0f}", style="dim"))
    return table


def _rates(samples: Samples, seconds: float, **labels: str) -> Iterator[Text]:
    """Requests, requests per second, errors and two quantiles."""
    count = samples.total("http_requests_total", **labels)
    found = samples.select("http_requests_total", **labels)
    errors = sum(value for having, value in found if having["status_code"] >= "500")
    yield Text(f"{count:.0f}")
    yield Text(f"{count / seconds:.1f}")
    yield Text(f"{errors / count:.0%}" if errors else "", style="red")
    for part in (0.5, 0.95):
        quantile = samples.quantile(part, "http_request_duration_seconds", **labels)
        yield Text("" if math.isnan(quantile) else f"{quantile * 1000:.1f}")
