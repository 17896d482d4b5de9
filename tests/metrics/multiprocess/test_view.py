from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import (
    GC_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    Summary,
    generate_latest,
)
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from prometheus_client.values import MultiProcessValue

from asgi_obs.metrics.catalogue import SHIPPED, Metric, create
from asgi_obs.metrics.multiprocess.directory import exclusive
from asgi_obs.metrics.multiprocess.series import encode
from asgi_obs.metrics.multiprocess.view import MultiprocessView
from tests.metrics.multiprocess.conftest import Worker
from tests.metrics.multiprocess.files import COUNTER, leave, start

Hire = Callable[..., Worker]


def internal_errors() -> float:
    """The errors of reading that were reported in this process so far."""
    registry = CollectorRegistry()
    create("asgi_obs_internal_errors_total", registry)
    value = registry.get_sample_value("asgi_obs_internal_errors_total", {"component": "MultiprocessView.collect"})
    return value or 0.0


def move(metric: Metric, registry: CollectorRegistry, times: int) -> None:
    collector = create(metric.name, registry)
    if metric.type == "info":
        collector.info({label: label for label in metric.labels})
        return
    child = collector.labels(*metric.labels) if metric.labels else collector
    for _ in range(times):
        if metric.type == "histogram":
            child.observe(0.3)
        elif metric.mode in {"livesum"}:
            child.inc()
        else:
            child.set(times)


def without_creation(text: str) -> list[str]:
    return [line for line in text.splitlines() if "_created" not in line]


@pytest.mark.parametrize("encode_all", [generate_latest, generate_openmetrics])
@pytest.mark.parametrize("metric", [m for m in SHIPPED.values() if not m.process_wide], ids=lambda m: m.name)
def test_two_workers_look_like_one_that_has_done_the_work_of_both(
    metric: Metric, encode_all: Callable[..., bytes], hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = CollectorRegistry()
    counts = metric.type != "gauge" or metric.mode == "livesum"
    move(metric, alone, 3 if counts else 2)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "set")
    workers = [hire(), hire()]
    for worker, times in zip(workers, (1, 2), strict=True):
        with worker:
            move(metric, worker.registry, times if counts else 2)
    expected = without_creation(encode_all(alone).decode())
    for worker in workers:
        assert without_creation(encode_all(worker.view).decode()) == expected


@pytest.mark.parametrize(
    ("mode", "both", "one"),
    [
        ("sum", 12.0, 12.0),
        ("min", 5.0, 5.0),
        ("max", 7.0, 7.0),
        ("mostrecent", 5.0, 5.0),
        ("livesum", 12.0, 7.0),
        ("livemin", 5.0, 7.0),
        ("livemax", 7.0, 7.0),
        ("livemostrecent", 5.0, 7.0),
    ],
)
def test_a_gauge_shows_what_its_mode_says(mode: str, both: float, one: float, hire: Hire) -> None:
    workers = [hire(), hire(), hire()]
    gauges = []
    for worker in workers:
        with worker:
            gauges.append(Gauge("busy", "Busy.", registry=worker.registry, multiprocess_mode=mode))
    with workers[0]:
        gauges[0].set(7)
    with workers[1]:
        gauges[1].set(5)
    assert [worker.scrape("busy") for worker in workers] == [{"busy": both}] * 3
    workers[1].die()
    assert workers[0].scrape("busy") == {"busy": one}


@pytest.mark.parametrize("mode", ["all", "liveall"])
def test_a_gauge_of_each_process_has_its_pid_and_ends_with_it(mode: str, hire: Hire) -> None:
    worker = hire()
    with worker:
        gauge = Gauge("busy", "Busy.", registry=worker.registry, multiprocess_mode=mode)
        assert worker.scrape("busy") == {"busy": 0.0}
    key = encode("gauge", mode, "busy", "busy")
    with closing(start(worker.store.path, 1, {key: 1.0})), closing(start(worker.store.path, 2, {key: 2.0})):
        assert worker.scrape("busy") == {'busy{pid="1"}': 1.0, 'busy{pid="2"}': 2.0}
        with worker:
            gauge.set(3)
        assert sorted(worker.scrape("busy").values()) == [1.0, 2.0, 3.0]
    assert list(worker.scrape("busy").values()) == [3.0]


def test_totals_never_fall_when_workers_end(hire: Hire) -> None:
    scraped = hire()
    for number in range(1, 6):
        worker = hire()
        with worker:
            counter = Counter("jobs", "Jobs.", ["kind"], registry=worker.registry)
            histogram = Histogram("took", "Time.", registry=worker.registry, buckets=[1.0])
            summary = Summary("size", "Size.", registry=worker.registry)
            counter.labels("mail").inc()
            histogram.observe(0.5)
            summary.observe(10)
        expected = {
            'jobs_total{kind="mail"}': number,
            'took_bucket{le="1.0"}': number,
            'took_bucket{le="+Inf"}': number,
            "took_count": number,
            "took_sum": number / 2,
            "size_count": number,
            "size_sum": 10 * number,
        }
        for _ in range(2):
            assert scraped.scrape("jobs", "took", "size") == expected
            worker.die()


