"""How busy the threads of sync handlers are."""

from __future__ import annotations

import threading

import anyio
import pytest
from anyio import to_thread

from asgi_obs.metrics.process.thread_pool import ThreadPool
from tests.metrics.process.event_loops import DEADLINE

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


async def test_it_counts_threads_at_work_and_calls_that_wait() -> None:
    to_thread.current_default_thread_limiter().total_tokens = 2
    release = threading.Event()
    pool = ThreadPool()
    seen = [(pool.busy, pool.limit, pool.waiting)]

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(to_thread.run_sync, release.wait, DEADLINE)
        with anyio.fail_after(DEADLINE):
            while pool.waiting == 0:
                await anyio.sleep(0.001)
                pool.read()
        seen.append((pool.busy, pool.limit, pool.waiting))
        release.set()
    pool.read()
    seen.append((pool.busy, pool.limit, pool.waiting))

    assert seen == [(0, 2, 0), (2, 2, 1), (0, 2, 0)]
