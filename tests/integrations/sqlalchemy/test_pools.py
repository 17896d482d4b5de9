"""The pool: whatever happens to connections, the gauges say what is so at the driver."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from prometheus_client import CollectorRegistry, Histogram
from sqlalchemy import (
    AssertionPool,
    Engine,
    NullPool,
    QueuePool,
    SingletonThreadPool,
    StaticPool,
    create_engine,
    event,
    exc,
    text,
)
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import PoolProxiedConnection

from asgi_obs.integrations.sqlalchemy import pools
from asgi_obs.integrations.sqlalchemy.pools import watch_pool
from asgi_obs.metrics.catalogue import create
from asgi_obs.metrics.hot import HotGauge
from asgi_obs.metrics.process.event_loop import loops

ROOT = Path(__file__).parents[3]

SIZE = 2
OVERFLOW = 1
POOL = {"poolclass": QueuePool, "pool_size": SIZE, "max_overflow": OVERFLOW, "pool_timeout": 0.0}


class DriverConnection(sqlite3.Connection):
    """Closed when nobody has it any more, as those of other drivers are."""

    is_open = True

    def close(self) -> None:
        self.is_open = False
        super().close()

    def __del__(self) -> None:
        self.close()


class Driver:
    """Opens connections, unless it is down, and knows those that are open."""

    def __init__(self) -> None:
        self.is_down = False
        self._opened: WeakSet[DriverConnection] = WeakSet()

    def connect(self) -> DriverConnection:
        if self.is_down:
            raise sqlite3.OperationalError("down")
        # It may be collected in any thread, such as that of an async driver.
        connection = sqlite3.connect(":memory:", factory=DriverConnection, check_same_thread=False)
        self._opened.add(connection)
        return connection

    @property
    def open(self) -> list[DriverConnection]:
        return [connection for connection in self._opened if connection.is_open]


class Numbers:
    """What a registry shows of pools."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def __getitem__(self, name: str) -> float | None:
        return self._registry.get_sample_value(f"db_pool_{name}")

    @property
    def gauges(self) -> tuple[float | None, ...]:
        return self["size"], self["connections_checked_out"], self["overflow"]

    @property
    def waits(self) -> tuple[float | None, ...]:
        return self["wait_seconds_count"], self["timeouts_total"]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def numbers(registry: CollectorRegistry) -> Numbers:
    return Numbers(registry)


@pytest.fixture
def driver() -> Driver:
    return Driver()


@pytest.fixture
def engine(registry: CollectorRegistry, driver: Driver) -> Iterator[Engine]:
    engine = create_engine("sqlite://", creator=driver.connect, **POOL)
    watch_pool(engine, registry)
    yield engine
    engine.dispose()


class PoolMachine(RuleBasedStateMachine):
    """Everything that may be done with the connections of an engine."""

    @initialize()
    def watch(self) -> None:
        self.driver = Driver()
        self.registry = CollectorRegistry()
        self.numbers = Numbers(self.registry)
        self.engine = create_engine("sqlite://", creator=self.driver.connect, **POOL)
        watch_pool(self.engine, self.registry)
        self.refusals: list[Exception] = []
        event.listen(self.engine, "checkout", self._refuse)
        self.held: list[PoolProxiedConnection] = []
        self.detached: list[PoolProxiedConnection] = []
        self.waits = self.timeouts = 0

    @rule()
    def take(self) -> None:
        self._take(self.engine)

    @rule()
    def take_of_an_engine_with_options(self) -> None:
        self._take(self.engine.execution_options(isolation_level="AUTOCOMMIT"))

    @rule()
    def take_more_than_there_are(self) -> None:
        for _ in range(SIZE + OVERFLOW + 1):
            self._take(self.engine)

    def _take(self, engine: Engine) -> None:
        self.waits += 1
        try:
            self.held.append(engine.raw_connection())
        except exc.TimeoutError:
            self.timeouts += 1

    @rule()
    def fail_to_connect(self) -> None:
        self.driver.is_down = True
        with suppress(sqlite3.OperationalError):
            self._take(self.engine)
        self.driver.is_down = False

    @rule()
    def be_refused_by_a_listener(self) -> None:
        self.refusals.append(LookupError())
        with suppress(LookupError):
            self._take(self.engine)
        self.refusals.clear()

    @rule()
    def find_a_connection_broken(self) -> None:
        self.refusals.append(exc.DisconnectionError())
        self._take(self.engine)
        self.refusals.clear()

    def _refuse(self, *_: object) -> None:
        if self.refusals:
            raise self.refusals.pop()

    @precondition(lambda self: self.held)
    @rule()
    def give_back(self) -> None:
        self.held.pop().close()

    @precondition(lambda self: self.held)
    @rule()
    def lose(self) -> None:
        del self.held[0]

    @precondition(lambda self: self.held)
    @rule()
    def invalidate(self) -> None:
        self.held.pop().invalidate()

    @precondition(lambda self: self.held)
    @rule()
    def invalidate_softly(self) -> None:
        self.held[0].invalidate(soft=True)

    @precondition(lambda self: self.held)
    @rule()
    def detach(self) -> None:
        connection = self.held.pop()
        connection.detach()
        self.detached.append(connection)

    @precondition(lambda self: self.detached)
    @rule()
    def close_detached(self) -> None:
        self.detached.pop().close()

    @rule()
    def dispose(self) -> None:
        self.engine.dispose()

    @rule()
    def dispose_and_leave_the_connections_alone(self) -> None:
        self.engine.dispose(close=False)

    @rule()
    def collect_garbage(self) -> None:
        gc.collect()

    @invariant()
    def the_gauges_are_true(self) -> None:
        opened = len(self.driver.open) - len(self.detached)
        assert self.numbers.gauges == (SIZE, len(self.held), max(0, opened - SIZE))
        assert self.numbers.waits == (self.waits, self.timeouts)

    def teardown(self) -> None:
        for connection in [*self.held, *self.detached]:
            connection.close()
        self.engine.dispose()


PoolMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=20, deadline=None)
TestAnythingThatHappens = PoolMachine.TestCase


class TestGauges:
    @pytest.mark.parametrize("poolclass", [NullPool, StaticPool, SingletonThreadPool, AssertionPool])
    def test_a_pool_without_a_size_tells_what_is_out(self, registry, numbers, poolclass) -> None:
        engine = create_engine("sqlite://", poolclass=poolclass)
        watch_pool(engine, registry)
        with engine.connect():
            assert numbers.gauges == (0, 1, 0)
        assert numbers.gauges == (0, 0, 0)
        engine.dispose()

    def test_a_pool_without_limits_has_no_overflow(self, registry, numbers, driver) -> None:
        engine = create_engine("sqlite://", creator=driver.connect, poolclass=QueuePool, pool_size=0)
        watch_pool(engine, registry)
        with engine.connect(), engine.connect():
            assert numbers.gauges == (0, 2, 0)
        engine.dispose()

    def test_they_are_sums_over_the_engines_of_a_registry(self, registry, numbers, engine, driver) -> None:
        other = create_engine("sqlite://", creator=driver.connect, **POOL)
        watch_pool(other, registry)
        with engine.connect(), other.connect(), other.connect(), other.connect():
            assert numbers.gauges == (2 * SIZE, 4, 1)
        other.dispose()

    def test_engines_of_another_registry_are_not_in_them(self, numbers, engine, driver) -> None:
        other = create_engine("sqlite://", creator=driver.connect, **POOL)
        watch_pool(other, CollectorRegistry())
        with other.connect():
            assert numbers.gauges == (SIZE, 0, 0)
        other.dispose()

    def test_a_pool_that_is_watched_already_is_counted_once(self, registry, numbers, engine) -> None:
        stop = watch_pool(engine.execution_options(), registry)
        with engine.connect():
            assert numbers.gauges == (SIZE, 1, 0)
            stop()
            assert numbers.gauges == (SIZE, 1, 0)
        assert numbers.waits == (1, 0)

    def test_a_pool_that_engines_share_is_counted_until_the_last_of_them_stops(self, registry, numbers, driver) -> None:
        engine = create_engine("sqlite://", creator=driver.connect, **POOL)
        other = create_engine("sqlite://", pool=engine.pool)
        stop, stop_other = watch_pool(engine, registry), watch_pool(other, registry)
        with engine.connect(), other.connect():
            stop()
            assert numbers.gauges == (SIZE, 2, 0)
            stop_other()
            assert numbers.gauges == (0, 0, 0)
        assert numbers.waits == (2, 0)
        engine.dispose()

    def test_engines_that_share_a_pool_are_collected_with_it(self, registry, numbers, driver) -> None:
        engine = create_engine("sqlite://", creator=driver.connect, **POOL)
        other = create_engine("sqlite://", pool=engine.pool)
        watch_pool(engine, registry)
        watch_pool(other, registry)
        other.connect().close()
        del engine, other
        gc.collect()
        assert (numbers.gauges, driver.open) == ((0, 0, 0), [])

    def test_a_pool_in_place_of_another_is_counted(self, numbers, engine) -> None:
        engine.pool = engine.pool.recreate()
        with engine.connect():
            assert numbers.gauges == (SIZE, 1, 0)
        assert (numbers.gauges, numbers.waits) == ((SIZE, 0, 0), (0, 0))
        with engine.connect():
            assert (numbers.gauges, numbers.waits) == ((SIZE, 1, 0), (1, 0))

    def test_a_pool_that_is_found_twice_is_timed_once(self, numbers, engine) -> None:
        engine.dispatch.engine_disposed(engine)
        with engine.connect():
            assert (numbers.gauges, numbers.waits) == ((SIZE, 1, 0), (1, 0))

    def test_an_engine_may_be_used_while_it_begins_to_be_watched(
        self, registry, numbers, monkeypatch, reported, driver
    ) -> None:
        engine = create_engine("sqlite://", creator=driver.connect, **POOL)
        listen = event.listen

        def listen_and_connect(target: Engine, name: str, listener: Callable[..., None]) -> None:
            listen(target, name, listener)
            engine.connect().close()

        monkeypatch.setattr(event, "listen", listen_and_connect)
        watch_pool(engine, registry)
        assert (reported, numbers.gauges) == ([], (SIZE, 0, 0))
        engine.dispose()

    def test_there_is_no_lock_that_the_garbage_collector_would_wait_for(self, registry, engine) -> None:
        names = ("size", "connections_checked_out", "overflow")
        assert {type(create(f"db_pool_{name}", registry)) for name in names} == {HotGauge}

    def test_an_engine_that_is_collected_is_no_longer_in_them(self, registry, numbers, driver) -> None:
        engine = create_engine("sqlite://", creator=driver.connect, **POOL)
        watch_pool(engine, registry)
        with engine.connect():
            pass
        assert numbers.gauges == (SIZE, 0, 0)
        del engine
        gc.collect()
        assert (numbers.gauges, driver.open) == ((0, 0, 0), [])

    def test_a_connection_that_outlives_its_engine_is_given_back(self, registry, numbers, driver) -> None:
        engine = create_engine("sqlite://", creator=driver.connect, **POOL)
        watch_pool(engine, registry)
        connection = engine.raw_connection()
        del engine
        gc.collect()
        connection.close()
        del connection
        gc.collect()
        assert (numbers.gauges, driver.open) == ((0, 0, 0), [])

    def test_connections_that_go_with_a_pool_that_was_disposed_of_are_no_overflow(
        self, numbers, engine, driver
    ) -> None:
        old = [engine.raw_connection() for _ in range(SIZE)]
        engine.dispose()
        with engine.connect(), engine.connect():
            assert (numbers.gauges, len(driver.open)) == ((SIZE, 4, 2), 4)
            for connection in old:
                connection.close()
            del connection
            old.clear()
            gc.collect()
            assert (numbers.gauges, len(driver.open)) == ((SIZE, 2, 0), 2)

    def test_a_connection_may_be_collected_while_they_are_set(self, monkeypatch, driver) -> None:
        lost: list[PoolProxiedConnection] = []
        set_gauge = HotGauge.set

        def collect_and_set(gauge: HotGauge, value: float) -> None:
            lost.clear()
            set_gauge(gauge, value)

        monkeypatch.setattr(HotGauge, "set", collect_and_set)
        registry = CollectorRegistry()
        engine = create_engine("sqlite://", creator=driver.connect, **POOL)
        watch_pool(engine, registry)
        connection = engine.raw_connection()
        lost.append(engine.raw_connection())
        connection.close()
        assert (lost, Numbers(registry).gauges) == ([], (SIZE, 0, 0))
        engine.dispose()

    def test_gauges_that_fail_are_kept_from_the_application(self, monkeypatch, reported, driver) -> None:
        def fail(_gauge: HotGauge, _value: float) -> None:
            raise OSError

        monkeypatch.setattr(HotGauge, "set", fail)
        engine = create_engine("sqlite://", creator=driver.connect, **POOL)
        watch_pool(engine, CollectorRegistry())
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
        assert set(reported) == {"PoolGauges.update"}
        engine.dispose()


