"""Single flights and rooms of threads, under asyncio and trio."""

from __future__ import annotations

import asyncio
import threading

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from asgi_obs.health.concurrency import SingleFlight, ThreadRoom

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


class Work:
    """Counts its runs; each waits until it may end."""

    def __init__(self) -> None:
        self.runs = 0
        self.began = anyio.Event()
        self.may_end = anyio.Event()

    async def __call__(self) -> int:
        self.runs += 1
        run = self.runs
        self.began.set()
        await self.may_end.wait()
        return run


async def settle() -> None:
    """Let every task run until it waits for something."""
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


async def test_all_who_ask_at_once_share_one_run() -> None:
    flight: SingleFlight[int] = SingleFlight()
    work = Work()
    results = []

    async def ask() -> None:
        results.append(await flight.run("key", work))

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(ask)
        await settle()
        work.may_end.set()
    assert results == [1] * 50


async def test_who_comes_later_gets_a_run_of_their_own() -> None:
    flight: SingleFlight[int] = SingleFlight()
    work = Work()
    work.may_end.set()
    assert [await flight.run("key", work), await flight.run("key", work)] == [1, 2]


async def test_different_keys_and_different_flights_share_nothing() -> None:
    flight: SingleFlight[int] = SingleFlight()
    other: SingleFlight[int] = SingleFlight()
    work = Work()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flight.run, "a", work)
        tasks.start_soon(flight.run, "b", work)
        tasks.start_soon(other.run, "a", work)
        await settle()
        work.may_end.set()
    assert work.runs == 3


async def test_when_the_one_who_runs_it_is_cancelled_the_next_takes_over() -> None:
    flight: SingleFlight[int] = SingleFlight()
    work = Work()
    results = []
    leader = anyio.CancelScope()

    async def lead() -> None:
        with leader:
            await flight.run("key", work)

    async def follow() -> None:
        results.append(await flight.run("key", work))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lead)
        await work.began.wait()
        for _ in range(3):
            tasks.start_soon(follow)
        await settle()
        leader.cancel()
        await settle()
        work.may_end.set()
    assert leader.cancelled_caught
    assert results == [2, 2, 2]


async def test_who_waits_may_be_cancelled_without_harm_to_the_run() -> None:
    flight: SingleFlight[int] = SingleFlight()
    work = Work()
    results = []
    follower = anyio.CancelScope()

    async def lead() -> None:
        results.append(await flight.run("key", work))

    async def follow() -> None:
        with follower:
            await flight.run("key", work)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lead)
        await work.began.wait()
        tasks.start_soon(follow)
        await settle()
        follower.cancel()
        await settle()
        work.may_end.set()
    assert follower.cancelled_caught
    assert results == [1]


async def test_an_exception_is_for_all_who_wait_and_not_for_the_next() -> None:
    flight: SingleFlight[int] = SingleFlight()
    began, may_end = anyio.Event(), anyio.Event()
    errors = []

    async def fail() -> int:
        began.set()
        await may_end.wait()
        raise OSError("down")

    async def ask() -> None:
        try:
            await flight.run("key", fail)
        except OSError as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(ask)
        await began.wait()
        await settle()
        may_end.set()
    assert len(errors) == 3
    assert len(set(map(id, errors))) == 1
    work = Work()
    work.may_end.set()
    assert await flight.run("key", work) == 1


async def test_a_room_runs_in_a_thread_of_its_own() -> None:
    assert await ThreadRoom("test.own", 1).run(threading.get_ident) != threading.get_ident()


async def test_a_room_that_is_full_leaves_the_default_threads_free() -> None:
    room = ThreadRoom("test.full", 1)
    started, may_end = threading.Event(), threading.Event()
    second = threading.Event()

    def hang() -> bool:
        started.set()
        return may_end.wait(10)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(room.run, hang)
        assert await anyio.to_thread.run_sync(started.wait, 10)
        tasks.start_soon(room.run, second.set)
        await settle()
        assert not second.is_set()
        may_end.set()
    assert second.is_set()


async def test_a_thread_that_hangs_does_not_hold_up_a_cancellation() -> None:
    room = ThreadRoom("test.hang", 1)
    may_end = threading.Event()
    started = anyio.Event()

    async def hang() -> None:
        started.set()
        await room.run(lambda: may_end.wait(10))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hang)
        await started.wait()
        await settle()
        tasks.cancel_scope.cancel()
    assert not may_end.is_set()
    may_end.set()


def test_one_flight_serves_several_event_loops_at_once() -> None:
    flight: SingleFlight[str] = SingleFlight()
    both = threading.Barrier(2, timeout=10)
    results = []

    def serve(name: str) -> None:
        async def work() -> str:
            await asyncio.to_thread(both.wait)  # passes only when both loops are in their runs
            return name

        results.append(asyncio.run(flight.run("key", work)))

    threads = [threading.Thread(target=serve, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(results) == ["a", "b"]
