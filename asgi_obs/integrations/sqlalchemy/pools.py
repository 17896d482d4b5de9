"""The pool of an engine: its size, what is out of it, and how long one waits for a connection.

The gauges move when a connection is checked out, checked in, closed or detached, and when an engine is disposed of or
collected: a scrape, also one of another process, finds them right. Connections are counted by their records, not asked
of the pool, which has not yet finished when it tells of a change, and which a disposed engine replaces. It costs 6 µs
for a connection that is taken and given back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from time import perf_counter
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary, finalize, ref

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from sqlalchemy import Engine, Pool, QueuePool, event, exc
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from asgi_obs.errors import report
from asgi_obs.health.forks import renew_in_children
from asgi_obs.metrics.catalogue import create

__all__ = ["watch_pool"]


def watch_pool(engine: Engine, registry: CollectorRegistry) -> Callable[[], None]:
    """Count the connections of an engine's pool, and time how long it takes to get one.

    Those that are out already are counted when they are next taken. A pool that is watched already, as that of an
    engine with other execution options is, stays with who watches it.

    Args:
        engine: A sync engine, or that in an async one.
        registry: Where the metrics are scraped.

    Returns:
        What takes all of it back.
    """
    if isinstance(engine.pool.connect, _TimedConnect):
        return lambda: None
    watch = _PoolWatch(engine, _gauges_of(registry), _Waiting(registry))
    return watch.stop


class _Counts(NamedTuple):
    """What one engine adds to the gauges."""

    size: int
    checked_out: int
    overflow: int


_NOTHING: Final = _Counts(0, 0, 0)


class _PoolGauges:
    """The sums over the engines of a registry.

    A change may come from the garbage collector, at any place, also below `update` in the same thread. So nobody waits
    for the lock: who does not get it leaves the change to who has it.

    Args:
        registry: Where they are scraped.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        size: Gauge = create("db_pool_size", registry)
        checked_out: Gauge = create("db_pool_connections_checked_out", registry)
        overflow: Gauge = create("db_pool_overflow", registry)
        self._set_size, self._set_checked_out, self._set_overflow = size.set, checked_out.set, overflow.set
        self._size, self._checked_out, self._overflow = _NOTHING
        self._shown: dict[_PoolWatch, _Counts] = {}
        self._changed: deque[_PoolWatch] = deque()
        self._lock = Lock()
        renew_in_children(self)

    def update(self, watch: _PoolWatch) -> None:
        """Show what has changed of an engine. Does not raise."""
        self._changed.append(watch)
        # Again after each release: a change may have come just before.
        while self._changed and self._lock.acquire(blocking=False):
            try:
                self._show()
            except Exception as error:  # noqa: BLE001 - fail open: the connection is worth more
                report("PoolGauges.update", error)
            finally:
                self._lock.release()

    def _show(self) -> None:
        while self._changed:
            watch = self._changed.popleft()
            before, now = self._shown.pop(watch, _NOTHING), watch.counts()
            if watch.is_on:
                self._shown[watch] = now
            self._size += now.size - before.size
            self._checked_out += now.checked_out - before.checked_out
            self._overflow += now.overflow - before.overflow
        self._set_size(self._size)
        self._set_checked_out(self._checked_out)
        self._set_overflow(self._overflow)

    def after_fork(self) -> None:
        """Begin anew: the connections are the parent's. What remains, the sizes, is shown with the next change."""
        self._lock = Lock()
        watches = {*self._shown, *self._changed}
        self._size, self._checked_out, self._overflow = _NOTHING
        self._shown.clear()
        self._changed.clear()
        for watch in watches:
            watch.forget()
            self._changed.append(watch)


