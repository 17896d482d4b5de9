"""The same families and samples as `collect()`, read one after another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.samples import Sample

from asgi_obs.metrics.streaming import stream

numbers = st.floats(min_value=0, allow_nan=False, allow_infinity=False) | st.sampled_from([0, 1, 10**9, math.inf])
any_numbers = numbers | st.floats() | st.just(math.nan)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(['"', "\\", "\n", "é", ""])
children = st.lists(st.tuples(texts, texts), max_size=4)
units = st.sampled_from(["", "seconds"])


class Collected:
    """The families of a registry in lists, for an encoder."""

    def __init__(self, families: Iterator[Metric]) -> None:
        self.families = list(families)
        for family in self.families:
            family.samples = list(family.samples)

    def collect(self) -> list[Metric]:
        return self.families


def of(collector: Any) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def counters(draw: st.DrawFn, registry: CollectorRegistry) -> None:
    metric = Counter("c_total", draw(texts), ["a", "b"], unit=draw(units), registry=registry)
    for labels in draw(children):
        metric.labels(*labels).inc(draw(numbers), draw(st.none() | st.just({"trace_id": "1"})))


def gauges(draw: st.DrawFn, registry: CollectorRegistry) -> None:
    metric = Gauge("g", draw(texts), ["a", "b"], unit=draw(units), registry=registry)
    for labels in draw(children):
        metric.labels(*labels).set(draw(any_numbers))
    Gauge("f", draw(texts), registry=registry).set_function(lambda: 7)


def histograms(draw: st.DrawFn, registry: CollectorRegistry) -> None:
    metric = Histogram("h", draw(texts), ["a", "b"], unit=draw(units), registry=registry, buckets=(-1, 0.5, 1e7))
    for labels in draw(children):
        metric.labels(*labels).observe(draw(any_numbers), draw(st.none() | st.just({"trace_id": "1"})))
    Histogram("i", draw(texts), registry=registry).observe(draw(numbers))


def others(draw: st.DrawFn, registry: CollectorRegistry) -> None:
    Summary("s", draw(texts), unit=draw(units), registry=registry).observe(draw(any_numbers))
    Info("built", draw(texts), registry=registry).info({"version": draw(texts)})
    Enum("state", draw(texts), ["a"], states=["on", "off"], registry=registry).labels(draw(texts)).state("off")
    if draw(st.booleans()):
        registry.set_target_info({"name": draw(texts)})


@st.composite
def registries(draw: st.DrawFn) -> CollectorRegistry:
    registry = CollectorRegistry()
    kinds: list[Callable[[st.DrawFn, CollectorRegistry], None]] = [counters, gauges, histograms, others]
    for make in draw(st.permutations(kinds)):
        make(draw, registry)
    return registry


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(registries())
def test_the_text_is_that_of_collect(registry: CollectorRegistry) -> None:
    streamed: Any = Collected(stream(registry))
    assert generate_latest(streamed) == generate_latest(registry)
    assert generate_openmetrics(streamed) == generate_openmetrics(registry)


def test_a_sample_is_read_when_it_is_asked_for() -> None:
    gauge = Gauge("stock", "Stock.", ["shop"], registry=None)
    for shop in ("north", "south"):
        gauge.labels(shop).set(1)
    (family,) = stream(of(gauge))
    samples = iter(family.samples)
    assert next(samples).value == 1
    gauge.labels("south").set(2)
    assert next(samples) == Sample("stock", {"shop": "south"}, 2)


def test_what_comes_and_goes_meanwhile_breaks_nothing() -> None:
    gauge = Gauge("stock", "Stock.", ["shop"], registry=None)
    for shop in ("north", "south"):
        gauge.labels(shop).set(1)
    (family,) = stream(of(gauge))
    samples = iter(family.samples)
    first = next(samples)
    gauge.clear()
    gauge.labels("east").set(3)
    assert [sample.labels["shop"] for sample in (first, *samples)] == ["north", "south"]


def test_a_histogram_is_read_as_a_whole() -> None:
    histogram = Histogram("wait", "Waiting.", buckets=(1,), registry=None)
    (family,) = stream(of(histogram))
    samples = iter(family.samples)
    first = next(samples)
    histogram.observe(0.5)
    values = {sample.name: sample.value for sample in (first, *samples)}
    assert (values["wait_bucket"], values["wait_count"], values["wait_sum"]) == (0, 0, 0)


def test_a_collector_may_be_lazy_itself() -> None:
    class Lazy:
        def describe(self) -> list[Metric]:
            return []

        def collect_lazily(self) -> list[Any]:
            family: Any = Metric("lazy", "Lazy.", "gauge")
            family.samples = (Sample("lazy", {}, number) for number in range(3))
            return [family]

    (family,) = stream(of(Lazy()))
    assert [sample.value for sample in family.samples] == [0, 1, 2]


def test_another_collector_has_ended_before_its_first_family_is_used() -> None:
    held = []

    class Locked:
        def describe(self) -> list[Metric]:
            return []

        def collect(self) -> Iterator[Metric]:
            held.append("lock")
            yield Metric("one", "One.", "gauge")
            yield Metric("two", "Two.", "gauge")
            held.remove("lock")

    families = stream(of(Locked()))
    assert next(families).name == "one"
    assert held == []
    assert [family.name for family in families] == ["two"]


def test_a_metric_that_collects_by_itself_is_asked() -> None:
    class Doubled(Gauge):
        def collect(self) -> list[Metric]:
            (family,) = super().collect()
            family.samples *= 2
            return [family]

    (family,) = stream(of(Doubled("stock", "Stock.", registry=None)))
    assert len(list(family.samples)) == 2


def test_without_what_is_not_public_all_is_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    family = Metric("stock", "Stock.", "gauge")
    monkeypatch.setattr(MetricWrapperBase, "collect", lambda metric: [family])
    monkeypatch.delattr(MetricWrapperBase, "_samples")
    assert list(stream(of(Gauge("stock", "Stock.", registry=None)))) == [family]


def test_a_registry_that_collects_by_itself_is_asked() -> None:
    class Own(CollectorRegistry):
        def collect(self) -> list[Metric]:
            return [Metric("own", "Own.", "gauge")]

    registry = Own()
    Gauge("stock", "Stock.", registry=registry)
    assert [family.name for family in stream(registry)] == ["own"]


def test_a_restricted_registry_is_asked() -> None:
    registry = CollectorRegistry()
    for name in ("stock", "other"):
        Gauge(name, "Some.", registry=registry)
    assert [family.name for family in stream(registry.restricted_registry(["stock"]))] == ["stock"]
