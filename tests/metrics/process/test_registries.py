"""The registries that show the process."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from weakref import ref

import pytest
from prometheus_client import CollectorRegistry, Gauge

from asgi_obs.metrics.process.registries import Registries

MEMORY, LAG = "process_memory_usage_bytes", "event_loop_lag_seconds"


def test_every_registry_shows_the_values(registry: CollectorRegistry) -> None:
    registries, other = Registries(), CollectorRegistry()
    registries.add(registry)
    registries.add(other)
    registries.publish({MEMORY: 5.0, LAG: 0.5}, [])
    registries.publish({MEMORY: 6.0}, [])

    assert [each.get_sample_value(name) for each in (registry, other) for name in (MEMORY, LAG)] == [6.0, 0.5, 6.0, 0.5]


def test_what_has_no_value_is_not_shown(registry: CollectorRegistry) -> None:
    registries = Registries()
    registries.add(registry)
    registries.publish({MEMORY: 5.0}, [])

    assert registry.get_sample_value(LAG) is None


def test_pauses_are_observed_by_generation(
    registry: CollectorRegistry, samples: Callable[..., dict[str, float]]
) -> None:
    registries = Registries()
    registries.add(registry)
    registries.publish({}, [(0, 0.25), (2, 0.5), (0, 0.25)])

    assert samples("gc_pause_seconds") == {
        'gc_pause_seconds_count{generation="0"}': 2.0,
        'gc_pause_seconds_sum{generation="0"}': 0.5,
        'gc_pause_seconds_count{generation="2"}': 1.0,
        'gc_pause_seconds_sum{generation="2"}': 0.5,
    }


def test_a_registry_is_complete_with_its_first_values(registry: CollectorRegistry) -> None:
    registries = Registries()
    states = [registries.complete]
    registries.add(registry)
    states.append(registries.complete)
    registries.publish({}, [])
    states.append(registries.complete)

    assert states == [True, False, True]


def test_a_registry_is_not_kept_alive() -> None:
    registries, registry = Registries(), CollectorRegistry()
    registries.add(registry)
    registries.publish({MEMORY: 5.0}, [])
    left = ref(registry)
    del registry
    gc.collect()

    assert left() is None


def test_a_metric_of_another_library_is_reported_and_left_alone(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_obs.errors._last_logged", {})
    registries, registry = Registries(), CollectorRegistry()
    Gauge(MEMORY, "Theirs.", registry=registry).set(1)
    registries.add(registry)
    with caplog.at_level(logging.ERROR, "asgi_obs"):
        registries.publish({MEMORY: 5.0, LAG: 0.5}, [])

    assert [registry.get_sample_value(name) for name in (MEMORY, LAG)] == [1.0, 0.5]
    assert caplog.messages == [f"Registries.{MEMORY} failed; requests are not affected"]


def test_behind_a_fork_no_lock_is_held() -> None:
    registries, registry = Registries(), CollectorRegistry()
    registries.add(registry)
    with registries._lock:
        registries.after_fork()
        registries.publish({MEMORY: 5.0}, [])

    assert registry.get_sample_value(MEMORY) == 5.0
