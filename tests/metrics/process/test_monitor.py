"""The thread that samples the process and watches its event loops."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry

from asgi_obs.metrics.process import monitor as module
from asgi_obs.metrics.process.event_loop import EventLoops
from asgi_obs.metrics.process.monitor import ProcessMonitor
from tests.metrics.process.event_loops import (
    DEADLINE,
    Run,
    blocked_loop,
    directly,
    run_asyncio,
    run_trio,
    soon,
    stalls,
    until,
)

both = pytest.mark.parametrize("run", [run_asyncio, run_trio])

MEMORY, LAG = "process_memory_usage_bytes", "event_loop_lag_seconds"


@pytest.fixture(autouse=True)
def callbacks() -> Iterator[None]:
    """The callbacks of the garbage collector, put back afterwards."""
    before = gc.callbacks[:]
    yield
    gc.callbacks[:] = before


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def monitor(registry: CollectorRegistry) -> ProcessMonitor:
    made = ProcessMonitor(EventLoops())
    made.show_on(registry)
    return made


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "asgi_obs.monitor"}


def has_ended(thread: threading.Thread) -> bool:
    thread.join(DEADLINE)
    return not thread.is_alive()


class Refreshed:
    """Counts how often it is refreshed."""

    times = 0

    def refresh(self) -> None:
        self.times += 1


def test_others_are_refreshed_with_each_sample_as_long_as_they_are_there(monitor: ProcessMonitor) -> None:
    one, other = Refreshed(), Refreshed()
    monitor.refresh_with_samples(one)
    monitor.refresh_with_samples(other)
    del other
    monitor.sample_if_stale()
    assert one.times == 1


@both
def test_with_an_event_loop_a_thread_begins_and_with_its_end_it_ends(
    run: Run, monitor: ProcessMonitor, registry: CollectorRegistry
) -> None:
    before, begun = threads(), []

    async def main() -> None:
        monitor.attach(0.1)
        begun.extend(threads() - before)
        await soon(lambda: registry.get_sample_value(MEMORY))

    run(main)

    (thread,) = begun
    assert (thread.daemon, has_ended(thread)) == (True, True)
    assert (registry.get_sample_value(MEMORY) or 0) > 1_000_000
    assert registry.get_sample_value(LAG) is not None


def test_it_begins_anew_with_the_next_event_loop(monitor: ProcessMonitor) -> None:
    begun: list[threading.Thread] = []

    async def main() -> None:
        before = threads()
        monitor.attach(0.1)
        begun.extend(threads() - before)

    for _ in range(2):
        asyncio.run(main())
        assert has_ended(begun[-1])

    assert len(begun) == 2


def test_attaching_again_does_nothing(monitor: ProcessMonitor) -> None:
    before = threads()

    async def main() -> None:
        monitor.attach(0.1)
        monitor.attach(0.1)
        assert len(threads() - before) == 1
        assert len(gc.callbacks) == len(set(gc.callbacks))

    asyncio.run(main())


def test_event_loops_in_several_threads_share_it(monitor: ProcessMonitor) -> None:
    before = threads()

    async def main() -> None:
        monitor.attach(0.1)
        with blocked_loop(run_asyncio, lambda: monitor.attach(0.1), directly):
            monitor.attach(0.1)
            assert (len(threads() - before), len(monitor._loops.alive)) == (1, 2)

    asyncio.run(main())


def test_outside_of_an_event_loop_nothing_is_attached(monitor: ProcessMonitor) -> None:
    before = threads()
    monitor.attach(0.1)

    assert threads() <= before


@both
def test_it_watches_the_event_loops(run: Run, monitor: ProcessMonitor, caplog: pytest.LogCaptureFixture) -> None:
    before = stalls()
    with caplog.at_level(logging.WARNING, "asgi_obs"):
        with blocked_loop(run, lambda: monitor.attach(0.05), directly):
            until(lambda: stalls() > before)
            until(lambda: caplog.messages)

    assert caplog.messages == ["event loop blocked for more than 0.05 s"]


def test_an_event_loop_that_comes_later_is_watched_at_once(
    monitor: ProcessMonitor, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        monitor.attach(0)
        with blocked_loop(run_asyncio, lambda: monitor.attach(0.05), directly):
            await soon(lambda: caplog.messages)

    with caplog.at_level(logging.WARNING, "asgi_obs"):
        asyncio.run(main())

    assert caplog.messages == ["event loop blocked for more than 0.05 s"]


def test_it_samples_again_and_again(
    monitor: ProcessMonitor, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PERIOD", 0.005)

    async def main() -> None:
        monitor.attach(0)
        for _ in range(3):
            await soon(lambda: registry.get_sample_value(MEMORY))
            monitor._registries.publish({MEMORY: 0.0}, [])

    asyncio.run(main())

    assert registry.get_sample_value(MEMORY) is not None


def test_pauses_of_the_garbage_collector_are_shown(monitor: ProcessMonitor, registry: CollectorRegistry) -> None:
    async def main() -> None:
        monitor.attach(0)
        gc.collect()
        monitor._sample()

    asyncio.run(main())

    assert (registry.get_sample_value("gc_pause_seconds_count", {"generation": "2"}) or 0) >= 1


def test_a_scrape_without_a_thread_samples(monitor: ProcessMonitor, registry: CollectorRegistry) -> None:
    monitor.sample_if_stale()

    assert (registry.get_sample_value(MEMORY) or 0) > 1_000_000


def test_a_registry_that_comes_later_is_shown_at_the_next_scrape(monitor: ProcessMonitor) -> None:
    monitor.sample_if_stale()
    later = CollectorRegistry()
    monitor.show_on(later)
    monitor.sample_if_stale()

    assert (later.get_sample_value(MEMORY) or 0) > 1_000_000


@pytest.mark.parametrize(("age", "thread", "sampled"), [(0.5, False, False), (2.0, False, True), (2.0, True, False)])
def test_a_sample_is_good_for_a_second_and_with_the_thread_for_longer(
    monitor: ProcessMonitor,
    registry: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
    age: float,
    thread: bool,
    sampled: bool,
) -> None:
    now = 1_000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    monitor.sample_if_stale()
    monitor._registries.publish({MEMORY: 0.0}, [])
    monkeypatch.setattr(monitor, "_thread", threading.current_thread() if thread else None)
    now += age
    monitor.sample_if_stale()

    assert (registry.get_sample_value(MEMORY) != 0.0) is sampled


def test_a_scrape_does_not_wait_for_a_sample_that_hangs(
    monitor: ProcessMonitor, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.001)
    with monitor._sampling:
        monitor.sample_if_stale()

    assert registry.get_sample_value(MEMORY) is None


class Failing:
    """Stands for a part that raises."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *_: object) -> dict[str, float]:
        self.calls += 1
        raise RuntimeError("no")


