"""A database, through the application's own pool: SQLite with pools of one connection."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from types import coroutine
from typing import Any

import anyio
import pytest
from sqlalchemy import (
    AssertionPool,
    Engine,
    NullPool,
    QueuePool,
    SingletonThreadPool,
    StaticPool,
    create_engine,
    event,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from asgi_obs.errors import ConfigurationError, MissingExtraError
from asgi_obs.health import CheckResult, HealthRegistry
from asgi_obs.health.checks import DatabaseCheck
from asgi_obs.health.checks.database import VISIT

DEADLINE = 20.0
"""Seconds that anything may wait; never reached if all is well."""

PATIENT = 0.5
"""Seconds that are enough for what does come."""

IMPATIENT = 0.05
"""Seconds to wait for what will not."""

HEALTHY = CheckResult.healthy("answers (pool size 1, checked out 0)")
EXHAUSTED = CheckResult.unhealthy("no free connection within 0.05 s (pool size 1, checked out 1)")

ONE = {"pool_size": 1, "max_overflow": 0, "pool_timeout": DEADLINE}

ANY_THREAD = {"check_same_thread": False}
"""A pool that keeps connections of other threads could not close them."""


class Gate:
    """The SQL function `pass()`, which waits while the gate is closed."""

    def __init__(self, engine: Engine) -> None:
        self._open = threading.Event()
        self._open.set()
        self.reached = threading.Event()
        self.close, self.open = self._open.clear, self._open.set
        event.listen(engine, "connect", lambda connection, record: connection.create_function("pass", 0, self))

    def __call__(self) -> int:
        self.reached.set()
        return int(self._open.wait(DEADLINE))


@pytest.fixture
def engine(tmp_path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path}/test.db", poolclass=QueuePool, **ONE)
    yield engine
    wait_until(lambda: not visitors())  # who waits for a pool that is disposed of waits in vain
    engine.dispose()


@pytest.fixture
async def async_engine(tmp_path) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/test.db", **ONE)
    yield engine
    await until(lambda: not visits())
    await engine.dispose()


def visitors() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == VISIT]


def visits() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == VISIT]


def wait_until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.001)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(DEADLINE):
        while not condition():  # noqa: ASYNC110 - threads and pools set no event
            await anyio.sleep(0.001)


class TestSync:
    @pytest.mark.anyio
    async def test_a_database_that_answers_is_healthy(self, engine) -> None:
        health = HealthRegistry()
        health.add("database", DatabaseCheck(engine))
        result = (await health.run()).checks["database"]
        assert (result.status, result.message) == ("healthy", HEALTHY.message)

    def test_the_connection_is_one_of_the_pool_and_put_back(self, engine) -> None:
        check = DatabaseCheck(engine)
        assert [check(), check()] == [HEALTHY, HEALTHY]
        assert (engine.pool.checkedin(), visitors()) == (1, [])

    def test_an_exhausted_pool_is_unhealthy_within_the_own_timeout(self, engine) -> None:
        check = DatabaseCheck(engine, checkout_timeout=IMPATIENT)
        with engine.connect():
            assert check() == EXHAUSTED
        assert engine.pool.timeout() == DEADLINE

    def test_no_second_thread_waits_for_a_connection(self, engine) -> None:
        check = DatabaseCheck(engine, checkout_timeout=IMPATIENT)
        with engine.connect():
            assert [check(), check(), check()] == [EXHAUSTED] * 3
            assert len(visitors()) == 1

    def test_a_connection_that_comes_late_is_put_back(self, engine) -> None:
        with engine.connect():
            DatabaseCheck(engine, checkout_timeout=IMPATIENT)()
        wait_until(lambda: not visitors())
        assert engine.pool.checkedin() == 1

    def test_when_the_pool_has_a_connection_again_it_is_healthy_again(self, engine) -> None:
        check = DatabaseCheck(engine, checkout_timeout=PATIENT)
        with engine.connect():
            assert check().status == "unhealthy"
        wait_until(lambda: not visitors())
        assert check() == HEALTHY

    def test_a_connection_whose_statement_fails_is_put_back(self, engine) -> None:
        with pytest.raises(OperationalError, match="no such table"):
            DatabaseCheck(engine, statement="SELECT * FROM absent")()
        assert (engine.pool.checkedin(), visitors()) == (1, [])

    def test_a_connection_whose_statement_hangs_is_put_back_when_it_ends(self, engine) -> None:
        gate = Gate(engine)
        gate.close()
        asker = threading.Thread(target=DatabaseCheck(engine, statement="SELECT pass()", checkout_timeout=DEADLINE))
        asker.start()
        assert gate.reached.wait(DEADLINE)
        assert engine.pool.checkedout() == 1
        gate.open()
        asker.join(DEADLINE)
        assert (engine.pool.checkedin(), visitors()) == (1, [])

    def test_a_database_that_is_not_there_is_an_error(self, tmp_path) -> None:
        nowhere = create_engine(f"sqlite:///{tmp_path}/none/test.db", poolclass=QueuePool, **ONE)
        with pytest.raises(OperationalError, match="unable to open"):
            DatabaseCheck(nowhere)()
        assert nowhere.pool.checkedout() == 0

    def test_an_engine_that_was_disposed_of_is_used_with_its_new_pool(self, engine) -> None:
        check = DatabaseCheck(engine)
        check()
        engine.dispose()
        assert check() == HEALTHY

    def test_who_waits_for_a_pool_that_is_disposed_of_keeps_nobody_from_the_new_one(self, engine) -> None:
        check = DatabaseCheck(engine, checkout_timeout=PATIENT)
        pool = engine.pool
        with engine.connect():
            assert check().status == "unhealthy"
            engine.dispose()
            assert check() == HEALTHY
        wait_until(lambda: not visitors())
        pool.dispose()

    @pytest.mark.parametrize("pool", [NullPool, StaticPool, SingletonThreadPool, AssertionPool])
    def test_a_pool_that_does_not_count_is_told_by_its_name(self, tmp_path, pool) -> None:
        engine = create_engine(f"sqlite:///{tmp_path}/test.db", poolclass=pool, connect_args=ANY_THREAD)
        check = DatabaseCheck(engine)
        assert [check(), check()] == [CheckResult.healthy(f"answers ({pool.__name__})")] * 2
        engine.dispose()

    def test_an_exhausted_pool_that_does_not_count_is_told_by_its_name(self, tmp_path) -> None:
        engine = create_engine(f"sqlite:///{tmp_path}/test.db", poolclass=NullPool)
        gate = Gate(engine)
        event.listen(engine, "do_connect", lambda *_: gate() and None)
        gate.close()
        check = DatabaseCheck(engine, checkout_timeout=IMPATIENT)
        assert check() == CheckResult.unhealthy("no free connection within 0.05 s (NullPool)")
        gate.open()
        wait_until(lambda: not visitors())

    @pytest.mark.anyio
    async def test_a_database_in_memory_is_healthy(self) -> None:
        health = HealthRegistry()
        engine = create_engine("sqlite://", connect_args=ANY_THREAD)
        health.add("database", DatabaseCheck(engine))
        assert (await health.run()).checks["database"].message == "answers (SingletonThreadPool)"
        engine.dispose()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
class TestAsync:
    async def test_a_database_that_answers_is_healthy(self, async_engine) -> None:
        health = HealthRegistry()
        health.add("database", DatabaseCheck(async_engine))
        result = (await health.run()).checks["database"]
        assert (result.status, result.message) == ("healthy", HEALTHY.message)

    async def test_the_connection_is_one_of_the_pool_and_put_back(self, async_engine) -> None:
        check = DatabaseCheck(async_engine)
        assert [await check(), await check()] == [HEALTHY, HEALTHY]
        assert async_engine.pool.checkedin() == 1

    async def test_an_exhausted_pool_is_unhealthy_within_the_own_timeout(self, async_engine) -> None:
        check = DatabaseCheck(async_engine, checkout_timeout=IMPATIENT)
        async with async_engine.connect():
            assert await check() == EXHAUSTED
        assert async_engine.pool.timeout() == DEADLINE

    async def test_nobody_waits_for_a_connection_for_long(self, async_engine) -> None:
        check = DatabaseCheck(async_engine, checkout_timeout=IMPATIENT)
        async with async_engine.connect():
            assert [await check(), await check(), await check()] == [EXHAUSTED] * 3
            await until(lambda: not visits())

    async def test_a_connection_that_comes_late_is_put_back(self, async_engine) -> None:
        async with async_engine.connect():
            await DatabaseCheck(async_engine, checkout_timeout=PATIENT)()
        await until(lambda: not visits())
        assert async_engine.pool.checkedin() == 1

    async def test_a_connection_whose_statement_fails_is_put_back(self, async_engine) -> None:
        with pytest.raises(OperationalError, match="no such table"):
            await DatabaseCheck(async_engine, statement="SELECT * FROM absent")()
        assert async_engine.pool.checkedin() == 1

    async def test_a_statement_that_hangs_is_given_up_and_so_is_its_connection(self, async_engine) -> None:
        gate = Gate(async_engine.sync_engine)
        given_up = []
        event.listen(async_engine.sync_engine, "invalidate", lambda connection, *more: given_up.append(connection))
        check = DatabaseCheck(async_engine, statement="SELECT pass()", checkout_timeout=PATIENT)
        gate.close()
        asked = asyncio.ensure_future(check())
        await until(gate.reached.is_set)
        asked.cancel()
        await until(asked.done)
        assert (asked.cancelled(), async_engine.pool.checkedout()) == (True, 1)
        await until(lambda: given_up)
        gate.open()
        await until(lambda: not visits())
        assert await check() == HEALTHY

    async def test_a_database_that_is_not_there_is_an_error(self, tmp_path) -> None:
        nowhere = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/none/test.db", **ONE)
        others = set(threading.enumerate())
        with pytest.raises(OperationalError, match="unable to open"):
            await DatabaseCheck(nowhere)()
        assert nowhere.pool.checkedout() == 0
        await until(lambda: set(threading.enumerate()) <= others)  # the driver's, which needs the event loop

    async def test_an_engine_that_was_disposed_of_is_used_with_its_new_pool(self, async_engine) -> None:
        check = DatabaseCheck(async_engine)
        await check()
        await async_engine.dispose()
        assert await check() == HEALTHY

    @pytest.mark.parametrize("is_pooled", [True, False])
    async def test_wherever_it_is_cancelled_the_connection_is_put_back(self, async_engine, is_pooled) -> None:
        check = DatabaseCheck(async_engine, checkout_timeout=DEADLINE)
        await check()
        place, is_through = 0, False
        while not is_through:
            place += 1
            if not is_pooled:
                await async_engine.dispose()
            asked = asyncio.ensure_future(check())
            with watched(lambda number, asked=asked, place=place: number == place and asked.cancel()):
                await asyncio.wait([asked])
            await until(lambda: not visits())
            assert (async_engine.pool.checkedout(), async_engine.pool.checkedin()) == (0, 1)
            is_through = not asked.cancelled()
        assert place > 3
        assert asked.result() == HEALTHY


@contextmanager
def watched(waits: Callable[[int], object]) -> Iterator[None]:
    """New tasks tell each place where they wait, from 1 on."""

    def start(loop: asyncio.AbstractEventLoop, task: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(stepped(task, waits), loop=loop, **options)

    loop = asyncio.get_running_loop()
    loop.set_task_factory(start)
    try:
        yield
    finally:
        loop.set_task_factory(None)


async def stepped(task: Coroutine[Any, Any, Any], waits: Callable[[int], object]) -> Any:
    return await _steps(task, waits)


@coroutine
def _steps(task: Coroutine[Any, Any, Any], waits: Callable[[int], object]) -> Generator[Any, None, Any]:
    number = 0
    try:
        while True:
            waited_for = task.send(None)
            number += 1
            waits(number)
            yield waited_for
    except StopIteration as end:
        return end.value


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"engine": "sqlite://"}, "engine"),
        ({"statement": " "}, "statement"),
        ({"statement": None}, "statement"),
        ({"checkout_timeout": 0}, "checkout_timeout"),
    ],
)
def test_wrong_options_are_refused(engine, options, wrong) -> None:
    with pytest.raises(ConfigurationError) as raised:
        DatabaseCheck(**{"engine": engine, **options})
    assert raised.value.option == wrong


def test_without_sqlalchemy_it_says_what_to_install(engine, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy.engine", None)
    with pytest.raises(MissingExtraError, match=r"asgi-obs\[sqlalchemy\]"):
        DatabaseCheck(engine)
