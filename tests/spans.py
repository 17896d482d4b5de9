"""Span contexts, by their IDs."""

from __future__ import annotations

from opentelemetry.trace import SpanContext, TraceFlags


def span_context(trace_id: str = "a" * 32, span_id: str = "b" * 16, *, sampled: bool = True) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=TraceFlags(int(sampled)))