class TestWaiting:
    def test_an_exhausted_pool_is_a_timeout(self, numbers, engine) -> None:
        with engine.connect(), engine.connect(), engine.connect():
            with pytest.raises(exc.TimeoutError):
                engine.connect()
            assert (numbers.waits, numbers.gauges) == ((4, 1), (SIZE, 3, 1))

    def test_the_time_to_open_a_connection_is_in_it(self, registry, numbers, monkeypatch, driver) -> None:
        now = [100.0]
        monkeypatch.setattr(pools, "perf_counter", lambda: now[0])

        def connect() -> DriverConnection:
            now[0] += 2
            return driver.connect()

        engine = create_engine("sqlite://", creator=connect, **POOL)
        watch_pool(engine, registry)
        with engine.connect():
            assert numbers["wait_seconds_sum"] == 2
        engine.dispose()

    def test_a_database_that_is_down_is_no_timeout(self, numbers, engine, driver) -> None:
        driver.is_down = True
        with pytest.raises(exc.OperationalError, match="down"):
            engine.connect()
        assert (numbers.waits, numbers.gauges) == ((1, 0), (SIZE, 0, 0))

    def test_metrics_that_fail_are_kept_from_the_application(self, engine, monkeypatch, reported) -> None:
        def fail(_histogram: Histogram, _amount: float) -> None:
            raise OSError

        monkeypatch.setattr(Histogram, "observe", fail)
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
        assert reported == ["Waiting.ended"]

    def test_a_pool_that_does_not_allow_it_is_not_timed(self, registry, numbers, reported, driver) -> None:
        class Strict(QueuePool):
            @property
            def connect(self) -> Callable[[], PoolProxiedConnection]:  # type: ignore[override]
                return super().connect

        engine = create_engine("sqlite://", creator=driver.connect, **{**POOL, "poolclass": Strict})
        stop = watch_pool(engine, registry)
        with engine.connect():
            assert numbers.gauges == (SIZE, 1, 0)
        assert (reported, numbers.waits) == (["PoolWatch.time"], (0, 0))
        stop()
        engine.dispose()


