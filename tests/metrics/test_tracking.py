from __future__ import annotations

import asyncio
import functools
import gc
import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from contextvars import copy_context
from threading import Barrier, Thread
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from asgi_obs import OperationMetrics
from asgi_obs.errors import ConfigurationError
from asgi_obs.metrics.tracking import _Entry

Totals = Callable[..., tuple[float, float, float, float]]

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("only_shipped")]

on_both = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


@on_both
async def test_an_async_block_is_an_operation(ops: OperationMetrics, totals: Totals) -> None:
    async with ops.track("store_input"):
        await anyio.lowlevel.checkpoint()
        assert totals() == (0.0, 0.0, 0.0, 1.0)
    with pytest.raises(KeyError):
        async with ops.track("store_input"):
            raise KeyError

    assert totals() == (2.0, 2.0, 1.0, 0.0)


@on_both
async def test_a_cancelled_operation_has_ended_without_an_error(ops: OperationMetrics, totals: Totals) -> None:
    @ops.track("store_input")
    async def wait() -> None:
        await anyio.sleep_forever()

    async def hold() -> None:
        async with ops.track("store_input"):
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        tasks.start_soon(hold)
        await anyio.wait_all_tasks_blocked()
        assert totals() == (0.0, 0.0, 0.0, 2.0)
        tasks.cancel_scope.cancel()

    assert totals() == (2.0, 2.0, 0.0, 0.0)


