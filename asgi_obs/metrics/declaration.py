"""`Metric`: what is said of a metric before it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Metric", "MetricType"]

MetricType: TypeAlias = Literal["counter", "gauge", "histogram", "info"]


@dataclass(frozen=True)
class Metric:
    """The declaration of one metric.

    Attributes:
        name: The name as it is scraped, with `_total` or `_info`.
        type: counter, gauge, histogram or info.
        labels: The names of its labels, in order; of an info, its keys.
        unit: The base unit, which the name ends in; empty if it is a plain number.
        help: What it says, in a sentence.
        buckets: The upper bounds of a histogram, in its unit.
        process_wide: Whether there is one for the process, shared by all registries.
        hot: Whether it moves on every request or message, so that its cost counts.
    """

    name: str
    type: MetricType
    labels: tuple[str, ...]
    unit: str
    help: str
    buckets: tuple[float, ...] = ()
    process_wide: bool = False
    hot: bool = False
