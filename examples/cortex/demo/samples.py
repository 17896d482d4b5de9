"""Reads the text that `/metrics` answers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Samples:
    """The samples of one scrape.

    Attributes:
        entries: Name, labels and value of every sample.
    """

    entries: tuple[tuple[str, dict[str, str], float], ...] = ()

    @classmethod
    def parse(cls, exposition: str) -> Samples:
        """The samples in Prometheus' text format."""
        families = text_string_to_metric_families(exposition)
        return cls(tuple((one.name, one.labels, one.value) for family in families for one in family.samples))

    def select(self, name: str, **labels: str) -> Iterator[tuple[dict[str, str], float]]:
        """Labels and value of every sample of that name that has these labels, whatever others it has."""
        for found, having, value in self.entries:
            if found == name and labels.items() <= having.items():
                yield having, value

    def total(self, name: str, **labels: str) -> float:
        """The sum of what `select` gives; 0 for nothing."""
        return sum(value for _, value in self.select(name, **labels))

    def quantile(self, fraction: float, histogram: str, **labels: str) -> float:
        """Estimate a quantile the way Prometheus does: linear inside the bucket; NaN without observations."""
        bounds: dict[float, float] = {}
        for having, value in self.select(f"{histogram}_bucket", **labels):
            bound = float(having["le"])
            bounds[bound] = bounds.get(bound, 0.0) + value
        wanted = fraction * bounds.get(math.inf, 0.0)
        lower, below = 0.0, 0.0
        for bound, up_to in sorted(bounds.items()):
            if wanted and up_to >= wanted:
                return lower if math.isinf(bound) else lower + (bound - lower) * (wanted - below) / (up_to - below)
            lower, below = bound, up_to
        return math.nan
