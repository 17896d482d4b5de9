"""The event bus."""

from __future__ import annotations

from typing import Final

from asgi_obs.metrics.declaration import Metric

__all__ = ["EVENTS"]

EVENTS: Final = (
    Metric("event_bus_events_published_total", "counter", ("event_type",), "", "Events that were published, by type."),
    Metric(
        "event_bus_events_delivered_total",
        "counter",
        ("event_type",),
        "",
        "Events that a subscriber has taken, by type; one for each subscriber.",
    ),
    Metric("event_bus_subscribers", "gauge", (), "", "Subscribers of the event bus."),
)
