"""Health, readiness, and the ops paths that tell of them."""

from __future__ import annotations

from typing import Final

from asgi_obs.metrics.declaration import GUIDE_BUCKETS, Metric

__all__ = ["HEALTH"]

HEALTH: Final = (
    Metric(
        "health_status",
        "gauge",
        ("service",),
        "",
        "Health of the service: 1 healthy, 0.5 degraded, 0 unhealthy.",
        mode="livemostrecent",
    ),
    Metric(
        "health_check_status",
        "gauge",
        ("check",),
        "",
        "Result of a check: 1 healthy, 0.5 degraded, 0 unhealthy.",
        mode="livemostrecent",
    ),
    Metric(
        "health_check_duration_seconds",
        "histogram",
        ("check",),
        "seconds",
        "Time that a health check took.",
        GUIDE_BUCKETS,
    ),
    Metric(
        "health_check_transitions_total",
        "counter",
        ("check", "status"),
        "",
        "Changes of a check's status, by the new one: healthy, degraded or unhealthy.",
    ),
    Metric(
        "readiness_transitions_total",
        "counter",
        ("status",),
        "",
        "Changes of what readiness answers, by the new answer: ready or not_ready.",
    ),
    Metric(
        "ops_requests_denied_total",
        "counter",
        ("endpoint",),
        "",
        "Requests to the ops paths that were refused for want of a credential or for where they came from.",
    ),
)
