"""The health metrics of the catalogue."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from asgi_obs.health.result import STATUS_VALUES, CheckResult, Status
from asgi_obs.metrics.catalogue import create

__all__ = ["HealthMetrics"]


class HealthMetrics:
    """Moves the health metrics in one metrics registry.

    Args:
        registry: Where the metrics are.
        service: The value of the label `service`.
    """

    def __init__(self, registry: CollectorRegistry, service: str) -> None:
        self._status = create("health_status", registry).labels(service)
        self._check_status = create("health_check_status", registry)
        self._check_duration = create("health_check_duration_seconds", registry)

    def is_same(self, other: HealthMetrics) -> bool:
        """Whether both move the same metrics."""
        return self._status is other._status

    def record(self, status: Status, check: str, result: CheckResult) -> None:
        """One check has run: its result, and what the service's status is since."""
        self._status.set(STATUS_VALUES[status])
        self._check_status.labels(check).set(STATUS_VALUES[result.status])
        self._check_duration.labels(check).observe(result.duration_ms / 1000)
