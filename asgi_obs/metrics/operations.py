"""`OperationMetrics`: rate, errors, duration and number in progress of what a service does inside.

It fires when an operation starts and when it ends: with the block, the call, or the iteration of a generator. A
tracked call costs about 2 µs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry

from asgi_obs.errors import ConfigurationError, report
from asgi_obs.metrics.buckets import buckets_of
from asgi_obs.metrics.catalogue import Metric, declare
from asgi_obs.metrics.declaration import NAME
from asgi_obs.metrics.labels import family, require_cap, shortened
from asgi_obs.metrics.tracking import Operation, Tracker

__all__ = ["MAX_OPERATIONS", "OPERATION_BUCKETS", "OperationMetrics"]

OPERATION_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds; from a look-up in memory to a model that answers."""

MAX_OPERATIONS: Final = 100
"""The default cap on the series of each family."""


class OperationMetrics:
    """The metrics of the operations of one part of a service.

    They are `<namespace>_operations_total{operation}`, `<namespace>_operation_duration_seconds{operation}`,
    `<namespace>_operation_errors_total{operation,exception}` and `<namespace>_operations_in_progress{operation}`. An
    operation counts when it has ended; one that is cancelled or interrupted (by what is no `Exception`), or whose
    generator is closed early, is no error.

    Args:
        namespace: What the names of the metrics begin with: letters, digits and `_`. May be used again, with the same
            buckets: the metrics are the same then.
        registry: Where they are scraped; default the one of `prometheus_client`.
        buckets: The upper bounds of the duration, in seconds, or the name of a preset.
        max_series: The cap on the series of each metric, the lowest that was asked for; past it new operations become
            `__overflow__`.

    Raises:
        ConfigurationError: An option has a wrong value; or one of the names is that of another metric.
    """

    def __init__(
        self,
        namespace: str,
        *,
        registry: CollectorRegistry = REGISTRY,
        buckets: str | Sequence[float] = OPERATION_BUCKETS,
        max_series: int = MAX_OPERATIONS,
    ) -> None:
        if not isinstance(namespace, str) or NAME.fullmatch(namespace) is None:
            raise ConfigurationError("namespace", namespace, "letters, digits and _, such as memory_service")
        require_cap(max_series)
        metrics = _declarations(namespace, buckets_of(buckets))
        for metric in metrics:
            declare(metric, registry)
        self._families = [family(metric.name, registry, max_series=max_series) for metric in metrics]
        self._operations: dict[str, Operation] = {}

    def track(self, operation: str) -> Tracker:
        """What tracks an operation: `with`, `async with`, or a decorator.

        Args:
            operation: Its name, of a bounded set, in at most 256 characters.

        Raises:
            ConfigurationError: It is no text, or empty.
        """
        try:
            return Tracker(self._operations[operation])
        except (KeyError, TypeError):  # new, or no text
            return Tracker(self._look_up(operation))

    def _look_up(self, name: str) -> Operation | None:
        if not isinstance(name, str) or not name:
            raise ConfigurationError("operation", name, "the name of an operation, such as store_input")
        (name,) = shortened([name])
        try:
            operation = Operation(name, self._families)
        except Exception as error:  # noqa: BLE001 - fail open: the operation is more than its metrics
            report("OperationMetrics.track", error)
            return None
        if self._families[0].holds((name,)):  # those that are folded are without end
            self._operations[name] = operation
        return operation


def _declarations(namespace: str, buckets: tuple[float, ...]) -> tuple[Metric, ...]:
    label = ("operation",)
    return (
        Metric(f"{namespace}_operations_total", "counter", label, "", "Operations that have ended, by name.", hot=True),
        Metric(
            f"{namespace}_operation_duration_seconds",
            "histogram",
            label,
            "seconds",
            "Time that an operation took, by name.",
            buckets,
            hot=True,
        ),
        Metric(f"{namespace}_operations_in_progress", "gauge", label, "", "Operations that have not ended, by name."),
        Metric(
            f"{namespace}_operation_errors_total",
            "counter",
            (*label, "exception"),
            "",
            "Operations that have ended with an exception, by its class.",
        ),
    )
