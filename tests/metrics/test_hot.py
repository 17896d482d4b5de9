import sys
import threading
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from asgi_obs.metrics.hot import HotCounter, HotGauge, HotHistogram, is_safe

TRACE = {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def both() -> tuple[CollectorRegistry, CollectorRegistry]:
    """The same metrics with the same values: ours and those of prometheus_client."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    our_counter = HotCounter("body_bytes_total", "Bytes.", ("a", "b"), "bytes")
    our_histogram = HotHistogram("t_seconds", "Time.", ("a",), "seconds", (0.1, 1.0))
    our_gauge = HotGauge("active", "Now.", "")
    for metric in (our_counter, our_histogram, our_gauge):
        ours.register(metric)
    counters = (our_counter, Counter("body_bytes_total", "Bytes.", ("a", "b"), unit="bytes", registry=theirs))
    histograms = (
        our_histogram,
        Histogram("t_seconds", "Time.", ("a",), unit="seconds", buckets=(0.1, 1.0), registry=theirs),
    )
    gauges = (our_gauge, Gauge("active", "Now.", registry=theirs))
    for counter in counters:
        counter.labels("x", 'quoted "y"\n').inc(3)
        counter.labels("x", 'quoted "y"\n').inc()
        counter.labels("z", "").inc(0.5)
    for histogram in histograms:
        for seconds in (0.0, 0.1, 0.5, 1.0, 7.0):
            histogram.labels("x").observe(seconds)
    for gauge in gauges:
        gauge.set(5)
        gauge.inc()
        gauge.inc()
        gauge.dec()
    return ours, theirs


def without_created(text: bytes) -> list[str]:
    return [line for line in text.decode().splitlines() if "_created" not in line]


def test_the_exposition_is_that_of_prometheus_client_without_its_creation_times() -> None:
    ours, theirs = both()
    assert generate_latest(ours).decode().splitlines() == without_created(generate_latest(theirs))
    assert generate_openmetrics(ours).decode().splitlines() == without_created(generate_openmetrics(theirs))


def test_names_that_prometheus_client_reserves_are_reserved() -> None:
    ours, _ = both()
    for name in ("body_bytes_total", "t_seconds_bucket", "active"):
        with pytest.raises(ValueError, match="Duplicated"):
            Gauge(name, "Another.", registry=ours)


def test_a_restricted_registry_shows_what_was_asked_for() -> None:
    ours, _ = both()
    text = generate_latest(ours.restricted_registry(["t_seconds_count"])).decode()  # type: ignore[arg-type]
    assert [line for line in text.splitlines() if not line.startswith("#")] == ['t_seconds_count{a="x"} 5.0']


def test_the_last_exemplar_of_a_counter_and_of_each_bucket_is_kept() -> None:
    registry = CollectorRegistry()
    counter = HotCounter("n_total", "N.", ("a",), "")
    histogram = HotHistogram("t_seconds", "Time.", ("a",), "seconds", (0.1, 1.0))
    registry.register(counter)
    registry.register(histogram)
    counter.labels("x").inc(1, TRACE)
    histogram.labels("x").observe(0.5, TRACE)
    lines = generate_openmetrics(registry).decode().splitlines()
    marked = {line.split(" ")[0] for line in lines if '# {trace_id="4bf92f3577b34da6a3ce929d0e0e4736"}' in line}
    assert marked == {'n_total{a="x"}', 't_seconds_bucket{a="x",le="1.0"}'}


@pytest.mark.usefixtures("hasty_threads")
def test_nothing_is_lost_between_threads() -> None:
    counter = HotCounter("n_total", "N.", ("a",), "")
    histogram = HotHistogram("t_seconds", "Time.", ("a",), "seconds", (0.1, 1.0))
    gauge = HotGauge("active", "Now.", "")
    rounds, threads = 5_000, 8
    together = threading.Barrier(threads)

    def work() -> None:
        child, times = counter.labels("x"), histogram.labels("x")
        together.wait()
        for _ in range(rounds):
            child.inc()
            times.observe(0.5)
            gauge.inc()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    (counted,), (observed,), (active,) = counter.collect(), histogram.collect(), gauge.collect()
    assert counted.samples[0].value == rounds * threads
    assert [sample.value for sample in observed.samples] == [0, 40_000, 40_000, 40_000, 20_000.0]
    assert active.samples[0].value == rounds * threads


def test_it_is_safe_with_the_gil_and_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)
    assert is_safe()


def test_before_the_gil_could_be_switched_off_it_is_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys, "_is_gil_enabled", raising=False)
    assert is_safe()


def test_it_is_not_safe_without_the_gil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert not is_safe()


@pytest.mark.parametrize("variable", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
def test_it_is_not_safe_in_multiprocess_mode(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "/anywhere")
    assert not is_safe()


def test_collected_lazily_it_is_the_same() -> None:
    ours, _ = both()
    for collector in (our for our in ours._collector_to_names if hasattr(our, "collect_lazily")):
        (whole,), (lazy,) = collector.collect(), collector.collect_lazily()
        lazy.samples = list(lazy.samples)
        assert lazy == whole
        assert len(whole.samples) > 1


def test_collected_lazily_a_child_is_read_when_it_is_asked_for() -> None:
    counter = HotCounter("n_total", "N.", ("a",), "")
    for value in ("x", "y"):
        counter.labels(value).inc()
    (family,) = counter.collect_lazily()
    samples = iter(family.samples)
    next(samples)
    counter.labels("y").inc()
    assert next(samples).value == 2