def test_each_call_of_a_function_is_an_operation(ops: OperationMetrics, totals: Totals) -> None:
    @ops.track("store_input")
    def halve(number: int, *, twice: bool = False) -> float:
        """Halve it."""
        if twice:
            return halve(number // 2)
        return 1 / number

    assert halve(4, twice=True) == 0.5
    with pytest.raises(ZeroDivisionError):
        halve(0)

    assert totals() == (3.0, 3.0, 1.0, 0.0)
    assert halve.__name__ == "halve"
    assert halve.__doc__ == "Halve it."
    assert list(inspect.signature(halve).parameters) == ["number", "twice"]


@on_both
async def test_each_call_of_a_coroutine_function_is_an_operation(ops: OperationMetrics, totals: Totals) -> None:
    @ops.track("store_input")
    async def halve(number: int) -> float:
        await anyio.lowlevel.checkpoint()
        return 1 / number

    waiting = halve(2)
    assert totals() == (0.0, 0.0, 0.0, 0.0)
    assert await waiting == 0.5
    with pytest.raises(ZeroDivisionError):
        await halve(0)

    assert totals() == (2.0, 2.0, 1.0, 0.0)


class Callables:
    """Objects of every kind that can be called."""

    def function(self) -> None: ...

    async def coroutine_function(self) -> None: ...

    def generator_function(self) -> Iterator[int]:
        yield 1

    async def async_generator_function(self) -> AsyncIterator[int]:
        yield 1


class Instance:
    def __init__(self, body: Any) -> None:
        type(self).__call__ = body  # type: ignore[method-assign,assignment]

    def __call__(self) -> Any: ...


KINDS = {
    "function": None,
    "coroutine_function": inspect.iscoroutinefunction,
    "generator_function": inspect.isgeneratorfunction,
    "async_generator_function": inspect.isasyncgenfunction,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["plain", "method", "partial", "instance"])
async def test_what_is_decorated_stays_what_it_is(kind: str, form: str, ops: OperationMetrics, totals: Totals) -> None:
    plain = getattr(Callables, kind)
    function = {
        "plain": functools.wraps(plain)(plain),
        "method": getattr(Callables(), kind),
        "partial": functools.partial(plain, None),
        "instance": type("Own", (Instance,), {})(plain),
    }[form]
    tracked = ops.track("store_input")(function)

    assert [name for name, is_such in KINDS.items() if is_such and is_such(tracked)] == (
        [] if kind == "function" else [kind]
    )
    arguments = (None,) if form == "plain" else ()
    outcome = tracked(*arguments)
    if kind == "coroutine_function":
        await outcome
    elif kind == "generator_function":
        assert list(outcome) == [1]
    elif kind == "async_generator_function":
        assert [value async for value in outcome] == [1]
    assert totals() == (1.0, 1.0, 0.0, 0.0)


@pytest.mark.parametrize("function", [5, None, "f", Callables, classmethod(len), staticmethod(len)])
def test_what_is_no_function_cannot_be_decorated(function: Any, ops: OperationMetrics) -> None:
    with pytest.raises(ConfigurationError, match="function="):
        ops.track("store_input")(function)


def test_an_operation_lasts_while_its_generator_is_iterated(ops: OperationMetrics, totals: Totals) -> None:
    @ops.track("store_input")
    def count(limit: int) -> Iterator[int]:
        yield from range(limit)

    numbers = count(3)
    assert totals() == (0.0, 0.0, 0.0, 0.0)
    assert next(numbers) == 0
    assert totals() == (0.0, 0.0, 0.0, 1.0)
    assert list(numbers) == [1, 2]
    assert totals() == (1.0, 1.0, 0.0, 0.0)


def test_a_generator_that_is_closed_early_has_ended_without_an_error(ops: OperationMetrics, totals: Totals) -> None:
    ended: list[str] = []

    @ops.track("store_input")
    def count() -> Iterator[int]:
        try:
            yield 1
        finally:
            ended.append("closed")

    numbers = count()
    next(numbers)
    numbers.close()  # type: ignore[attr-defined]
    next(count())
    gc.collect()

    assert ended == ["closed", "closed"]
    assert totals() == (2.0, 2.0, 0.0, 0.0)


def test_a_generator_gets_what_is_sent_and_thrown_and_returns_its_value(ops: OperationMetrics, totals: Totals) -> None:
    @ops.track("store_input")
    def echo() -> Generator[object, object, str]:
        sent: object = None
        while sent != "stop":
            try:
                sent = yield sent
            except LookupError as error:
                sent = error
        return "stopped"

    error = KeyError("x")
    numbers = echo()
    assert next(numbers) is None
    assert numbers.send(5) == 5
    assert numbers.throw(error) is error
    with pytest.raises(StopIteration) as stopped:
        numbers.send("stop")
    assert stopped.value.value == "stopped"
    assert totals() == (1.0, 1.0, 0.0, 0.0)
    other = echo()
    next(other)
    with pytest.raises(ZeroDivisionError):
        other.throw(ZeroDivisionError())
    assert totals() == (2.0, 2.0, 1.0, 0.0)


@on_both
async def test_an_operation_lasts_while_its_async_generator_is_iterated(ops: OperationMetrics, totals: Totals) -> None:
    @ops.track("store_input")
    async def count(limit: int) -> AsyncIterator[int]:
        for number in range(limit):
            await anyio.lowlevel.checkpoint()
            yield number

    numbers = count(3)
    assert totals() == (0.0, 0.0, 0.0, 0.0)
    assert await numbers.__anext__() == 0
    assert totals() == (0.0, 0.0, 0.0, 1.0)
    assert [number async for number in numbers] == [1, 2]
    assert totals() == (1.0, 1.0, 0.0, 0.0)
    with pytest.raises(TypeError):
        await count("x").__anext__()  # type: ignore[arg-type]
    assert totals() == (2.0, 2.0, 1.0, 0.0)


@on_both
async def test_an_async_generator_that_is_closed_early_has_ended_without_an_error(
    ops: OperationMetrics, totals: Totals
) -> None:
    ended: list[str] = []

    @ops.track("store_input")
    async def count() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await anyio.lowlevel.checkpoint()
            ended.append("closed")

    async with aclosing(count()) as numbers:  # type: ignore[type-var]
        await numbers.__anext__()

    assert ended == ["closed"]
    assert totals() == (1.0, 1.0, 0.0, 0.0)


@on_both
async def test_an_async_generator_gets_what_is_sent_and_thrown(ops: OperationMetrics, totals: Totals) -> None:
    @ops.track("store_input")
    async def echo() -> Any:
        sent: object = None
        while sent != "stop":
            try:
                sent = yield sent
            except LookupError as error:
                sent = error

    error = KeyError("x")
    numbers = echo()
    assert await numbers.__anext__() is None
    assert await numbers.asend(5) == 5
    assert await numbers.athrow(error) is error
    with pytest.raises(StopAsyncIteration):
        await numbers.asend("stop")
    assert totals() == (1.0, 1.0, 0.0, 0.0)
    other = echo()
    await other.__anext__()
    failure = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as caught:
        await other.athrow(failure)
    assert caught.value is failure
    assert totals() == (2.0, 2.0, 1.0, 0.0)


async def test_an_async_generator_that_will_not_end_is_told_so(ops: OperationMetrics, totals: Totals) -> None:
    @ops.track("store_input")
    async def stubborn() -> Any:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    numbers = stubborn()
    await numbers.__anext__()
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        await numbers.aclose()
    assert totals() == (1.0, 1.0, 1.0, 0.0)


async def test_what_is_cancelled_inside_of_an_async_generator_passes(ops: OperationMetrics, totals: Totals) -> None:
    @ops.track("store_input")
    async def wait() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    async def consume() -> None:
        async for _ in wait():
            consumed.set()

    consumed = asyncio.Event()
    task = asyncio.create_task(consume())
    await consumed.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert totals() == (1.0, 1.0, 0.0, 0.0)


def test_dependencies_of_fastapi_that_yield_are_operations(ops: OperationMetrics, totals: Totals) -> None:
    @ops.track("open_session")
    def session(name: str = "main") -> Iterator[str]:
        yield f"session {name}"

    @ops.track("open_client")
    async def client(name: str = "main") -> AsyncIterator[str]:
        yield f"client {name}"

    @ops.track("find_user")
    async def user() -> str:
        return "user"

    app = FastAPI()

    @app.get("/")
    @ops.track("answer")
    def answer(session: str = Depends(session), client: str = Depends(client), user: str = Depends(user)) -> list[str]:
        return [session, client, user]

    response = TestClient(app).get("/?name=x")

    assert response.json() == ["session x", "client x", "user"]
    operations = ("open_session", "open_client", "find_user", "answer")
    assert [totals(name) for name in operations] == [(1.0, 1.0, 0.0, 0.0)] * 4


def test_context_managers_made_of_generators_are_operations(ops: OperationMetrics, totals: Totals) -> None:
    @contextmanager
    @ops.track("store_input")
    def opened() -> Iterator[int]:
        yield 5

    @asynccontextmanager
    @ops.track("store_input")
    async def opened_too() -> AsyncIterator[int]:
        yield 6

    async def enter() -> None:
        async with opened_too() as value:
            assert value == 6

    with opened() as value:
        assert value == 5
    asyncio.run(enter())
    with pytest.raises(KeyError), opened():
        raise KeyError
    assert totals() == (3.0, 3.0, 1.0, 0.0)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("asgi_obs.metrics.tracking.perf_counter", clock)
    return clock


@pytest.fixture
def durations(ops: OperationMetrics, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The durations of the operation store_input, one by one."""
    ops.track("store_input")
    seen: list[float] = []
    monkeypatch.setattr(ops._operations["store_input"], "_observe", seen.append)
    return seen


def test_a_tracker_may_be_entered_again_inside_of_itself(
    ops: OperationMetrics, totals: Totals, clock: Clock, durations: list[float]
) -> None:
    tracker = ops.track("store_input")
    with tracker:
        clock.now = 1.0
        with tracker, ops.track("get_history"):
            clock.now = 3.0
        clock.now = 10.0

    assert durations == [2.0, 10.0]
    assert totals() == (2.0, 0.0, 0.0, 0.0)


async def test_tasks_that_share_a_tracker_do_not_mix(
    ops: OperationMetrics, totals: Totals, clock: Clock, durations: list[float]
) -> None:
    tracker = ops.track("store_input")
    first, second = asyncio.Event(), asyncio.Event()

    async def hold(until: asyncio.Event) -> None:
        async with tracker:
            await until.wait()

    async with anyio.create_task_group() as tasks:
        for at, until in ((0.0, first), (5.0, second)):
            clock.now = at
            tasks.start_soon(hold, until)
            await anyio.wait_all_tasks_blocked()
        clock.now = 100.0
        first.set()
        await anyio.wait_all_tasks_blocked()
        assert durations == [100.0]
        clock.now = 200.0
        second.set()

    assert durations == [100.0, 195.0]
    assert totals() == (2.0, 0.0, 0.0, 0.0)


async def test_a_task_that_was_started_inside_does_not_end_what_is_around_it(
    ops: OperationMetrics, clock: Clock, durations: list[float]
) -> None:
    tracker = ops.track("store_input")

    async def inner() -> None:
        async with tracker:
            clock.now += 1.0

    with tracker:
        await asyncio.create_task(inner())
        await asyncio.create_task(inner())

    assert durations == [1.0, 1.0, 2.0]


def test_threads_that_share_a_tracker_and_a_function_do_not_mix(ops: OperationMetrics, totals: Totals) -> None:
    tracker = ops.track("store_input")
    barrier = Barrier(4)

    @tracker
    def work() -> None:
        barrier.wait(10)

    def run() -> None:
        for _ in range(50):
            with tracker:
                work()

    threads = [Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert totals() == (400.0, 400.0, 0.0, 0.0)


def test_a_block_may_be_left_in_another_context_than_it_was_entered_in(
    ops: OperationMetrics, totals: Totals, clock: Clock, durations: list[float]
) -> None:
    tracker = ops.track("store_input")
    elsewhere = copy_context()
    elsewhere.run(tracker.__enter__)
    clock.now = 2.0
    tracker.__exit__(None, None, None)
    clock.now = 5.0
    # What was left is not what is around this one.
    elsewhere.run(tracker.__enter__)
    clock.now = 6.0
    elsewhere.run(tracker.__exit__, None, None, None)

    assert durations == [2.0, 1.0]
    assert totals() == (2.0, 0.0, 0.0, 0.0)


def test_trackers_may_be_left_in_another_order_than_they_were_entered_in(
    ops: OperationMetrics, clock: Clock, durations: list[float]
) -> None:
    trackers = [ops.track("store_input") for _ in range(3)]
    for at, tracker in enumerate(trackers):
        clock.now = at
        tracker.__enter__()
    clock.now = 10.0
    for tracker in (trackers[1], trackers[0], trackers[2]):
        tracker.__exit__(None, None, None)

    assert durations == [9.0, 10.0, 8.0]


def test_a_block_that_is_left_twice_has_ended_once(ops: OperationMetrics, totals: Totals) -> None:
    tracker = ops.track("store_input")
    with tracker:
        pass
    tracker.__exit__(None, None, None)

    assert totals() == (1.0, 1.0, 0.0, 0.0)


async def test_tasks_that_start_each_other_inside_keep_nothing_of_those_before(ops: OperationMetrics) -> None:
    alive: list[int] = []

    async def link(left: int, entered: asyncio.Event) -> None:
        following = None
        with ops.track("store_input"):
            entered.set()
            if left:
                inside = asyncio.Event()
                following = asyncio.create_task(link(left - 1, inside))
                await inside.wait()
            else:
                await anyio.wait_all_tasks_blocked()
                gc.collect()
                alive.append(sum(type(each) is _Entry for each in gc.get_objects()))
        if following is not None:
            await following

    await link(20, asyncio.Event())
    assert alive == [2]  # it, and the one that it was started in
