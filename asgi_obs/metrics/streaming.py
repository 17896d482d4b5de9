"""`stream`: the families of a registry, of which each sample is read when it is asked for.

`CollectorRegistry.collect()` makes all samples of a family at once. 5,000 series take some 10 ms then, in which
requests get nothing done, and so many objects that live at the same time set off the garbage collector, which takes as
long again. One after another they cost no more in all, and leave room in between.

The label values are those at the beginning of a family, and the buckets, count and sum of a histogram are still read
together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

__all__ = ["LazyCollector", "stream"]


@runtime_checkable
class LazyCollector(Protocol):
    """A collector with so many series that it is worth while not to make them all at once."""

    def collect_lazily(self) -> Iterable[Metric]:
        """As `collect`; the `samples` of a family may be any iterable, which is gone through once."""
        ...


def stream(view: Any) -> Iterator[Metric]:
    """What `view.collect()` returns, the samples of a family being any iterable, which can be gone through once.

    Args:
        view: A registry, or something else that an encoder of `prometheus_client` takes.
    """
    # Not public, as `_samples` below: where a later version has it no longer, all is as without this file.
    collectors = getattr(view, "_collector_to_names", None)
    if collectors is None or type(view).collect is not CollectorRegistry.collect:
        yield from view.collect()
        return
    labels = view.get_target_info()
    if labels:
        yield _target(labels)
    for collector in collectors.copy():
        yield from _families(collector)


def _target(labels: dict[str, str]) -> Metric:
    family = Metric("target", "Target metadata", "info")
    family.add_sample("target_info", labels, 1)
    return family


def _families(collector: Any) -> Iterable[Metric]:
    if isinstance(collector, LazyCollector):
        return collector.collect_lazily()
    if getattr(type(collector), "collect", None) is MetricWrapperBase.collect and hasattr(collector, "_samples"):
        return [_family(collector)]
    return list(collector.collect())  # at once: a generator may hold a lock until its end


def _family(metric: Any) -> Metric:
    """The family of a metric of `prometheus_client`, as its `collect` has it."""
    family: Any = MetricWrapperBase.describe(metric)[0]  # type: ignore[index]
    family.samples = (Sample(family.name + sample[0], *sample[1:]) for sample in metric._samples())
    return family  # type: ignore[no-any-return]