@pytest.mark.anyio
class TestAsync:
    @pytest.fixture
    def async_engine(self, registry: CollectorRegistry, tmp_path: Path) -> AsyncEngine:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/test.db", pool_size=1, max_overflow=0)
        watch_pool(engine.sync_engine, registry)
        return engine

    async def test_connections_are_counted(self, async_engine, numbers) -> None:
        async with async_engine.connect() as connection:
            assert await connection.scalar(text("SELECT 1")) == 1
            assert numbers.gauges == (1, 1, 0)
        assert (numbers.gauges, numbers.waits) == ((1, 0, 0), (1, 0))
        await async_engine.dispose()

    async def test_who_is_cancelled_while_waiting_has_waited_without_a_timeout(self, async_engine, numbers) -> None:
        async with async_engine.connect():
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(async_engine.raw_connection(), 0.02)
            assert (numbers.gauges, numbers.waits) == ((1, 1, 0), (2, 0))
        await async_engine.dispose()


class TestStop:
    def test_it_is_as_if_the_engine_had_not_been_there(self, registry, numbers, driver) -> None:
        engine = create_engine("sqlite://", creator=driver.connect, **POOL)
        before = vars(engine.pool).keys(), [list(listeners(engine, name)) for name in EVENTS]
        stop = watch_pool(engine, registry)
        with engine.connect():
            stop()
            assert numbers.gauges == (0, 0, 0)
        with engine.connect():
            assert (numbers.gauges, numbers.waits) == ((0, 0, 0), (1, 0))
        assert (vars(engine.pool).keys(), [list(listeners(engine, name)) for name in EVENTS]) == before
        engine.dispose()

    def test_connections_of_a_pool_that_was_disposed_of_may_come_back_later(self, registry, numbers, driver) -> None:
        engine = create_engine("sqlite://", creator=driver.connect, **POOL)
        stop = watch_pool(engine, registry)
        with engine.connect():
            engine.dispose()
            stop()
        assert numbers.gauges == (0, 0, 0)
        engine.dispose()

    def test_an_engine_with_another_pool_may_be_left_alone(self, registry, numbers, driver) -> None:
        engine = create_engine("sqlite://", creator=driver.connect, **POOL)
        stop = watch_pool(engine, registry)
        engine.pool = NullPool(driver.connect)
        gc.collect()
        stop()
        assert numbers.gauges == (0, 0, 0)

    def test_it_may_come_while_the_gauges_are_set(self, registry, numbers, monkeypatch, driver) -> None:
        engine = create_engine("sqlite://", creator=driver.connect, **POOL)
        stop = watch_pool(engine, registry)
        counts = pools._PoolWatch.counts

        def count_and_stop(watch: Any) -> Any:
            counted = counts(watch)
            stop()
            return counted

        monkeypatch.setattr(pools._PoolWatch, "counts", count_and_stop)
        pools._gauges_of(registry).after_fork()
        assert numbers.gauges == (0, 0, 0)

    def test_it_can_be_watched_again(self, registry, numbers, driver) -> None:
        engine = create_engine("sqlite://", creator=driver.connect, **POOL)
        watch_pool(engine, registry)()
        watch_pool(engine, registry)
        with engine.connect():
            assert (numbers.gauges, numbers.waits) == ((SIZE, 1, 0), (1, 0))
        engine.dispose()


