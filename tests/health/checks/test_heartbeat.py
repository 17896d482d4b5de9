"""The heartbeat of a loop of the application's own."""

from __future__ import annotations

import os
import threading

import pytest

from asgi_obs.errors import ConfigurationError
from asgi_obs.health import CheckResult
from asgi_obs.health.checks import Heartbeat


class Time:
    """A clock that stands still until it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def test_it_is_healthy_for_its_time_from_when_it_is_made(time) -> None:
    heartbeat = Heartbeat(max_age=60, clock=time)
    time.now = 160
    assert heartbeat() == CheckResult.healthy("last beat 60 s ago")


def test_without_a_beat_it_is_unhealthy(time) -> None:
    heartbeat = Heartbeat(max_age=60, clock=time)
    time.now = 161
    assert heartbeat() == CheckResult.unhealthy("no beat for 61 s")


def test_a_beat_of_any_thread_makes_it_healthy(time) -> None:
    heartbeat = Heartbeat(max_age=60, clock=time)
    time.now = 200
    thread = threading.Thread(target=heartbeat.beat)
    thread.start()
    thread.join(10)
    assert heartbeat() == CheckResult.healthy("last beat 0 s ago")


def test_in_another_process_the_time_begins_anew(time, monkeypatch) -> None:
    heartbeat = Heartbeat(max_age=60, clock=time)
    time.now = 1000
    child = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: child)
    assert heartbeat().status == "healthy"
    time.now = 1061
    assert heartbeat() == CheckResult.unhealthy("no beat for 61 s")


def test_it_has_a_clock_of_its_own() -> None:
    assert Heartbeat(max_age=3600)() == CheckResult.healthy("last beat 0 s ago")


def test_a_wrong_age_is_refused() -> None:
    with pytest.raises(ConfigurationError) as raised:
        Heartbeat(max_age=0)
    assert raised.value.option == "max_age"
