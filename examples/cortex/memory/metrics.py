"""What the memory service counts of its own."""

from __future__ import annotations

from asgi_obs import OperationMetrics
from asgi_obs.metrics.custom import Gauge

operations = OperationMetrics("memory_service")
"""Moves `memory_service_operations_total` and `memory_service_operation_duration_seconds`."""

STORAGE_SIZE = Gauge(
    "memory_service_storage_size_bytes",
    "Bytes of text that are kept of a user.",
    ["user_id"],
    mode="livemostrecent",  # every worker sets the size of all that is kept, whoever has kept it
)
