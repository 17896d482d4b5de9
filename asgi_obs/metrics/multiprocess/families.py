"""From totals to what the encoders of `prometheus_client` take."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from prometheus_client.core import Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from asgi_obs.metrics.multiprocess.series import HELP, Series, decode, writable

__all__ = ["SharedFamily", "families_of"]

_Labels: TypeAlias = tuple[tuple[str, str], ...]
_Samples: TypeAlias = Iterable[tuple[str, _Labels, float]]

_text: Callable[[float], str] = floatToGoString


class SharedFamily:
    """A family with what all processes have counted.

    Args:
        series: One of its series.

    Attributes:
        by_process: Whether its series have the label `pid`.
        help: The help text.
    """

    def __init__(self, series: Series) -> None:
        self.by_process = series.by_process
        self.help = ""
        self._name = series.family
        self._type = series.type
        self._values: dict[tuple[str, _Labels], float] = {}
        self._histograms: dict[_Labels, dict[float, float]] = {}

    def add(self, series: Series, value: float, pid: str) -> None:
        """Add the value of a series; of the process with this PID if it is shown by itself."""
        if self._type == "histogram" and series.name.endswith("_bucket"):
            labels = dict(series.labels)
            bound = float(labels.pop("le"))
            self._histograms.setdefault(tuple(labels.items()), {})[bound] = value
        elif self.by_process:
            self._values[series.name, (*series.labels, ("pid", pid))] = value
        else:
            self._values[series.name, series.labels] = value

    def has(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether there is a sample of this name with these labels; not for histograms."""
        return (name, tuple(sorted((label, writable(value)) for label, value in labels.items()))) in self._values

    def metric(self, local: Metric | None) -> Metric:
        """The family as it is scraped; its `samples` are made when they are asked for, once.

        Args:
            local: The same family in this process, which knows its unit; None if it has none of that name.
        """
        metric: Any
        if local is None:
            metric = Metric(self._name, self.help, self._type)
        else:
            metric = Metric(local.name, local.documentation, local.type, local.unit)
        samples = self._histogram_samples() if self._type == "histogram" else self._samples()
        metric.samples = (Sample(name, dict(labels), value) for name, labels, value in samples)
        return metric  # type: ignore[no-any-return]

    def _samples(self) -> _Samples:
        return ((name, labels, value) for (name, labels), value in self._values.items())

    def _histogram_samples(self) -> _Samples:
        for labels, counts in self._histograms.items():
            counts.setdefault(math.inf, 0.0)  # it is the last one to be made
            total = 0.0
            for bound in sorted(counts):
                total += counts[bound]
                yield f"{self._name}_bucket", (*labels, ("le", _text(bound))), total
            yield f"{self._name}_count", labels, total
            if min(counts) >= 0:  # OpenMetrics: a sum that may fall is none
                yield f"{self._name}_sum", labels, self._values.get((f"{self._name}_sum", labels), 0.0)


def families_of(values: Iterable[tuple[str, float, str]], types: Mapping[str, str]) -> dict[str, SharedFamily]:
    """The families of some values, by name.

    Left out is what has a name in common with something of another kind that comes before it: it was counted by
    another version of the code.

    Args:
        values: Key, value and PID, empty for what is not of one process; those of processes that live come first.
        types: The types of the families in this process, by name; they come before all others.
    """
    found: dict[str, SharedFamily] = {}
    helps: dict[str, str] = {}
    kinds: dict[str, tuple[str, str, str]] = {}
    for key, value, pid in values:
        series = decode(key)
        if series.type == HELP:
            helps.setdefault(series.family, series.name)
        elif _is_known_as(series, types) and _is_first_of(series, kinds):
            if series.family not in found:
                found[series.family] = SharedFamily(series)
            found[series.family].add(series, value, pid)
    for name, family in found.items():
        family.help = helps.get(name, "")
    return found


def _is_known_as(series: Series, types: Mapping[str, str]) -> bool:
    if series.name != series.family and series.name in types:
        return False
    return types.get(series.family, series.type) == series.type


def _is_first_of(series: Series, kinds: dict[str, tuple[str, str, str]]) -> bool:
    kind = (series.family, series.type, series.mode)
    return kinds.setdefault(series.family, kind) == kind == kinds.setdefault(series.name, kind)
