"""What is said of health: a line in the log and a count for every change, and the gauges.

Nothing here raises: a log or a metric that fails keeps no probe from its answer. A change is told when a probe or the
background refresh sees it, never by a signal handler that asks for it: in the middle of a log line the locks of the
handlers may be taken.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry

from asgi_obs.errors import report
from asgi_obs.health.forks import ForkSafeLock
from asgi_obs.health.metrics import HealthMetrics
from asgi_obs.health.result import CheckResult, Status
from asgi_obs.health.state import ReadinessReport

__all__ = ["Journal"]

_log = logging.getLogger("asgi_obs")
_lock: Final = ForkSafeLock()


class Journal:
    """Tells of one health registry."""

    def __init__(self) -> None:
        self._metrics: list[HealthMetrics] = []
        self._was_ready = True

    def export(self, registry: CollectorRegistry, service: str, status: Status) -> None:
        """Move the metrics of a registry from now on; once, however often it is called."""
        metrics = HealthMetrics(registry, service, status)
        if not any(metrics.is_same(present) for present in self._metrics):
            self._metrics.append(metrics)

    def check_has_run(self, name: str, result: CheckResult, shown: CheckResult, previous: CheckResult | None) -> None:
        """A check has run.

        Args:
            name: The check.
            result: What the run found.
            shown: What is shown of the check since.
            previous: What was shown before; None for nothing, which counts as healthy.
        """
        self._in_metrics(lambda metrics: metrics.record_run(name, result, shown))
        before = "healthy" if previous is None else previous.status
        if shown.status != before:
            self._in_metrics(lambda metrics: metrics.count_transition(name, shown.status))
            level = logging.INFO if shown.status == "healthy" else logging.WARNING
            text = ": ".join(filter(None, (shown.message, shown.detail)))
            _say(level, "health check %s is %s, was %s: %s", name, shown.status, before, text)

    def status_is(self, status: Status) -> None:
        """The status of the service, after a check has run."""
        self._in_metrics(lambda metrics: metrics.record_status(status))

    def readiness_is(self, answer: ReadinessReport) -> None:
        """Readiness has been asked for; tells of it if the answer is another than before."""
        with _lock:
            has_changed = answer.ready != self._was_ready
            self._was_ready = answer.ready
        if not has_changed:
            return
        self._in_metrics(lambda metrics: metrics.count_readiness(ready=answer.ready))
        if answer.ready:
            _say(logging.INFO, "readiness is ready, was not_ready")
        else:
            # Starting and draining are somebody's wish, a check that fails is nobody's.
            is_wanted = answer.state != "ready"
            reason = f"{answer.state}: {answer.reason}" if is_wanted else answer.reason
            _say(logging.INFO if is_wanted else logging.WARNING, "readiness is not_ready, was ready: %s", reason)

    def _in_metrics(self, record: Callable[[HealthMetrics], None]) -> None:
        for metrics in self._metrics:
            try:
                record(metrics)
            except Exception as error:  # noqa: BLE001 - fail open: the probe gets its answer all the same
                report("HealthRegistry.metrics", error)


def _say(level: int, message: str, *values: object) -> None:
    try:
        _log.log(level, message, *values)
    except Exception as error:  # noqa: BLE001 - fail open: a handler or a filter of others may raise
        report("HealthRegistry.log", error)