EVENTS = ("checkout", "checkin", "close", "detach")


def listeners(engine: Engine, name: str) -> Any:
    return getattr(engine.pool.dispatch, name)


WATCHING = """
import asyncio, os
from prometheus_client import REGISTRY
from sqlalchemy import QueuePool, create_engine
from asgi_obs.integrations.sqlalchemy.pools import watch_pool
from asgi_obs.metrics.multiprocess import view_of
from asgi_obs.metrics.process.monitor import attach

def gauges():
    samples = [sample for family in view_of(REGISTRY).collect() for sample in family.samples]
    names = ("db_pool_size", "db_pool_connections_checked_out", "db_pool_overflow")
    return [int(sample.value) for name in names for sample in samples if sample.name == name]

def show(where):
    print(where, *gauges(), flush=True)

engine = create_engine("sqlite://", poolclass=QueuePool, pool_size=2)
watch_pool(engine, REGISTRY)
"""

FORKING = """
held = engine.raw_connection()
child = os.fork()
if child == 0:
    show("forked")
    engine.dispose(close=False)
    mine = [engine.raw_connection() for _ in range(3)]
    show("child")
    os._exit(0)
os.waitpid(child, 0)
show("parent")
held.close()
show("parent")
"""

SERVING = """
async def serve():
    attach(0.0)
    while gauges() != [2, 0, 0]:
        await asyncio.sleep(0.01)
    show("serving")

show("parent")
child = os.fork()
if child == 0:
    show("child")
    asyncio.run(asyncio.wait_for(serve(), 60))
    os._exit(0)
os.waitpid(child, 0)
show("parent")
"""


def run(script: str, directory: Path | None) -> list[str]:
    """What a script has written in a process of its own, with shared values if there is a directory."""
    environment = dict(os.environ)
    if directory is not None:
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    command = [sys.executable, "-c", WATCHING + script]
    done = subprocess.run(command, env=environment, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()


class TestForks:
    @pytest.mark.parametrize(
        ("is_shared", "expected"),
        [
            (False, ["forked 2 0 0", "child 2 3 1", "parent 2 1 0", "parent 2 0 0"]),
            (True, ["forked 2 1 0", "child 4 4 1", "parent 2 1 0", "parent 2 0 0"]),
        ],
    )
    def test_every_process_has_its_own_connections(self, tmp_path, is_shared, expected) -> None:
        assert run(FORKING, tmp_path if is_shared else None) == expected

    def test_a_shared_size_is_that_of_processes_that_serve(self, tmp_path) -> None:
        assert run(SERVING, tmp_path) == ["parent 0 0 0", "child 0 0 0", "serving 2 0 0", "parent 0 0 0"]

    @pytest.mark.anyio
    async def test_a_shared_size_shows_when_the_process_begins_to_serve(
        self, registry, numbers, monkeypatch, tmp_path, driver
    ) -> None:
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
        engine = create_engine("sqlite://", creator=driver.connect, **POOL)
        watch_pool(engine, registry)
        assert numbers.gauges == (0, 0, 0)
        loops.measure(asyncio.current_task(), 0.0, lambda: None)
        pools._gauges_of(registry).refresh()
        assert numbers.gauges == (SIZE, 0, 0)
        loops.forget()
        engine.dispose()

    def test_behind_a_fork_those_of_the_parent_are_forgotten(self, registry, numbers, engine) -> None:
        with engine.connect():
            pools._gauges_of(registry).after_fork()
            assert numbers.gauges == (SIZE, 0, 0)
            with engine.connect():
                assert numbers.gauges == (SIZE, 1, 0)
        assert numbers.gauges == (SIZE, 0, 0)

    def test_a_file_of_values_is_not_made_by_a_fork(self, registry, numbers, monkeypatch, tmp_path, driver) -> None:
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
        engine = create_engine("sqlite://", creator=driver.connect, **POOL)
        watch_pool(engine, registry)
        with engine.connect():
            pools._gauges_of(registry).after_fork()
            assert numbers.gauges == (SIZE, 1, 0)
        assert numbers.gauges == (0, 0, 0)
        engine.dispose()
