"""What observing itself loses or keeps from the requests."""

from __future__ import annotations

from typing import Final

from asgi_obs.metrics.declaration import Metric

__all__ = ["OWN"]

OWN: Final = (
    Metric(
        "trace_spans_dropped_total",
        "counter",
        (),
        "",
        "Spans that could not be exported, or that found the queue full.",
        process_wide=True,
    ),
    Metric(
        "log_records_total",
        "counter",
        ("level",),
        "",
        "Log records that were handed to a handler of this library, by level.",
        process_wide=True,
        hot=True,
    ),
    Metric(
        "log_records_dropped_total",
        "counter",
        (),
        "",
        "Log records that could not be written, or that found the queue full.",
        process_wide=True,
    ),
    Metric(
        "asgi_obs_internal_errors_total",
        "counter",
        ("component",),
        "",
        "Errors in observers, callbacks and checks that were kept from the requests.",
        process_wide=True,
    ),
    Metric(
        "asgi_obs_label_overflow_total",
        "counter",
        ("metric",),
        "",
        "Look-ups that were folded because a metric had reached its cap on series.",
        process_wide=True,
    ),
)
