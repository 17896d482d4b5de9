"""`view_of`: what a scrape shows when several processes serve one port, whichever of them is asked.

Counters, histograms and summaries are sums over all processes there have been, gauges follow their mode: what begins
with `live` ends with its process, and so does `all`; `sum`, `min`, `max` and `mostrecent` count on. What is in no
file is that of the process that is asked: infos, collectors of your own, gauges with a function. Left out is what
`prometheus_client` tells of its own process and garbage collector, and when a series was created. Metrics that were
made before this library was imported are in files of `prometheus_client`, and shown as it shows them.

A scrape of four processes with 2,500 series each takes 35 ms, where one process takes 25.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from prometheus_client import GC_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from asgi_obs.errors import report
from asgi_obs.metrics.multiprocess.families import SharedFamily, families_of
from asgi_obs.metrics.multiprocess.fold import Snapshot, Totals, add
from asgi_obs.metrics.multiprocess.series import decode
from asgi_obs.metrics.multiprocess.store import Store

__all__ = ["MultiprocessView"]


class MultiprocessView:
    """The metrics of all processes; the encoders of `prometheus_client` take it in place of a registry.

    Args:
        registry: The metrics of this process.
        store: Where it keeps their values.
        names: The names of the samples to show; None for all.
    """

    def __init__(self, registry: CollectorRegistry, store: Store, names: frozenset[str] | None = None) -> None:
        self._registry = registry
        self._store = store
        self._names = names

    def restricted_registry(self, names: Iterable[str]) -> MultiprocessView:
        """The same with the samples of these names only."""
        return MultiprocessView(self._registry, self._store, frozenset(names))

    def collect(self) -> Iterator[Metric]:
        """The families: those of this process in its order, then those that only others have.

        Raises:
            TimeoutError: Other processes kept this one from reading the files.
            OSError: A file cannot be read.
        """
        local = [family for family in self._collect_local() if family.name not in _of_this_process_only()]
        shared = families_of(self._read(), {family.name: family.type for family in local})
        foreign = {family.name: family for family in _collect_foreign(self._store.path)}
        for family in local:
            if family.name in shared:
                family = _join(family, shared.pop(family.name))
            yield from self._restrict(foreign.pop(family.name, family))
        for name in sorted({*shared, *foreign}):
            yield from self._restrict(shared[name].metric(None) if name in shared else foreign[name])

    def _collect_local(self) -> Iterable[Metric]:
        registry = self._registry if self._names is None else self._registry.restricted_registry(self._names)
        return registry.collect()

    def _read(self) -> Totals:
        snapshot = self._store.take_snapshot()
        totals = _total(snapshot)
        for problem in snapshot.problems:
            report("MultiprocessView.collect", problem)
        return totals

    def _restrict(self, family: Metric) -> Iterator[Metric]:
        if self._names is None:
            yield family
            return
        family.samples = [sample for sample in family.samples if sample.name in self._names]
        if family.samples:
            yield family


def _total(snapshot: Snapshot) -> Totals:
    totals: Totals = {}
    for pid, entries in snapshot.live:
        try:
            add(totals, _of_process(pid, entries))
        except ValueError as error:
            snapshot.problems.append(error)
    add(totals, ((key, *entry) for key, entry in snapshot.ended.items()))
    return totals


def _of_process(pid: str, entries: Iterable[tuple[str, float, float]]) -> Iterator[tuple[str, float, float]]:
    for key, value, time in entries:
        series = decode(key)
        yield series.of(pid) if series.by_process else key, value, time


def _join(local: Metric, shared: SharedFamily) -> Metric:
    joined = shared.metric(local)
    if local.type == "gauge" and not shared.by_process:
        # Gauges that no process has set yet.
        joined.samples += [sample for sample in local.samples if not shared.has(sample.name, sample.labels)]
    return joined


def _collect_foreign(path: Path) -> Iterable[Metric]:
    if next(path.glob("*.db"), None) is None:
        return ()
    families: Iterable[Metric] = MultiProcessCollector(None, str(path)).collect()  # type: ignore[no-untyped-call]
    return families


@lru_cache(maxsize=1)
def _of_this_process_only() -> frozenset[str]:
    return frozenset(family.name for collector in (PROCESS_COLLECTOR, GC_COLLECTOR) for family in collector.collect())
