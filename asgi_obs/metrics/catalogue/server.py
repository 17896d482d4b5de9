"""What the service answers: HTTP, WebSockets, event streams."""

from __future__ import annotations

from typing import Final

from asgi_obs.metrics.declaration import (
    BACKGROUND_BUCKETS,
    COUNT_BUCKETS,
    DATABASE_BUCKETS,
    GUIDE_BUCKETS,
    LONG_BUCKETS,
    Metric,
)

__all__ = ["SERVER"]

SERVER: Final = (
    Metric(
        "http_requests_total",
        "counter",
        ("method", "endpoint", "status_code"),
        "",
        "HTTP requests that have ended, event streams included.",
        hot=True,
    ),
    Metric(
        "http_request_duration_seconds",
        "histogram",
        ("method", "endpoint"),
        "seconds",
        "Time from the start of a request to the last byte of its response; no event streams, no background tasks.",
        GUIDE_BUCKETS,
        hot=True,
    ),
    Metric("http_requests_active", "gauge", (), "", "HTTP requests whose response has not ended.", hot=True),
    Metric(
        "http_time_to_first_byte_seconds",
        "histogram",
        ("method", "endpoint"),
        "seconds",
        "Time from the start of a request to the start of its response.",
        GUIDE_BUCKETS,
        hot=True,
    ),
    Metric(
        "http_request_body_bytes_total",
        "counter",
        ("method", "endpoint"),
        "bytes",
        "Bytes of request bodies that were read.",
        hot=True,
    ),
    Metric(
        "http_response_body_bytes_total",
        "counter",
        ("method", "endpoint"),
        "bytes",
        "Bytes of response bodies that were sent.",
        hot=True,
    ),
    Metric(
        "http_exceptions_total",
        "counter",
        ("method", "endpoint", "exception"),
        "",
        "Exceptions that left the application before its response ended, by class.",
    ),
    Metric(
        "http_client_disconnects_total",
        "counter",
        ("method", "endpoint"),
        "",
        "Requests whose client left before the response ended.",
    ),
    Metric(
        "http_request_db_queries",
        "histogram",
        ("method", "endpoint"),
        "",
        "Statements that a request has sent to databases; of those that have sent any.",
        COUNT_BUCKETS,
        hot=True,
    ),
    Metric(
        "http_request_db_duration_seconds",
        "histogram",
        ("method", "endpoint"),
        "seconds",
        "Time that the statements of a request took, one after another; of those that have sent any.",
        DATABASE_BUCKETS,
        hot=True,
    ),
    Metric(
        "http_background_duration_seconds",
        "histogram",
        ("endpoint",),
        "seconds",
        "Time from the end of a response to the return of the application: background tasks.",
        BACKGROUND_BUCKETS,
    ),
    Metric("websocket_connections_active", "gauge", (), "", "WebSocket sessions that are open."),
    Metric(
        "websocket_connections_total",
        "counter",
        ("endpoint", "close_code"),
        "",
        "WebSocket sessions that have ended, and handshakes that were denied.",
    ),
    Metric(
        "websocket_session_duration_seconds",
        "histogram",
        ("endpoint",),
        "seconds",
        "Time from the handshake of an accepted WebSocket session to its end.",
        LONG_BUCKETS,
    ),
    Metric(
        "websocket_messages_total",
        "counter",
        ("endpoint", "direction"),
        "",
        "WebSocket messages, by direction: in from the client, out to it.",
        hot=True,
    ),
    Metric("sse_connections_active", "gauge", (), "", "Event streams (server-sent events) that are open."),
    Metric(
        "sse_events_sent_total", "counter", ("event_type",), "", "Server-sent events that were sent, by type.", hot=True
    ),
    Metric(
        "sse_connection_duration_seconds",
        "histogram",
        ("endpoint", "outcome"),
        "seconds",
        "Time from the start of a request for an event stream to the end of the stream.",
        LONG_BUCKETS,
    ),
)
