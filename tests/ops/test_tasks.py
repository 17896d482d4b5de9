"""Stacks of threads and tasks: where they are, and nothing of what they hold."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from types import coroutine
from typing import Any

import anyio
import orjson
import pytest

from asgi_obs.ops import tasks as module
from asgi_obs.ops.request import Caller, OpsRequest
from asgi_obs.ops.tasks import MAX_FRAMES, Tasks
from asgi_obs.testing import http_scope

pytestmark = pytest.mark.anyio

HERE = (lambda: None).__code__.co_filename


async def told() -> dict[str, Any]:
    async def receive() -> Any:
        raise AssertionError  # pragma: no cover - it reads no body

    answer = await Tasks()(OpsRequest(http_scope("/tasks"), receive, "", Caller(admitted=True)))
    assert answer.status == 200
    content: dict[str, Any] = orjson.loads(answer.body)
    return content


def functions(stack: list[str]) -> list[str]:
    """The functions of this file in a stack; before Python 3.11 they have no qualified names."""
    return [line.rpartition(" ")[2].rpartition(".")[2] for line in stack if line.startswith(HERE)]


@pytest.fixture
def waiting_thread() -> Iterator[Callable[[str], None]]:
    release = threading.Event()
    started: list[threading.Thread] = []

    def start(name: str, depth: int = 0) -> None:
        ready = threading.Event()

        def dive(left: int, secret: str) -> None:
            if left:
                dive(left - 1, secret)
            else:
                ready.set()
                release.wait()

        thread = threading.Thread(target=dive, args=(depth, "hunter22"), name=name, daemon=True)
        started.append(thread)
        thread.start()
        ready.wait()

    yield start
    release.set()
    for thread in started:
        thread.join()


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_every_thread_is_told_with_its_stack(waiting_thread: Callable[..., None]) -> None:
    waiting_thread("night\nshift")
    content = await told()
    (thread,) = [thread for thread in content["threads"] if thread["name"] == "night\\nshift"]
    assert (thread["daemon"], functions(thread["stack"])) == (True, ["dive"])
    assert threading.current_thread().name in {thread["name"] for thread in content["threads"]}
    assert (content["pid"], content["threads_left_out"]) == (os.getpid(), 0)


async def test_a_deep_stack_is_told_from_the_inside(waiting_thread: Callable[..., None]) -> None:
    waiting_thread("deep", 200)
    (stack,) = [thread["stack"] for thread in (await told())["threads"] if thread["name"] == "deep"]
    assert len(stack) == MAX_FRAMES
    assert stack[-1].startswith(threading.__file__)
    assert set(functions(stack)) == {"dive"}


async def test_a_thread_that_python_does_not_know_has_no_name(
    waiting_thread: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting_thread("foreign")
    known = [thread for thread in threading.enumerate() if thread.name != "foreign"]
    monkeypatch.setattr(threading, "enumerate", lambda: known)
    (thread,) = [thread for thread in (await told())["threads"] if thread["name"] is None]
    assert (thread["daemon"], functions(thread["stack"])) == (None, ["dive"])


async def test_a_task_is_told_with_all_that_it_awaits() -> None:
    async def outer(secret: str) -> None:
        await inner(secret)

    async def inner(secret: str) -> None:
        await suspended()

    @coroutine
    def suspended() -> Any:
        yield from asyncio.sleep(3600)

    task = asyncio.create_task(outer("hunter22"), name="night shift")
    await asyncio.sleep(0)
    content = await told()
    (found,) = [task for task in content["tasks"] if task["name"] == "night shift"]
    assert (found["state"], found["coroutine"].rpartition(".")[2]) == ("waiting", "outer")
    assert functions(found["stack"]) == ["outer", "inner", "suspended"]
    assert found["stack"][-1].rpartition(" ")[2] == "sleep"
    assert content["tasks_left_out"] == 0
    assert "hunter22" not in str(content)
    await _end(task)


async def test_an_async_generator_that_is_awaited_is_told() -> None:
    async def numbers() -> AsyncIterator[int]:
        await asyncio.sleep(3600)
        yield 1  # pragma: no cover - it never gets there

    async def consumer() -> None:
        async for _ in numbers():
            raise AssertionError  # pragma: no cover - as above

    task = asyncio.create_task(consumer(), name="consumer")
    await asyncio.sleep(0)
    (found,) = [task for task in (await told())["tasks"] if task["name"] == "consumer"]
    assert functions(found["stack"])[0] == "consumer"
    await _end(task)


async def test_the_task_that_asks_is_running() -> None:
    running = [task for task in (await told())["tasks"] if task["state"] == "running"]
    assert len(running) == 1
    assert functions(running[0]["stack"]) or running[0]["stack"]


async def test_what_is_awaited_may_be_of_any_class() -> None:
    class Steps:
        """A coroutine of another kind."""

        def send(self, value: Any) -> Any:
            return None

        def throw(self, *error: Any) -> Any:
            raise asyncio.CancelledError

        def close(self) -> None:
            raise AssertionError  # pragma: no cover - nobody closes it

        def __await__(self) -> Any:
            raise AssertionError  # pragma: no cover - nobody awaits it

    task = asyncio.create_task(Steps(), name="steps")  # type: ignore[arg-type]
    await asyncio.sleep(0)
    (found,) = [task for task in (await told())["tasks"] if task["name"] == "steps"]
    assert (found["coroutine"].rpartition(".")[2], found["stack"]) == ("Steps", [])
    await _end(task)


async def test_there_are_no_more_than_a_bound(
    monkeypatch: pytest.MonkeyPatch, waiting_thread: Callable[..., None]
) -> None:
    waiting_thread("one more")
    monkeypatch.setattr(module, "MAX_TASKS", 1)
    tasks = [asyncio.create_task(asyncio.sleep(3600)) for _ in range(5)]
    content = await told()
    assert (len(content["tasks"]), len(content["threads"])) == (1, 1)
    assert content["tasks_left_out"] >= 5
    assert content["threads_left_out"] == len(sys._current_frames()) - 1
    for task in tasks:
        await _end(task)


async def test_a_long_name_is_cut_off() -> None:
    task = asyncio.create_task(asyncio.sleep(3600), name="x" * 10_000)
    assert "x" * 200 in {task["name"] for task in (await told())["tasks"]}
    await _end(task)


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_under_trio_there_are_only_threads() -> None:
    content = await told()
    assert content["tasks"] is None
    assert content["reason"] == "not in an event loop of asyncio"
    assert content["threads"]


async def test_nothing_is_held_on_to_afterwards() -> None:
    class Held:
        pass

    async def look() -> Any:
        held = Held()
        await told()
        return weakref.ref(held)

    gc.collect()
    gc.disable()
    try:
        reference = await asyncio.create_task(look())
        await anyio.lowlevel.checkpoint()
        assert reference() is None
    finally:
        gc.enable()


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])