def test_a_worker_counts_on_behind_a_fork(hire: Hire) -> None:
    worker = hire()
    with worker:
        counter = Counter("jobs", "Jobs.", registry=worker.registry)
        counter.inc(5)
        worker.die()  # what a fork does to the child
        counter.inc(1)
    assert worker.scrape("jobs") == {"jobs_total": 6.0}


def test_what_is_in_no_file_is_that_of_the_worker_that_is_asked(hire: Hire) -> None:
    workers = [hire(), hire()]
    for name, worker in zip("ab", workers, strict=True):
        with worker:
            Info("build", "Which build.", registry=worker.registry).info({"name": name})
            Gauge("queue", "Queue.", registry=worker.registry).set_function(lambda name=name: ord(name))
    assert workers[0].scrape("build", "queue") == {'build_info{name="a"}': 1.0, "queue": 97.0}
    assert workers[1].scrape("build", "queue") == {'build_info{name="b"}': 1.0, "queue": 98.0}


def test_what_prometheus_client_tells_of_one_process_is_left_out(hire: Hire) -> None:
    worker = hire()
    for collector in (PROCESS_COLLECTOR, GC_COLLECTOR):
        worker.registry.register(collector)
    assert worker.registry.get_sample_value("process_start_time_seconds") is not None
    assert worker.scrape("") == {}


def test_a_gauge_that_nobody_has_set_is_shown_beside_one_that_was(hire: Hire) -> None:
    workers = [hire(), hire()]
    for worker, kind in zip(workers, ("mail", "print"), strict=True):
        with worker:
            gauge = Gauge("busy", "Busy.", ["kind"], registry=worker.registry, multiprocess_mode="livesum")
            gauge.labels(kind)
    with workers[1]:
        gauge.labels(kind).set(2)
    assert workers[0].scrape("busy") == {'busy{kind="mail"}': 0.0, 'busy{kind="print"}': 2.0}
    assert workers[1].scrape("busy") == {'busy{kind="print"}': 2.0}


def test_what_only_others_have_comes_last(hire: Hire) -> None:
    asked, other = hire(), hire()
    with asked:
        Counter("own", "Own.", registry=asked.registry)
    with other:
        for name in ("own", "b", "a"):
            Counter(name, f"Help of {name}.", registry=other.registry)
    families = [(family.name, family.documentation) for family in asked.view.collect()]
    assert families == [("own", "Own."), ("a", "Help of a."), ("b", "Help of b.")]


def test_only_the_samples_of_some_names_are_shown_where_asked_for(hire: Hire) -> None:
    worker = hire()
    with worker:
        Counter("jobs", "Jobs.", registry=worker.registry).inc()
        Counter("others", "Others.", registry=worker.registry).inc()
        Histogram("took", "Time.", registry=worker.registry, buckets=[1.0]).observe(0.5)
    restricted = worker.view.restricted_registry(["jobs_total", "took_sum"])
    samples = {sample.name: sample.value for family in restricted.collect() for sample in family.samples}
    assert samples == {"jobs_total": 1.0, "took_sum": 0.5}


def test_labels_and_types_that_have_changed_leave_a_text_that_can_be_read(hire: Hire) -> None:
    old, new = hire(), hire()
    with old:
        Counter("jobs", "Old.", ["kind"], registry=old.registry).labels("mail").inc(5)
        Gauge("took", "Old.", registry=old.registry, multiprocess_mode="sum").set(5)
        Histogram("size", "Old.", registry=old.registry, buckets=[1.0, 3.0]).observe(2)
    old.die()
    with new:
        Counter("jobs", "New.", ["kind", "tier"], registry=new.registry).labels("mail", "gold").inc(1)
        Histogram("took", "New.", registry=new.registry, buckets=[1.0]).observe(0.5)
        Histogram("size", "New.", registry=new.registry, buckets=[2.5]).observe(2)
    text = generate_openmetrics(new.view).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {name: (family.type, family.documentation) for name, family in families.items()} == {
        "jobs": ("counter", "New."),
        "took": ("histogram", "New."),
        "size": ("histogram", "New."),
    }
    assert [sample.value for sample in families["jobs"].samples] == [1.0, 5.0]
    counts = [int(sample.value) for sample in families["size"].samples if sample.name == "size_bucket"]
    assert counts == [0, 1, 2, 2]


def test_metrics_that_were_made_before_keep_the_files_of_prometheus_client_and_are_shown(
    hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = [hire(), hire()]
    counters = []
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(workers[0].store.path))
    for pid, worker in enumerate(workers):
        worker._class = MultiProcessValue(lambda pid=pid: pid)  # type: ignore[assignment,misc]
        with worker:
            counters.append(Counter("early", "Early.", registry=worker.registry))
            counters[-1].inc(pid + 1)
            Counter(f"only_{pid}", "Only here.", registry=worker.registry)
    expected = {"early_total": 3.0, "only_0_total": 0.0, "only_1_total": 0.0}
    assert [worker.scrape("early", "only") for worker in workers] == [expected] * 2
    for counter in counters:
        counter._value._file.close()  # type: ignore[attr-defined]


