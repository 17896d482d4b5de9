"""The health metrics of the catalogue."""

from __future__ import annotations

from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry

from asgi_obs.health.result import STATUS_VALUES, CheckResult, Status
from asgi_obs.metrics.catalogue import create

__all__ = ["HealthMetrics"]


class HealthMetrics:
    """Moves the health metrics in one metrics registry.

    Args:
        registry: Where the metrics are.
        service: The value of the label `service`.
        status: The status of the service as it is known now.
    """

    def __init__(self, registry: CollectorRegistry, service: str, status: Status) -> None:
        self._status = create("health_status", registry).labels(service)
        self._check_status = create("health_check_status", registry)
        self._check_duration = create("health_check_duration_seconds", registry)
        self._check_transitions = create("health_check_transitions_total", registry)
        self._readiness_transitions = {
            ready: create("readiness_transitions_total", registry).labels("ready" if ready else "not_ready")
            for ready in (True, False)
        }
        self._checks: dict[str, _CheckMetrics] = {}
        # A gauge begins at 0, and that would be unhealthy.
        self._status.set(STATUS_VALUES[status])

    def is_same(self, other: HealthMetrics) -> bool:
        """Whether both move the same metrics."""
        return self._status is other._status

    def record_run(self, check: str, result: CheckResult, shown: CheckResult) -> None:
        """A check has run: what the run found, and what is shown of the check since."""
        metrics = self._of(check)
        metrics.status.set(STATUS_VALUES[shown.status])
        metrics.duration.observe(result.duration_ms / 1000)

    def record_status(self, status: Status) -> None:
        """What the service's status is since a check has run."""
        self._status.set(STATUS_VALUES[status])

    def count_transition(self, check: str, status: Status) -> None:
        """Another status of a check is shown."""
        self._of(check).transitions[status].inc()

    def count_readiness(self, *, ready: bool) -> None:
        """Readiness answers otherwise than before."""
        self._readiness_transitions[ready].inc()

    def _of(self, check: str) -> _CheckMetrics:
        metrics = self._checks.get(check)
        if metrics is None:
            self._checks[check] = metrics = _CheckMetrics(
                self._check_status.labels(check),
                self._check_duration.labels(check),
                # All at 0 from the first run on: a query sees no increase where a series begins with 1.
                {status: self._check_transitions.labels(check, status) for status in STATUS_VALUES},
            )
        return metrics


class _CheckMetrics(NamedTuple):
    status: Any
    duration: Any
    transitions: dict[Status, Any]
