"""The process: its CPU, memory, event loop, threads, garbage; and which service it is."""

from __future__ import annotations

from typing import Final

from asgi_obs.metrics.declaration import PAUSE_BUCKETS, Metric

__all__ = ["PROCESS"]

PROCESS: Final = (
    Metric(
        "process_cpu_usage_percent",
        "gauge",
        (),
        "percent",
        "CPU time of the process over the last 15 seconds; 100 is one core.",
    ),
    Metric("process_memory_usage_bytes", "gauge", (), "bytes", "Resident memory of the process."),
    Metric("process_open_file_descriptors", "gauge", (), "", "File descriptors that the process has open."),
    Metric(
        "process_max_file_descriptors",
        "gauge",
        (),
        "",
        "File descriptors that one process may have open.",
        mode="livemin",
    ),
    Metric(
        "event_loop_lag_seconds",
        "gauge",
        (),
        "seconds",
        "Longest time over the last 15 seconds that the event loop was late to call back.",
        mode="livemax",
    ),
    Metric(
        "event_loop_stalls_total",
        "counter",
        (),
        "",
        "Times that the event loop was blocked for longer than the threshold.",
        process_wide=True,
    ),
    Metric(
        "thread_pool_threads_busy",
        "gauge",
        (),
        "",
        "Threads of the pool for sync handlers (anyio's) that are at work.",
    ),
    Metric(
        "thread_pool_threads_limit",
        "gauge",
        (),
        "",
        "Threads that the pool for sync handlers may have at work.",
    ),
    Metric(
        "thread_pool_tasks_waiting",
        "gauge",
        (),
        "",
        "Calls that wait for a thread of the pool for sync handlers.",
    ),
    Metric(
        "gc_pause_seconds",
        "histogram",
        ("generation",),
        "seconds",
        "Time that a run of Python's garbage collector stopped the process for, by generation.",
        PAUSE_BUCKETS,
    ),
    Metric("service_info", "info", ("name", "version", "environment"), "", "Which service this is."),
)
