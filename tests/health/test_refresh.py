"""The background refresh, under asyncio and trio."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextvars import ContextVar

import anyio
import anyio.lowlevel
import pytest

from asgi_obs.health.refresh import Refresh

pytestmark = pytest.mark.anyio

whose: ContextVar[str] = ContextVar("whose", default="nobody's")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


class Count:
    """Something to do, which is counted."""

    def __init__(self) -> None:
        self.times = 0

    async def __call__(self) -> None:
        self.times += 1
        await anyio.lowlevel.checkpoint()


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await anyio.sleep(0.001)


async def test_it_is_done_again_and_again() -> None:
    count = Count()
    refresh = Refresh(count, 0.001)
    assert not refresh.is_alive
    refresh.start()
    assert refresh.is_alive
    await until(lambda: count.times > 5)
    refresh.stop()


async def test_the_first_time_is_at_once_and_the_next_a_period_later() -> None:
    count = Count()
    refresh = Refresh(count, 60.0)
    refresh.start()
    await until(lambda: count.times == 1)
    for _ in range(10):
        await anyio.lowlevel.checkpoint()
    assert count.times == 1


async def test_to_start_it_again_changes_nothing() -> None:
    count = Count()
    refresh = Refresh(count, 60.0)
    for _ in range(5):
        refresh.start()
    await until(lambda: count.times == 1)
    for _ in range(10):
        await anyio.lowlevel.checkpoint()
    assert count.times == 1


async def test_what_fails_is_reported_and_done_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("asgi_obs.errors._last_logged", {})
    times = []

    async def fail() -> None:
        times.append(1)
        raise OSError("gone")

    refresh = Refresh(fail, 0.001)
    with caplog.at_level(logging.ERROR, "asgi_obs"):
        refresh.start()
        await until(lambda: len(times) > 3)
    assert refresh.is_alive
    assert [record.getMessage() for record in caplog.records] == [
        "HealthRegistry.refresh failed; requests are not affected"
    ]
    refresh.stop()


async def test_it_stops_and_begins_again() -> None:
    count = Count()
    refresh = Refresh(count, 0.001)
    refresh.stop()
    refresh.start()
    await until(lambda: count.times > 1)
    refresh.stop()
    assert not refresh.is_alive
    stopped_at = count.times
    for _ in range(10):
        await anyio.sleep(0.001)
    assert count.times - stopped_at <= 1
    refresh.start()
    await until(lambda: count.times > stopped_at + 3)
    refresh.stop()


async def test_it_has_nothing_of_the_context_it_was_started_in() -> None:
    seen = []

    async def read() -> None:
        seen.append(whose.get())

    token = whose.set("of a request")
    try:
        Refresh(read, 60.0).start()
    finally:
        whose.reset(token)
    await until(lambda: bool(seen))
    assert seen == ["nobody's"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_it_begins_anew_in_another_event_loop_after_the_first_has_ended(backend: str) -> None:
    count = Count()
    refresh = Refresh(count, 60.0)

    async def serve(times: int) -> None:
        refresh.start()
        await until(lambda: count.times == times)

    for times in (1, 2):
        anyio.run(serve, times, backend=backend)
        assert not refresh.is_alive
    refresh.stop()


def test_an_event_loop_that_was_closed_with_its_tasks_left_behind_is_no_hindrance() -> None:
    count = Count()
    refresh = Refresh(count, 60.0)

    async def start() -> None:
        refresh.start()
        await until(lambda: count.times == 1)

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(start())
        assert refresh.is_alive
        left_behind = asyncio.all_tasks(loop)
    finally:
        loop.close()
    assert not refresh.is_alive
    refresh.stop()
    for task in left_behind:
        task._log_destroy_pending = False  # type: ignore[attr-defined]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("begun", [True, False])
async def test_a_task_that_somebody_cancels_is_known_to_have_ended(begun: bool) -> None:
    count = Count()
    refresh = Refresh(count, 60.0)
    before = asyncio.all_tasks()
    refresh.start()
    (task,) = asyncio.all_tasks() - before
    if begun:
        await until(lambda: count.times == 1)
    task.cancel()
    await until(lambda: not refresh.is_alive)
    refresh.start()
    await until(lambda: count.times == 1 + begun)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_in_a_forked_process_it_is_not_there() -> None:
    refresh = Refresh(Count(), 60.0)

    async def start() -> int:
        refresh.start()
        child = os.fork()
        if child == 0:  # pragma: no cover - in the child, where nothing is measured
            os._exit(1 if refresh.is_alive else 0)
        assert refresh.is_alive
        return child

    assert os.waitstatus_to_exitcode(os.waitpid(asyncio.run(start()), 0)[1]) == 0