@pytest.fixture
def reported(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    monkeypatch.setattr("asgi_obs.errors._last_logged", {})
    caplog.set_level(logging.ERROR, "asgi_obs")
    return lambda: [message.split(" ")[0] for message in caplog.messages]


def test_a_failing_sample_does_not_reach_the_scrape(
    monitor: ProcessMonitor, reported: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor._sampler, "read", Failing())
    monitor.sample_if_stale()

    assert reported() == ["ProcessMonitor.sample"]


def test_a_failing_part_does_not_end_the_thread(
    monitor: ProcessMonitor, reported: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PERIOD", 0.001)
    look = Failing()
    monkeypatch.setattr(monitor._watchdog, "look", look)

    async def main() -> None:
        monitor.attach(0)
        await soon(lambda: look.calls > 2)

    asyncio.run(main())

    assert reported() == ["ProcessMonitor.run"]


def test_what_fails_while_attaching_does_not_reach_the_request(
    monitor: ProcessMonitor, reported: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Failing()
    monkeypatch.setattr(monitor._loops, "measure", measure)

    async def main() -> None:
        monitor.attach(0.1)
        monitor.attach(0.1)

    asyncio.run(main())

    assert (reported(), measure.calls) == (["ProcessMonitor.attach"], 1)


def test_where_no_thread_can_begin_scrapes_sample(
    monitor: ProcessMonitor, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = threads()
    monkeypatch.setattr(threading.Thread, "start", Failing())

    async def main() -> None:
        monitor.attach(0.1)
        monitor.sample_if_stale()

    asyncio.run(main())

    assert threads() <= before
    assert registry.get_sample_value(LAG) == 0.0


def test_behind_a_fork_it_begins_anew(monitor: ProcessMonitor, registry: CollectorRegistry) -> None:
    before = threads()

    async def main() -> None:
        monitor.attach(0)
        assert len(threads() - before) == 1
        monitor.after_fork()
        assert monitor._loops.alive == ()
        monitor.attach(0)
        assert len(monitor._loops.alive) == 1

    asyncio.run(main())


FORKED = """
import asyncio, os, threading, warnings
from asgi_obs.metrics.process import monitor
from asgi_obs.metrics.process.event_loop import lag

warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on for a fork with threads

async def attach():
    monitor.attach(1.0)
    return [thread.name for thread in threading.enumerate()], lag()

async def attach_and_fork():
    before = await attach()
    child = os.fork()
    return child, before if child else ([thread.name for thread in threading.enumerate()], lag())

print([thread.name for thread in threading.enumerate()], lag(), flush=True)
child, seen = asyncio.run(attach_and_fork())
if child:
    os.waitpid(child, 0)
    print(*seen)
else:
    print(*seen)
    print(*asyncio.run(attach()), flush=True)
    os._exit(0)
"""


def test_nothing_begins_at_import_or_is_inherited_by_a_fork_or_heard_of_at_exit() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True)

    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "['MainThread'] None",
        "['MainThread'] None",
        "['MainThread', 'asgi_obs.monitor'] 0.0",
        "['MainThread', 'asgi_obs.monitor'] 0.0",
    ]
