"""What the operating system says of the process."""

from __future__ import annotations

import logging
import os
import resource
from types import SimpleNamespace

import psutil
import pytest

from asgi_obs import errors
from asgi_obs.metrics.process.sampler import ProcessSampler
from tests.metrics.process.event_loops import FakeClock

CPU, MEMORY = "process_cpu_usage_percent", "process_memory_usage_bytes"
OPEN, MOST = "process_open_file_descriptors", "process_max_file_descriptors"


class FakeProcess:
    """A process that has used some CPU time; stands in for `psutil.Process`."""

    cpu_seconds = 0.0
    age = 20.0
    rss: int | None = 5_000_000

    def create_time(self) -> float:
        return 1_000_000.0 - self.age

    def cpu_times(self) -> SimpleNamespace:
        return SimpleNamespace(user=self.cpu_seconds * 0.75, system=self.cpu_seconds * 0.25)

    def memory_info(self) -> SimpleNamespace:
        if self.rss is None:
            raise psutil.AccessDenied
        return SimpleNamespace(rss=self.rss)

    def num_fds(self) -> int:
        return 7


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> FakeProcess:
    fake = FakeProcess()
    monkeypatch.setattr("asgi_obs.metrics.process.sampler.psutil.Process", lambda: fake)
    monkeypatch.setattr("asgi_obs.metrics.process.sampler.time.time", lambda: 1_000_000.0)
    monkeypatch.setattr(errors, "_last_logged", {})
    return fake


def test_it_reads_this_process() -> None:
    values = ProcessSampler().read()

    assert values.keys() == {CPU, MEMORY, OPEN, MOST}
    assert values[CPU] > 0
    assert values[MEMORY] > 1_000_000
    assert 0 < values[OPEN] <= values[MOST]


def test_a_file_that_is_opened_counts() -> None:
    sampler = ProcessSampler()
    before = sampler.read()[OPEN]
    reader, writer = os.pipe()

    during = sampler.read()[OPEN]
    os.close(reader)
    os.close(writer)

    assert during == before + 2


@pytest.mark.parametrize(("limit", "expected"), [(1024, 1024.0), (resource.RLIM_INFINITY, float("inf"))])
def test_the_limit_of_open_files_is_the_one_in_force(
    monkeypatch: pytest.MonkeyPatch, limit: int, expected: float
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, 4096))

    assert ProcessSampler().read()[MOST] == expected


def test_the_first_cpu_value_is_the_average_since_the_process_began(process: FakeProcess) -> None:
    process.cpu_seconds = 5.0

    assert ProcessSampler(FakeClock()).read()[CPU] == pytest.approx(25.0)


def test_a_process_that_has_just_begun_is_measured_over_a_second(process: FakeProcess) -> None:
    process.age = 0.01
    process.cpu_seconds = 0.5

    assert ProcessSampler(FakeClock()).read()[CPU] == pytest.approx(50.0)


def test_the_next_cpu_value_is_of_the_time_since_the_last_one(process: FakeProcess) -> None:
    clock = FakeClock()
    sampler = ProcessSampler(clock)
    sampler.read()
    process.cpu_seconds = 3.0
    clock.now += 2.0
    assert sampler.read()[CPU] == pytest.approx(150.0)
    clock.now += 15.0
    assert sampler.read()[CPU] == 0.0


def test_a_reading_that_comes_too_soon_has_the_last_cpu_value(process: FakeProcess) -> None:
    clock = FakeClock()
    sampler = ProcessSampler(clock)
    process.cpu_seconds = 10.0
    sampler.read()
    process.cpu_seconds = 10.9
    clock.now += 0.9
    assert sampler.read()[CPU] == pytest.approx(50.0)
    clock.now += 0.1
    assert sampler.read()[CPU] == pytest.approx(90.0)


def test_behind_a_fork_the_child_is_measured(process: FakeProcess) -> None:
    sampler = ProcessSampler(FakeClock())
    process.cpu_seconds = 10.0
    sampler.read()

    sampler.after_fork()
    process.cpu_seconds = 2.0

    assert sampler.read()[CPU] == pytest.approx(10.0)


def test_what_cannot_be_read_is_left_out_and_reported_when_that_begins(
    process: FakeProcess, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "REPORT_INTERVAL", 0.0)
    sampler = ProcessSampler(FakeClock())
    shown = []
    with caplog.at_level(logging.ERROR, "asgi_obs"):
        for rss in (None, None, 5_000_000, None):
            process.rss = rss
            shown.append(sampler.read().get(MEMORY))

    assert shown == [None, None, 5_000_000, None]
    assert caplog.messages == [f"ProcessSampler.{MEMORY} failed; requests are not affected"] * 2
