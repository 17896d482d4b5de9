"""The pool of an engine: its size, what is out of it, and how long one waits for a connection.

The gauges move when a connection is checked out, checked in, closed or detached, and when an engine is disposed of or
collected: a scrape, also one of another process, finds them right. Connections are counted by their records, not asked
of the pool, which has not yet finished when it tells of a change, and which a disposed engine replaces. It costs 6 µs
for a connection that is taken and given back.

Where several processes share their numbers, a size is that of those which serve (their event loop is monitored) or have
a connection open: gunicorn with --preload makes the engine in a process that does neither.
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
from asgi_obs.metrics.hot import HotGauge
from asgi_obs.metrics.process.event_loop import loops
from asgi_obs.metrics.process.monitor import refresh_with_samples

__all__ = ["watch_pool"]


def watch_pool(engine: Engine, registry: CollectorRegistry) -> Callable[[], None]:
    """Count the connections of an engine's pool, and time how long it takes to get one.

    Those that are out already are counted when they are next taken. A pool that engines share is counted once, on the
    registry of the first of them, until it is taken back for the last.

    Args:
        engine: A sync engine, or that in an async one.
        registry: Where the metrics are scraped.

    Returns:
        What takes all of it back; it is called as well when the engine is collected.
    """
    present = engine.pool.connect
    if isinstance(present, _TimedConnect):
        watch = present.watch
        watch.users += 1
    else:
        watch = _PoolWatch(engine, _gauges_of(registry), _Waiting(registry))
    end = finalize(engine, watch.leave)
    end.atexit = False
    return end


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

    Attributes:
        are_shared: Whether they are sums over the processes, too.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        size: Gauge | HotGauge = create("db_pool_size", registry)
        checked_out: Gauge | HotGauge = create("db_pool_connections_checked_out", registry)
        overflow: Gauge | HotGauge = create("db_pool_overflow", registry)
        self.are_shared = not isinstance(size, HotGauge)
        self._set_size, self._set_checked_out, self._set_overflow = size.set, checked_out.set, overflow.set
        self._size, self._checked_out, self._overflow = _NOTHING
        self._shown: dict[_PoolWatch, _Counts] = {}
        self._changed: deque[_PoolWatch] = deque()
        self._lock = Lock()
        renew_in_children(self)
        if self.are_shared:
            refresh_with_samples(self)

    def update(self, watch: _PoolWatch) -> None:
        """Show what has changed of an engine. Does not raise."""
        self._changed.append(watch)
        self._settle()

    def refresh(self) -> None:
        """Show all engines: the process may have begun to serve. Does not raise."""
        self._changed.extend(list(self._shown))
        self._settle()

    def _settle(self) -> None:
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
            if now is not _NOTHING:  # rather than asked again: it may have stopped meanwhile
                self._shown[watch] = now
            self._size += now.size - before.size
            self._checked_out += now.checked_out - before.checked_out
            self._overflow += now.overflow - before.overflow
        self._set_size(self._size)
        self._set_checked_out(self._checked_out)
        self._set_overflow(self._overflow)

    def after_fork(self) -> None:
        """Begin anew: the connections are the parent's, and what remains are the sizes."""
        self._lock = Lock()
        watches = {*self._shown, *self._changed}
        self._size, self._checked_out, self._overflow = _NOTHING
        self._shown.clear()
        self._changed.clear()
        for watch in watches:
            watch.forget()
            self._changed.append(watch)
        if not self.are_shared:  # otherwise with the first sample: not every process that is forked is to have a file
            self._settle()


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
        watch: Who watches it.
        waiting: The metrics.

    Attributes:
        watch: Who watches the pool.
    """

    def __init__(self, pool: Pool, watch: _PoolWatch, waiting: _Waiting) -> None:
        self.watch = watch
        present = pool.connect
        # Two threads may find at the same time that the engine has another pool.
        self._connect: Callable[[], PoolProxiedConnection] = (
            present._connect if isinstance(present, _TimedConnect) else present
        )
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
        users: How many engines it is for that have the same pool; with none it is not counted.
    """

    def __init__(self, engine: Engine, gauges: _PoolGauges, waiting: _Waiting) -> None:
        self._engine = ref(engine)
        self._gauges = gauges
        self._waiting = waiting
        self._out: set[ref[ConnectionPoolEntry]] = set()
        self._open: set[ref[ConnectionPoolEntry]] = set()
        self.users = 1
        self._follow(engine)
        # Last: the engine may be in use.
        for name, listener in self._listeners():
            event.listen(engine, name, listener)

    def counts(self) -> _Counts:
        """What is to be shown of the engine; nothing if it is no longer watched."""
        if not self.users:
            return _NOTHING
        # The size of a pool that a process has only for those that it forks is none of its own.
        is_used = self._open or not self._gauges.are_shared or loops.alive
        overflow = len(self._open) - self._size if self._size else 0
        return _Counts(self._size if is_used else 0, len(self._out), max(0, overflow))

    def forget(self) -> None:
        """Leave the connections to the process that this one was forked from."""
        self._out.clear()
        self._open.clear()

    def leave(self) -> None:
        """One of its engines wants it no more. For the last, take everything back; what is still out has never been."""
        self.users -= 1
        if not self.users:
            self._stop()

    def _stop(self) -> None:
        engine, pool = self._engine(), self._pool()
        if engine is not None:
            for name, listener in self._listeners():
                with suppress(exc.InvalidRequestError):  # somebody has given the engine another pool
                    event.remove(engine, name, listener)
        if pool is not None and isinstance(pool.connect, _TimedConnect):
            del pool.connect
        self._gauges.update(self)

    def _listeners(self) -> list[tuple[str, Callable[..., None]]]:
        return [
            ("checkout", self._checked_out),
            ("checkin", self._checked_in),
            ("close", self._closed),
            ("detach", self._detached),
            ("engine_disposed", self._follow),
        ]

    def _follow(self, engine: Engine) -> None:
        """The engine has a new pool, which has the listeners of the old one, and nothing else of it."""
        pool = engine.pool
        self._pool = ref(pool)
        self._size = pool.size() if isinstance(pool, QueuePool) else 0  # the only one that counts, with its async kin
        try:
            pool.connect = _TimedConnect(pool, self, self._waiting)  # type: ignore[method-assign]
        except Exception as error:  # noqa: BLE001 - a pool that does not allow it is not timed
            report("PoolWatch.time", error)
        self._gauges.update(self)

    def _checked_out(self, _connection: Any, record: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
        mark = ref(record, self._lost)
        self._out.add(mark)
        # Not when it is opened: what goes wrong then is not always told, and it would stay for good.
        self._open.add(mark)
        engine = self._engine()
        if engine is not None and engine.pool is not self._pool():  # `engine.pool = ...`, of which there is no event
            self._follow(engine)
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
