"""`view_of`: what a scrape shows when several processes serve one port, whichever of them is asked.

Counters, histograms and summaries are sums over all processes there have been, gauges follow their mode: what begins
with `live` ends with its process, and so does `all`; `sum`, `min`, `max` and `mostrecent` count on. What is in no
file is that of the process that is asked: infos, collectors of your own, gauges with a function. Left out is what
`prometheus_client` tells of its own process and garbage collector, and when a series was created. Metrics that were
made before this library was imported are in files of `prometheus_client`, and shown as it shows them, but for those
that are here too: files from before.

A scrape of four processes with 2,500 series each takes some 80 ms of work, where one process takes 60.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar

from prometheus_client import GC_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.samples import Sample

from asgi_obs.errors import report
from asgi_obs.metrics.multiprocess.families import SharedFamily, families_of
from asgi_obs.metrics.multiprocess.fold import Totals, add
from asgi_obs.metrics.multiprocess.series import decode, writable
from asgi_obs.metrics.multiprocess.store import Store
from asgi_obs.metrics.streaming import stream

__all__ = ["MultiprocessView"]

T = TypeVar("T")

_log: Final = logging.getLogger("asgi_obs")


class MultiprocessView:
    """The metrics of all processes; the encoders of `prometheus_client` take it in place of a registry.

    Args:
        registry: The metrics of this process.
        store: Where it keeps their values.
        pause: Called after every bit of work, never while other processes wait for this one.
        names: The names of the samples to show; None for all.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        store: Store,
        pause: Callable[[], object] = lambda: None,
        names: frozenset[str] | None = None,
    ) -> None:
        self._registry = registry
        self._store = store
        self._pause = pause
        self._names = names

    def restricted_registry(self, names: Iterable[str]) -> MultiprocessView:
        """The same with the samples of these names only."""
        return MultiprocessView(self._registry, self._store, self._pause, frozenset(names))

    def collect(self) -> Iterator[Metric]:
        """The families: those of this process in its order, then those that only others have.

        Their `samples` are any iterable, which can be gone through once.

        Raises:
            TimeoutError: Other processes kept this one from reading the files.
            OSError: A file cannot be read.
        """
        local = [family for family in self._collect_local() if family.name not in _of_this_process_only()]
        types = {family.name: family.type for family in local}
        shared = families_of(self._paced(self._read()), types)
        foreign = {family.name: family for family in _collect_foreign(self._store.path)}
        for name in shared.keys() & foreign:
            del foreign[name]
            _say_that_there_is_another(name, self._store.path)
        for family in local:
            if family.name in shared:
                family = self._join(family, shared.pop(family.name))
            yield from self._restrict(foreign.pop(family.name, family))
        for name in sorted({*shared, *foreign}):
            yield from self._restrict(shared[name].metric(None) if name in shared else foreign[name])

    def _collect_local(self) -> Iterable[Metric]:
        registry = self._registry if self._names is None else self._registry.restricted_registry(self._names)
        return stream(registry)

    def _read(self) -> Iterator[tuple[str, float, str]]:
        """Key, value and PID of all there is; the PID is empty where processes are not shown by themselves."""
        snapshot = self._store.take_snapshot()
        single: list[tuple[str, float, str]] = []
        totals: Totals = {}
        for pid, entries in snapshot.live:
            try:
                add(totals, _apart(self._paced(entries), pid, single))
            except ValueError as error:
                snapshot.problems.append(error)
        add(totals, ((key, *entry) for key, entry in self._paced(snapshot.ended.items())))
        for problem in snapshot.problems:
            report("MultiprocessView.collect", problem)
        yield from single
        yield from ((key, value, "") for key, (value, _) in totals.items())

    def _join(self, local: Metric, shared: SharedFamily) -> Metric:
        joined: Any = shared.metric(local)
        if local.type == "gauge" and not shared.by_process:
            # Gauges that no process has set yet.
            unset = (_writable(it) for it in self._paced(local.samples) if not shared.has(it.name, it.labels))
            joined.samples = chain(joined.samples, unset)
        return joined  # type: ignore[no-any-return]

    def _restrict(self, family: Metric) -> Iterator[Metric]:
        if self._names is None:
            yield family
            return
        family.samples = [sample for sample in self._paced(family.samples) if sample.name in self._names]
        if family.samples:
            yield family

    def _paced(self, items: Iterable[T]) -> Iterator[T]:
        for item in items:
            yield item
            self._pause()


def _apart(
    entries: Iterable[tuple[str, float, float]], pid: str, single: list[tuple[str, float, str]]
) -> Iterator[tuple[str, float, float]]:
    """The entries of a process without those that are shown by themselves: these are put in `single`."""
    for key, value, time in entries:
        if decode(key).by_process:
            single.append((key, value, pid))
        else:
            yield key, value, time


def _writable(sample: Sample) -> Sample:
    return sample._replace(labels={label: writable(value) for label, value in sample.labels.items()})


def _collect_foreign(path: Path) -> list[Metric]:
    if next(path.glob("*.db"), None) is None:
        return []
    try:
        return list(MultiProcessCollector(None, str(path)).collect())  # type: ignore[no-untyped-call]
    except Exception as error:  # noqa: BLE001 - fail open: one damaged file is not the end of all others
        report("MultiprocessView.collect", error)
        return []


@cache
def _say_that_there_is_another(name: str, path: Path) -> None:
    _log.warning("files of prometheus_client in %s have a metric %s too, from before: it is not shown", path, name)


@lru_cache(maxsize=1)
def _of_this_process_only() -> frozenset[str]:
    return frozenset(family.name for collector in (PROCESS_COLLECTOR, GC_COLLECTOR) for family in collector.collect())