def test_a_damaged_file_is_reported_and_keeps_nothing_else_from_being_shown(hire: Hire) -> None:
    worker = hire()
    with worker:
        Counter("jobs", "Jobs.", registry=worker.registry).inc()
    before = internal_errors()
    with closing(start(worker.store.path, 1, {"no key": 1.0})):
        assert worker.scrape("jobs") == {"jobs_total": 1.0}
    assert internal_errors() == before + 1
    assert worker.scrape("jobs") == {"jobs_total": 1.0}
    assert internal_errors() == before + 2  # now it is set aside
    assert worker.scrape("jobs") == {"jobs_total": 1.0}
    assert internal_errors() == before + 2


def test_a_directory_that_somebody_has_locked_for_long_fails_the_scrape(
    hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = hire()
    monkeypatch.setattr("asgi_obs.metrics.multiprocess.store.PATIENCE", 0.01)
    with exclusive(worker.store.path, 20), pytest.raises(TimeoutError, match="another process has had"):
        generate_latest(worker.view)


def test_what_others_count_is_seen_though_this_process_has_counted_nothing(hire: Hire) -> None:
    worker = hire()
    with closing(start(worker.store.path, 1, {COUNTER: 1.0})):
        assert worker.scrape("jobs") == {'jobs_total{kind="mail"}': 1.0}


def paused(worker: Worker) -> list[bool]:
    """Scrape a worker; whether others could have had the directory, for each pause that was made."""
    free: list[bool] = []

    def pause() -> None:
        with exclusive(worker.store.path, 0):
            free.append(True)

    generate_latest(MultiprocessView(worker.registry, worker.store, pause))
    return free


@pytest.mark.parametrize("mode", ["all", "sum"])
def test_it_pauses_for_every_series_while_nobody_waits_for_the_directory(mode: str, hire: Hire, tmp_path: Path) -> None:
    worker = hire()
    leave(tmp_path, 1, {COUNTER: 1.0})
    with worker:
        gauge = Gauge("stock", "Stock.", ["article"], registry=worker.registry, multiprocess_mode=mode)
        for number in range(100):
            gauge.labels(str(number)).set(number)
    # Reading it, and telling its family; each gauge that may be missing in the files is looked up besides.
    assert len(paused(worker)) >= (200 if mode == "all" else 300)


def test_it_pauses_for_samples_that_are_left_out(hire: Hire) -> None:
    worker = hire()
    with worker:
        Counter("jobs", "Jobs.", registry=worker.registry).inc()
    pauses: list[None] = []
    view = MultiprocessView(worker.registry, worker.store, lambda: pauses.append(None))
    families = list(view.restricted_registry(["jobs_created"]).collect())
    assert families == []
    assert len(pauses) >= 2


def test_samples_are_made_when_they_are_asked_for(hire: Hire) -> None:
    worker = hire()
    with worker:
        Counter("jobs", "Jobs.", ["kind"], registry=worker.registry).labels("mail").inc()
    (family,) = worker.view.collect()
    assert [list(family.samples), list(family.samples)] == [[Sample("jobs_total", {"kind": "mail"}, 1.0)], []]


def test_files_of_prometheus_client_from_before_hide_nothing(
    hire: Hire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr("prometheus_client.values.ValueClass", MultiProcessValue(lambda: 4711))
    Counter("orders", "Orders.", ["handler"], registry=None).labels("/old").inc(7)
    worker = hire()
    with worker:
        Counter("orders", "Orders.", registry=worker.registry).inc(5)

    assert [worker.scrape("orders_total"), worker.scrape("orders_total")] == [{"orders_total": 5.0}] * 2
    assert caplog.text.count("have a metric orders too, from before: it is not shown") == 1


def test_a_damaged_file_of_prometheus_client_is_reported_and_hides_nothing(hire: Hire, tmp_path: Path) -> None:
    (tmp_path / "counter_4711.db").touch()
    worker = hire()
    with worker:
        Counter("orders", "Orders.", registry=worker.registry).inc()
    before = internal_errors()

    assert worker.scrape("orders_total") == {"orders_total": 1.0}
    assert internal_errors() == before + 1


def test_a_label_that_is_no_text_is_shown_once_with_what_can_be_written(hire: Hire) -> None:
    workers = [hire(), hire()]
    for worker in workers:
        with worker:
            gauge = Gauge("depth", "Depth.", ["queue"], registry=worker.registry, multiprocess_mode="livesum")
            gauge.labels("a\ud800b").set(1)
    with workers[0]:
        Gauge("other", "Other.", ["queue"], registry=workers[0].registry, multiprocess_mode="livesum").labels("\ud800")
    with workers[1]:
        other = Gauge("other", "Other.", ["queue"], registry=workers[1].registry, multiprocess_mode="livesum")
        other.labels("x").set(2)

    expected = {'depth{queue="a?b"}': 2.0, 'other{queue="?"}': 0.0, 'other{queue="x"}': 2.0}
    assert workers[0].scrape("depth", "other") == expected
