"""The data layer: statements and connection pools of SQLAlchemy."""

from __future__ import annotations

from typing import Final

from asgi_obs.metrics.declaration import DATABASE_BUCKETS, Metric

__all__ = ["DATABASE"]

DATABASE: Final = (
    Metric(
        "db_queries_total",
        "counter",
        ("operation", "table"),
        "",
        "Statements that were sent to the database, failed ones included; an executemany is one.",
        hot=True,
    ),
    Metric(
        "db_query_duration_seconds",
        "histogram",
        ("operation", "table"),
        "seconds",
        "Time that the driver took to execute a statement, or to fail; fetching rows is not in it.",
        DATABASE_BUCKETS,
        hot=True,
    ),
    Metric(
        "db_query_errors_total",
        "counter",
        ("operation", "table", "exception"),
        "",
        "Statements that failed or were cancelled, by the driver's class of exception.",
    ),
    # Hot for they have no lock: the garbage collector may set them, in the middle of a scrape.
    Metric("db_pool_size", "gauge", (), "", "Connections that the pools keep, at most, without overflow.", hot=True),
    Metric("db_pool_connections_checked_out", "gauge", (), "", "Connections that are in use.", hot=True),
    Metric("db_pool_overflow", "gauge", (), "", "Connections that are open beyond the size of their pool.", hot=True),
    Metric(
        "db_pool_wait_seconds",
        "histogram",
        (),
        "seconds",
        "Time to get a connection from a pool, a new connection to the database included.",
        DATABASE_BUCKETS,
    ),
    Metric("db_pool_timeouts_total", "counter", (), "", "Times that a pool had no connection within its timeout."),
)