class _Waiting:
    """The metrics of those who want a connection.

    Args:
        registry: Where they are scraped.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds: Histogram = create("db_pool_wait_seconds", registry)
        self._timeouts: Counter = create("db_pool_timeouts_total", registry)

    def ended(self, seconds: float, *, timed_out: bool) -> None:
        """Somebody has waited. Does not raise."""
        try:
            self._seconds.observe(seconds)
            if timed_out:
                self._timeouts.inc()
        except Exception as error:  # noqa: BLE001 - fail open: the connection is worth more
            report("Waiting.ended", error)


class _TimedConnect:
    """Stands in the place of `Pool.connect` of one pool: no event comes before a connection is looked for.

    Args:
        pool: The pool.
        waiting: The metrics.
    """

    def __init__(self, pool: Pool, waiting: _Waiting) -> None:
        self._connect = pool.connect
        self._waiting = waiting

    def __call__(self) -> PoolProxiedConnection:
        started_at = perf_counter()
        timed_out = False
        try:
            return self._connect()
        except exc.TimeoutError:
            timed_out = True
            raise
        finally:
            self._waiting.ended(perf_counter() - started_at, timed_out=timed_out)


class _PoolWatch:
    """The connections of one engine, of the pools too that it had before it was disposed of.

    It holds neither engine, pool nor connection: none of them lives longer for it.

    Args:
        engine: The engine.
        gauges: Where it is added.
        waiting: The metrics of those who wait.

    Attributes:
        is_on: Whether it is counted.
    """

    def __init__(self, engine: Engine, gauges: _PoolGauges, waiting: _Waiting) -> None:
        self._engine = ref(engine)
        self._gauges = gauges
        self._waiting = waiting
        self._out: set[ref[ConnectionPoolEntry]] = set()
        self._open: set[ref[ConnectionPoolEntry]] = set()
        for name, listener in self._listeners():
            event.listen(engine, name, listener)
        self.is_on = True
        self._end = finalize(engine, self.stop)
        self._end.atexit = False
        self._disposed(engine)

    def counts(self) -> _Counts:
        """What is to be shown of the engine; nothing if it is no longer watched."""
        if not self.is_on:
            return _NOTHING
        overflow = len(self._open) - self._size if self._size else 0
        return _Counts(self._size, len(self._out), max(0, overflow))

    def forget(self) -> None:
        """Leave the connections to the process that this one was forked from."""
        self._out.clear()
        self._open.clear()

    def stop(self) -> None:
        """Take everything back; what is still out has never been."""
        self._end.detach()
        engine = self._engine()
        if engine is not None:
            for name, listener in self._listeners():
                with suppress(exc.InvalidRequestError):  # somebody has given the engine another pool
                    event.remove(engine, name, listener)
            if isinstance(engine.pool.connect, _TimedConnect):
                del engine.pool.connect
        self.is_on = False
        self._gauges.update(self)

    def _listeners(self) -> list[tuple[str, Callable[..., None]]]:
        return [
            ("checkout", self._checked_out),
            ("checkin", self._checked_in),
            ("close", self._closed),
            ("detach", self._detached),
            ("engine_disposed", self._disposed),
        ]

    def _disposed(self, engine: Engine) -> None:
        """The engine has a new pool, which has the listeners of the old one, and nothing else of it."""
        pool = engine.pool
        self._size = pool.size() if isinstance(pool, QueuePool) else 0  # the only one that counts, with its async kin
        try:
            pool.connect = _TimedConnect(pool, self._waiting)  # type: ignore[method-assign]
        except Exception as error:  # noqa: BLE001 - a pool that does not allow it is not timed
            report("PoolWatch.time", error)
        self._gauges.update(self)

    def _checked_out(self, _connection: Any, record: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
        mark = ref(record, self._lost)
        self._out.add(mark)
        # Not when it is opened: what goes wrong then is not always told, and it would stay for good.
        self._open.add(mark)
        self._gauges.update(self)

    def _checked_in(self, _connection: Any, record: ConnectionPoolEntry) -> None:
        self._out.discard(ref(record))
        self._gauges.update(self)

    def _closed(self, _connection: Any, record: ConnectionPoolEntry) -> None:
        self._open.discard(ref(record))
        self._gauges.update(self)

    def _detached(self, _connection: Any, record: ConnectionPoolEntry) -> None:
        """The connection is no longer the pool's."""
        mark = ref(record)
        self._out.discard(mark)
        self._open.discard(mark)
        self._gauges.update(self)

    def _lost(self, mark: ref[ConnectionPoolEntry]) -> None:
        """The pool of a connection was dropped, and the connection with it."""
        self._out.discard(mark)
        self._open.discard(mark)
        self._gauges.update(self)


_all_gauges: Final[WeakKeyDictionary[CollectorRegistry, _PoolGauges]] = WeakKeyDictionary()
_all_gauges_lock: Final = Lock()


def _gauges_of(registry: CollectorRegistry) -> _PoolGauges:
    made = _PoolGauges(registry)
    with _all_gauges_lock:
        return _all_gauges.setdefault(registry, made)
