import os
import re
from types import SimpleNamespace

import psutil
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from asgi_obs.metrics.process import ProcessSampler, register_process_metrics
from asgi_obs.settings import Settings

SETTINGS = Settings(service_name="cortex", version="1.2.3", environment="testing")


class FakeClock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class FakeProcess:
    """A process that has used some CPU time; stands in for `psutil.Process`."""

    pid = os.getpid()
    cpu_seconds = 0.0
    age = 20.0

    def create_time(self) -> float:
        return 1_000_000.0 - self.age

    def cpu_times(self) -> SimpleNamespace:
        return SimpleNamespace(user=self.cpu_seconds * 0.75, system=self.cpu_seconds * 0.25)

    def memory_info(self) -> object:
        raise psutil.AccessDenied


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> FakeProcess:
    fake = FakeProcess()
    monkeypatch.setattr("asgi_obs.metrics.process.psutil.Process", lambda: fake)
    monkeypatch.setattr("asgi_obs.metrics.process.time.time", lambda: 1_000_000.0)
    return fake


def test_the_registry_shows_this_process_and_its_service(registry: CollectorRegistry) -> None:
    register_process_metrics(registry, settings=SETTINGS)
    text = generate_latest(registry).decode()
    assert 'service_info{environment="testing",name="cortex",version="1.2.3"} 1.0\n' in text
    cpu = re.search(r"^process_cpu_usage_percent (\S+)$", text, re.MULTILINE)
    memory = re.search(r"^process_memory_usage_bytes (\S+)$", text, re.MULTILINE)
    assert cpu is not None
    assert memory is not None
    assert float(cpu[1]) > 0
    assert float(memory[1]) > 1_000_000


def test_registering_again_names_the_service_anew(registry: CollectorRegistry) -> None:
    register_process_metrics(registry, settings=SETTINGS)
    register_process_metrics(registry, settings=Settings(service_name="cortex", version="1.2.4", environment="testing"))
    labels = {"environment": "testing", "name": "cortex"}
    assert registry.get_sample_value("service_info", {**labels, "version": "1.2.4"}) == 1.0
    assert registry.get_sample_value("service_info", {**labels, "version": "1.2.3"}) is None


def test_the_first_cpu_value_is_the_average_since_the_process_began(process: FakeProcess) -> None:
    process.cpu_seconds = 5.0
    assert ProcessSampler(FakeClock()).cpu_percent() == pytest.approx(25.0)


def test_a_process_that_has_just_begun_is_measured_over_a_second(process: FakeProcess) -> None:
    process.age = 0.01
    process.cpu_seconds = 0.5
    assert ProcessSampler(FakeClock()).cpu_percent() == pytest.approx(50.0)


def test_the_next_cpu_value_is_of_the_time_since_the_last_one(process: FakeProcess) -> None:
    clock = FakeClock()
    sampler = ProcessSampler(clock)
    sampler.cpu_percent()
    process.cpu_seconds = 3.0
    clock.now += 2.0
    assert sampler.cpu_percent() == pytest.approx(150.0)
    clock.now += 15.0
    assert sampler.cpu_percent() == 0.0


def test_a_scrape_that_comes_too_soon_gets_the_last_cpu_value(process: FakeProcess) -> None:
    clock = FakeClock()
    sampler = ProcessSampler(clock)
    process.cpu_seconds = 10.0
    sampler.cpu_percent()
    process.cpu_seconds = 10.9
    clock.now += 0.9
    assert sampler.cpu_percent() == pytest.approx(50.0)
    clock.now += 0.1
    assert sampler.cpu_percent() == pytest.approx(90.0)


def test_behind_a_fork_the_child_is_measured(process: FakeProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = ProcessSampler(FakeClock())
    process.cpu_seconds = 10.0
    sampler.cpu_percent()
    process.pid = 4_242
    process.cpu_seconds = 2.0
    monkeypatch.setattr("asgi_obs.metrics.process.os.getpid", lambda: 4_242)
    assert sampler.cpu_percent() == pytest.approx(10.0)


def test_what_cannot_be_read_does_not_fail_the_scrape(process: FakeProcess) -> None:
    assert ProcessSampler(FakeClock()).memory_bytes() == 0.0
