"""What the service asks of others: HTTP and MCP."""

from __future__ import annotations

from typing import Final

from asgi_obs.metrics.declaration import GUIDE_BUCKETS, Metric

__all__ = ["CLIENTS"]

CLIENTS: Final = (
    Metric(
        "http_client_requests_total",
        "counter",
        ("method", "host", "status_code"),
        "",
        "HTTP requests to other services; the status is the class of the exception where there was no response.",
    ),
    Metric(
        "http_client_request_duration_seconds",
        "histogram",
        ("method", "host"),
        "seconds",
        "Time from the start of a request to another service to the start of its response, or to its failure.",
        GUIDE_BUCKETS,
    ),
    Metric(
        "mcp_tool_calls_total",
        "counter",
        ("tool", "outcome"),
        "",
        "Calls of MCP tools, by this client; the outcome is success, tool_error, error or cancelled.",
    ),
    Metric(
        "mcp_tool_call_duration_seconds",
        "histogram",
        ("tool",),
        "seconds",
        "Time that a call of an MCP tool took.",
        GUIDE_BUCKETS,
    ),
)
