"""Rendering with rests, that changes nothing of the text."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from asgi_obs.ops.rendering import CHUNK, PATIENCE, REST, WORK, Pace, compress, render

SERIES = 1_000


class Time:
    """A clock that each look at it moves on by half of the time until the next rest; rests are kept."""

    def __init__(self, step: float = WORK / 2) -> None:
        self.now = 0.0
        self.step = step
        self.rests: list[float] = []

    def clock(self) -> float:
        self.now += self.step
        return self.now

    def rest(self, seconds: float) -> None:
        self.now += seconds
        self.rests.append(seconds)

    def pace(self) -> Pace:
        return Pace(self.clock, self.rest)


def registry_with_series() -> CollectorRegistry:
    registry = CollectorRegistry()
    stock = Gauge("stock", "Stock.", ["article"], registry=registry)
    for number in range(SERIES):
        stock.labels(f"article {number}").set(number)
    Counter("orders_total", "Orders.", registry=registry).inc()
    return registry


def test_the_text_is_that_of_the_encoder() -> None:
    registry = registry_with_series()
    assert render(registry, generate_latest, Pace()) == generate_latest(registry)


def test_it_rests_within_a_family() -> None:
    time = Time()
    render(registry_with_series(), generate_latest, time.pace())
    assert SERIES / 3 < len(time.rests) < SERIES
    assert set(time.rests) == {REST}


def test_it_does_not_rest_before_it_has_worked() -> None:
    time = Time(step=WORK / SERIES / 10)
    render(registry_with_series(), generate_latest, time.pace())
    assert time.rests == []


def test_after_two_seconds_it_makes_haste() -> None:
    time = Time()
    pace = time.pace()
    time.now = PATIENCE + WORK
    render(registry_with_series(), generate_latest, pace)
    assert time.rests == []


def test_the_families_of_a_collector_stay_as_they_are() -> None:
    kept = GaugeMetricFamily("kept", "Kept.", labels=["a"])
    kept.add_metric(["x"], 1)

    class Keeping:
        def describe(self) -> list[Metric]:
            return []

        def collect(self) -> list[Metric]:
            return [kept]

    registry = CollectorRegistry()
    collector: Any = Keeping()
    registry.register(collector)
    assert render(registry, generate_latest, Pace()) == render(registry, generate_latest, Pace())
    assert [sample.value for sample in kept.samples] == [1]


@pytest.mark.parametrize("size", [0, 1, CHUNK, 3 * CHUNK + 1])
def test_what_was_compressed_is_gzip_of_the_same(size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    assert gzip.decompress(compress(data, Pace())) == data


def test_compressing_rests_too() -> None:
    time = Time(step=WORK)
    compress(bytes(10 * CHUNK), time.pace())
    assert time.rests == 10 * [REST]
