"""Single flights and rooms of threads, under asyncio and trio."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import warnings
from contextvars import ContextVar
from itertools import pairwise

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from asgi_obs.health.concurrency import WAVE, SingleFlight, ThreadCall, ThreadRoom

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


whose: ContextVar[str] = ContextVar("whose", default="nobody's")


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


async def test_when_the_first_who_asked_is_cancelled_the_run_goes_on() -> None:
    flight: SingleFlight[int] = SingleFlight()
    work = Work()
    results = []
    first = anyio.CancelScope()

    async def lead() -> None:
        with first:
            await flight.run("key", work)

    async def follow() -> None:
        results.append(await flight.run("key", work))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lead)
        await work.began.wait()
        for _ in range(3):
            tasks.start_soon(follow)
        await settle()
        first.cancel()
        await settle()
        work.may_end.set()
    assert first.cancelled_caught
    assert results == [1, 1, 1]


async def test_a_run_that_nobody_waits_for_goes_on_and_is_found_by_the_next() -> None:
    flight: SingleFlight[int] = SingleFlight()
    work = Work()
    with anyio.CancelScope() as impatient:
        impatient.cancel()
        await flight.run("key", work)
    await work.began.wait()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flight.run, "key", work)
        await settle()
        work.may_end.set()
    assert work.runs == 1


async def test_a_run_has_the_context_of_the_first_who_asked() -> None:
    flight: SingleFlight[str] = SingleFlight()
    token = whose.set("the first")

    async def read() -> str:
        return whose.get()

    try:
        assert await flight.run("key", read) == "the first"
    finally:
        whose.reset(token)


async def test_a_function_that_wants_to_end_the_process_ends_its_run_only() -> None:
    async def leave() -> int:
        sys.exit(3)

    with pytest.raises(SystemExit):
        await SingleFlight[int]().run("key", leave)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("begun", [True, False])
async def test_a_run_that_somebody_cancels_is_over_for_all_who_wait(begun: bool) -> None:
    flight: SingleFlight[int] = SingleFlight()
    before = asyncio.all_tasks()
    run = flight.start("key", Work())
    (task,) = asyncio.all_tasks() - before
    if begun:
        await settle()
    task.cancel()
    with pytest.raises(RuntimeError, match="the run was cancelled"):
        await run.outcome()
    work = Work()
    work.may_end.set()
    assert await flight.run("key", work) == 1


async def test_what_is_no_exception_is_for_all_who_wait_too() -> None:
    class Panic(BaseException):
        pass

    async def fail() -> int:
        raise Panic

    with pytest.raises(Panic):
        await SingleFlight[int]().run("key", fail)


async def test_a_run_that_does_not_heed_its_cancellation_is_found_by_the_next() -> None:
    flight: SingleFlight[int] = SingleFlight()
    may_end = anyio.Event()

    async def stay() -> int:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await may_end.wait()
        return 7

    run = flight.start("key", stay)
    await settle()
    assert not run.is_cancelled
    run.cancel()
    await settle()
    assert (run.is_cancelled, run.has_landed, flight.start("key", stay)) == (True, False, run)
    may_end.set()
    await run.wait()
    assert flight.start("key", stay) is not run


async def test_many_who_wait_are_woken_some_at_a_time() -> None:
    flight: SingleFlight[int] = SingleFlight()
    work = Work()
    awake = []
    steps = []

    async def ask(number: int) -> None:
        await flight.run("key", work)
        awake.append(number)

    async def watch() -> None:
        while len(awake) < 5 * WAVE:
            await anyio.lowlevel.checkpoint()
            steps.append(len(awake))

    async with anyio.create_task_group() as tasks:
        for number in range(5 * WAVE):
            tasks.start_soon(ask, number)
        await settle()
        tasks.start_soon(watch)
        work.may_end.set()
    assert set(awake) == set(range(5 * WAVE))
    assert max(after - before for before, after in pairwise([0, *steps])) <= 2 * WAVE


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


async def test_what_a_function_in_a_room_raises_is_raised() -> None:
    with pytest.raises(SystemExit):
        await ThreadRoom("test.raise", 1).run(lambda: sys.exit(3))


async def test_a_function_in_a_room_has_the_context_of_who_called() -> None:
    token = whose.set("the caller's")
    try:
        assert await ThreadRoom("test.context", 1).run(whose.get) == "the caller's"
    finally:
        whose.reset(token)


async def test_a_function_in_a_room_may_have_an_event_loop_of_its_own() -> None:
    async def inner() -> int:
        await anyio.lowlevel.checkpoint()
        return 7

    assert await ThreadRoom("test.loop", 1).run(lambda: anyio.run(inner)) == 7


async def test_without_sniffio_too(monkeypatch: pytest.MonkeyPatch) -> None:
    call = None
    room = ThreadRoom("test.sniffio", 1)
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "sniffio")
        call = room.submit(threading.get_ident)
    assert await room.outcome(call) != threading.get_ident()


async def test_a_call_that_waits_for_room_is_not_made_when_it_is_cancelled() -> None:
    room = ThreadRoom("test.waiting", 1)
    may_end = threading.Event()
    calls = []
    first = room.submit(lambda: may_end.wait(10))
    for _ in range(3):
        with anyio.move_on_after(0.01) as scope:
            await room.run(lambda: calls.append(1))
        assert scope.cancelled_caught
    assert len(room._waiting) == 0  # what hangs for long must not fill the memory
    may_end.set()
    assert await room.outcome(first) is True
    assert await room.run(lambda: calls.append(2)) is None
    assert calls == [2]


async def test_a_call_that_was_cancelled_just_before_a_thread_came_to_it_is_not_made() -> None:
    room = ThreadRoom("test.late", 1)
    calls: list[int] = []
    call = ThreadCall(lambda: calls.append(1))
    call.future.cancel()
    room._drop(call)
    call.run(lambda: calls.append(2))
    assert calls == []


async def test_the_threads_of_a_room_are_gone_when_there_is_no_more_to_do() -> None:
    room = ThreadRoom("test.gone", 3)
    may_end = threading.Event()
    calls = [room.submit(lambda: may_end.wait(10)) for _ in range(10)]
    threads = [thread for thread in threading.enumerate() if thread.name == "test.gone"]
    assert len(threads) == 3
    assert all(thread.daemon for thread in threads)
    assert all(call in room for call in calls)
    may_end.set()
    assert [await room.outcome(call) for call in calls] == [True] * 10
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert not any(call in room for call in calls)


async def test_a_room_without_a_size_is_never_full() -> None:
    room = ThreadRoom("test.unlimited", None)
    all_at_once = threading.Barrier(50, timeout=10)
    calls = [room.submit(all_at_once.wait) for _ in range(50)]
    assert sorted([await room.outcome(call) for call in calls]) == list(range(50))


async def test_when_no_thread_can_be_started_there_is_room_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    room = ThreadRoom("test.start", 1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await room.run(threading.get_ident)
    assert await room.run(lambda: 7) == 7


def test_a_thread_that_ends_after_its_event_loop_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    room = ThreadRoom("test.closed", 1)
    may_end = threading.Event()

    async def leave() -> None:
        with anyio.move_on_after(0.01):
            await room.run(lambda: may_end.wait(10))

    for backend in ("asyncio", "trio"):
        may_end.clear()
        anyio.run(leave, backend=backend)
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "test.closed"]
        may_end.set()
        thread.join(10)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_in_a_forked_process_a_room_is_empty_and_its_lock_free() -> None:
    room = ThreadRoom("test.fork", 1)
    may_end = threading.Event()
    hanging = room.submit(lambda: may_end.wait(10))
    with room._lock:
        child = fork_quietly()
        if child == 0:  # pragma: no cover - in the child, where nothing is measured
            is_new = hanging not in room and anyio.run(room.run, lambda: 7) == 7
            os._exit(0 if is_new else 1)
    may_end.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert hanging.future.result(10) is True


def fork_quietly() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on: there are threads
        return os.fork()


HANGING = """
import threading
import anyio
from asgi_obs import HealthRegistry

health = HealthRegistry()
health.add("hangs", threading.Event().wait, timeout=0.05)
print(anyio.run(health.run, backend={backend!r}).status)
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_process_with_a_check_that_hangs_ends(backend: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING.format(backend=backend)], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "unhealthy\n"


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
