"""How long the garbage collector stops the process."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from asgi_obs.metrics.process import garbage
from asgi_obs.metrics.process.garbage import GarbagePauses
from tests.metrics.process.event_loops import FakeClock


@pytest.fixture
def callbacks() -> Iterator[None]:
    """No collection but those of the test, and the callbacks put back afterwards."""
    before = gc.callbacks[:]
    gc.disable()
    yield
    gc.enable()
    gc.callbacks[:] = before


def run(pauses: GarbagePauses, generation: int, phase: str) -> None:
    pauses._on_run(phase, {"generation": generation, "collected": 0, "uncollectable": 0})


def test_every_run_is_measured_once_installed(callbacks: None) -> None:
    pauses = GarbagePauses()
    pauses.install()
    pauses.install()
    gc.collect(0)
    gc.collect(2)

    taken = pauses.take()

    assert [generation for generation, _ in taken] == [0, 2]
    assert all(0 < seconds < 60 for _, seconds in taken)
    assert pauses.take() == []


def test_a_pause_is_the_time_between_start_and_stop() -> None:
    clock = FakeClock()
    pauses = GarbagePauses(clock)
    run(pauses, 1, "start")
    clock.now += 0.5
    run(pauses, 1, "stop")

    assert pauses.take() == [(1, 0.5)]


def test_a_stop_without_a_start_is_no_pause() -> None:
    pauses = GarbagePauses()
    run(pauses, 1, "stop")

    assert pauses.take() == []


def test_of_too_many_pauses_the_oldest_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "MAX_PAUSES", 2)
    clock = FakeClock()
    pauses = GarbagePauses(clock)
    for seconds in (1.0, 2.0, 3.0):
        run(pauses, 0, "start")
        clock.now += seconds
        run(pauses, 0, "stop")

    assert pauses.take() == [(0, 2.0), (0, 3.0)]


def test_behind_a_fork_the_pauses_are_the_parents() -> None:
    pauses = GarbagePauses()
    run(pauses, 0, "start")
    run(pauses, 0, "stop")

    pauses.after_fork()

    assert pauses.take() == []
