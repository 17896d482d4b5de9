"""How a service comes and goes."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from anyio import to_thread

from asgi_obs.health import HealthRegistry
from asgi_obs.logs import signals
from asgi_obs.ops.lifecycle import Lifecycle
from asgi_obs.settings import Settings

pytestmark = pytest.mark.anyio


class Server:
    """Handles SIGTERM, as a server does."""

    def __init__(self) -> None:
        self.signalled = threading.Event()
        self.times = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.times += 1
        self.signalled.set()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(signals, "_methods", {})
    monkeypatch.setattr(signals, "_holders", {})
    handler = Server()
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    yield handler
    for number, previous in before.items():
        signal.signal(number, previous)


def lifecycle(drain_seconds: float) -> tuple[Lifecycle, HealthRegistry]:
    health = HealthRegistry()
    return Lifecycle(health, Settings(drain_seconds=drain_seconds, stall_seconds=0)), health


async def test_it_begins_once_in_an_event_loop() -> None:
    made, _ = lifecycle(0)

    assert [made.attach(), made.attach()] == [True, False]


def test_it_begins_anew_in_another_event_loop() -> None:
    made, _ = lifecycle(0)

    async def attach() -> bool:
        return made.attach()

    assert [asyncio.run(attach()), asyncio.run(attach())] == [True, True]


async def test_what_cannot_begin_does_not_break_the_request(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("asgi_obs.errors._last_logged", {})

    class Broken(HealthRegistry):
        def start(self) -> None:
            raise OSError("no more threads")

    made = Lifecycle(Broken(), Settings(stall_seconds=0))

    assert made.attach() is True
    assert "Lifecycle.begin failed" in caplog.text


async def test_without_a_lifespan_an_unknown_member_is_said_with_the_first_request(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("asgi_obs.errors._last_logged", {})
    made, health = lifecycle(0)
    health.group("storage", ["database"])

    made.begin()
    assert caplog.text == ""  # the application may yet add it, while it starts
    made.end()
    made.attach()
    assert "Lifecycle.attach failed" in caplog.text


async def test_with_a_shared_directory_temporary_levels_are_shared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    followed: list[str] = []
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr("asgi_obs.ops.lifecycle.follow", followed.append)

    lifecycle(0)[0].attach()

    assert followed == [str(tmp_path)]


async def test_sigterm_fails_readiness_and_goes_on_to_the_server_at_once(server: Server) -> None:
    made, health = lifecycle(0)
    made.attach()

    os.kill(os.getpid(), signal.SIGTERM)

    assert (health.readiness.state, health.readiness.reason, server.times) == ("draining", "SIGTERM", 1)


async def test_with_time_to_drain_the_server_hears_of_sigterm_later(server: Server) -> None:
    made, health = lifecycle(0.05)
    made.attach()

    os.kill(os.getpid(), signal.SIGTERM)
    assert (health.readiness.state, server.times) == ("draining", 0)

    assert await to_thread.run_sync(server.signalled.wait, 30)
    assert server.times == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_who_leaves_is_not_made_ready_again_and_does_not_wait_twice(server: Server, number: int) -> None:
    made, health = lifecycle(3600)
    made.attach()

    os.kill(os.getpid(), number)
    health.set_ready()
    assert (health.readiness.state, health.readiness.reason) == ("draining", signal.Signals(number).name)
    assert server.times == 0

    os.kill(os.getpid(), number)
    assert server.times == 1


def test_without_an_event_loop_sigterm_is_not_held_back(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_obs.errors._last_logged", {})
    made, health = lifecycle(3600)

    async def attach() -> None:
        made.attach()

    asyncio.run(attach())
    os.kill(os.getpid(), signal.SIGTERM)

    assert (health.readiness.state, server.times) == ("draining", 1)


async def test_the_end_of_the_lifespan_fails_readiness_and_waits_once() -> None:
    made, health = lifecycle(0.01)
    made.begin()

    await made.drain()
    assert (health.readiness.state, health.readiness.reason) == ("draining", "shutting down")
    health.undrain()
    await made.drain()
    assert health.readiness.state == "ready"


async def test_what_the_last_lifespan_has_set_is_over_when_the_next_begins() -> None:
    made, health = lifecycle(0)
    made.begin()
    await made.drain()
    made.end()

    made.begin()

    assert health.readiness.state == "ready"


async def test_what_the_application_has_set_itself_stays() -> None:
    made, health = lifecycle(0)
    health.set_not_ready("warming up", state="starting")

    made.begin()

    assert (health.readiness.state, health.readiness.reason) == ("starting", "warming up")


async def test_behind_its_end_it_can_begin_again_in_the_same_loop() -> None:
    made, _ = lifecycle(0)
    made.attach()
    made.end()

    assert made.attach() is True
