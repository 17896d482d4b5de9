"""Tasks of nobody's, and calls from other threads, under asyncio and trio."""

from __future__ import annotations

import asyncio
import threading
from contextvars import Context, ContextVar, copy_context

import anyio
import anyio.lowlevel
import pytest

from asgi_obs.health.loops import EventLoop, current_loop, spawn

pytestmark = pytest.mark.anyio

whose: ContextVar[str] = ContextVar("whose", default="nobody's")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


async def test_a_thread_has_something_called_in_the_event_loop() -> None:
    loop, called = current_loop(), anyio.Event()
    thread = threading.Thread(target=loop.call_soon, args=(called.set,))
    thread.start()
    with anyio.fail_after(10):
        await called.wait()
    thread.join(10)
    assert not loop.is_closed()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_that_has_ended_takes_no_calls(backend: str) -> None:
    async def main() -> EventLoop:
        return current_loop()

    loop = anyio.run(main, backend=backend)
    assert loop.is_closed() is (backend == "asyncio")
    with pytest.raises(RuntimeError):
        loop.call_soon(print)


def test_outside_of_an_event_loop_there_is_none() -> None:
    with pytest.raises(RuntimeError):
        current_loop()


@pytest.mark.parametrize(("context", "value"), [(Context(), "nobody's"), (None, "mine")])
async def test_a_task_has_the_context_that_it_is_given(context: Context | None, value: str) -> None:
    seen, ended = [], anyio.Event()
    token = whose.set("mine")

    async def read() -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(whose.get())

    try:
        spawn(read, copy_context() if context is None else context, ended.set)
    finally:
        whose.reset(token)
    with anyio.fail_after(10):
        await ended.wait()
    assert seen == [value]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_task_ends_with_its_event_loop(backend: str) -> None:
    ended = []

    async def main() -> None:
        spawn(anyio.sleep_forever, Context(), lambda: ended.append(1))
        await anyio.lowlevel.checkpoint()

    anyio.run(main, backend=backend)
    assert ended == [1]


async def test_a_task_that_is_cancelled_ends() -> None:
    ended = anyio.Event()
    cancel = spawn(anyio.sleep_forever, Context(), ended.set)
    await anyio.lowlevel.checkpoint()
    cancel()
    with anyio.fail_after(10):
        await ended.wait()


async def test_a_task_that_is_cancelled_before_it_begins_ends_too() -> None:
    ended = anyio.Event()
    spawn(anyio.sleep_forever, Context(), ended.set)()
    with anyio.fail_after(10):
        await ended.wait()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_of_asyncio_is_cancelled_once() -> None:
    cancellations, may_end, ended = [], anyio.Event(), anyio.Event()

    async def stay() -> None:
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            cancellations.append(1)
        await may_end.wait()

    cancel = spawn(stay, Context(), ended.set)
    await anyio.lowlevel.checkpoint()
    cancel()
    for _ in range(10):
        await anyio.lowlevel.checkpoint()
    assert (cancellations, ended.is_set()) == ([1], False)
    may_end.set()
    with anyio.fail_after(10):
        await ended.wait()
