"""What the cognition service counts of its own."""

from __future__ import annotations

from asgi_obs import OperationMetrics

operations = OperationMetrics("cognition_service")
"""Moves `cognition_service_operations_total` and `cognition_service_operation_duration_seconds`."""
