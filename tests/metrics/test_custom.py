from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Counter as ForeignCounter
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from asgi_obs import errors
from asgi_obs.errors import ConfigurationError
from asgi_obs.metrics.catalogue import CATALOGUE, SHIPPED, Metric, process_wide
from asgi_obs.metrics.custom import Counter, Gauge, Histogram
from tests.metrics.multiprocess.conftest import Worker

Samples = Callable[..., dict[str, float]]


pytestmark = pytest.mark.usefixtures("only_shipped")


@pytest.fixture
def logins(registry: CollectorRegistry) -> Counter:
    return Counter("user_logins_total", "Logins of users.", ["auth_method", "tier"], registry=registry)


def test_a_counter_counts_by_its_labels(logins: Counter, samples: Samples) -> None:
    logins.labels("password", "free").inc()
    logins.labels(tier="free", auth_method="password").inc(2)
    logins.labels("token", "paid").inc(0.5)

    assert samples("user_logins") == {
        'user_logins_total{auth_method="password",tier="free"}': 3.0,
        'user_logins_total{auth_method="token",tier="paid"}': 0.5,
    }


def test_what_has_no_labels_moves_directly_and_is_there_from_the_start(
    registry: CollectorRegistry, samples: Samples
) -> None:
    messages = Counter("messages_total", "Messages.", registry=registry)
    active = Gauge("active_users", "Users.", registry=registry)
    waited = Histogram("waited_seconds", "Waited.", unit="seconds", registry=registry)
    assert samples("messages", "active", "waited") == {
        "messages_total": 0.0,
        "active_users": 0.0,
        "waited_seconds_count": 0.0,
        "waited_seconds_sum": 0.0,
    }

    messages.inc()
    active.set(5)
    active.inc(2)
    active.dec()
    waited.observe(0.5)

    assert samples("messages", "active", "waited") == {
        "messages_total": 1.0,
        "active_users": 6.0,
        "waited_seconds_count": 1.0,
        "waited_seconds_sum": 0.5,
    }


def test_a_gauge_has_labels_too(registry: CollectorRegistry, samples: Samples) -> None:
    workspaces = Gauge("workspaces_total", "Workspaces.", ["status"], registry=registry)
    workspaces.labels("active").set(3)
    workspaces.labels("active").dec(2)
    workspaces.labels("archived").inc()

    assert samples("workspaces") == {
        'workspaces_total{status="active"}': 1.0,
        'workspaces_total{status="archived"}': 1.0,
    }


def test_a_histogram_counts_in_its_own_buckets(registry: CollectorRegistry) -> None:
    waited = Histogram("waited_seconds", "Waited.", ["operation"], buckets=[1, 2], registry=registry)
    for amount in (0.5, 1.5, 1.5, 9):
        waited.labels("reply").observe(amount)

    lines = [line for line in generate_latest(registry).decode().splitlines() if "_bucket" in line]
    assert lines == [
        'waited_seconds_bucket{le="1.0",operation="reply"} 1.0',
        'waited_seconds_bucket{le="2.0",operation="reply"} 3.0',
        'waited_seconds_bucket{le="+Inf",operation="reply"} 4.0',
    ]


def test_a_block_is_timed_also_if_it_raises(registry: CollectorRegistry, samples: Samples) -> None:
    waited = Histogram("waited_seconds", "Waited.", ["operation"], registry=registry)
    with waited.labels("reply").time():
        pass
    with pytest.raises(KeyError), waited.labels("reply").time():
        raise KeyError

    found = samples("waited")
    assert found['waited_seconds_count{operation="reply"}'] == 2.0
    assert 0.0 < found['waited_seconds_sum{operation="reply"}'] < 60.0


def test_a_metric_has_only_what_its_type_has() -> None:
    methods = {kind: {name for name in dir(kind) if not name.startswith("_")} for kind in (Counter, Gauge, Histogram)}
    assert methods == {
        Counter: {"labels", "inc"},
        Gauge: {"labels", "set", "inc", "dec"},
        Histogram: {"labels", "observe", "time"},
    }


def test_a_declaration_joins_the_catalogue_behind_those_of_this_library(registry: CollectorRegistry) -> None:
    Histogram("reply_seconds", "Replies.", ["kind"], unit="seconds", buckets="fast", registry=registry)
    Gauge("queue_depth", "Depth.", mode="livemax", registry=registry)

    assert list(CATALOGUE)[: len(SHIPPED)] == list(SHIPPED)
    reply = CATALOGUE["reply_seconds"]
    assert (reply.type, reply.labels, reply.unit, reply.help, reply.buckets[0]) == (
        "histogram",
        ("kind",),
        "seconds",
        "Replies.",
        0.0005,
    )
    assert CATALOGUE["queue_depth"] == Metric("queue_depth", "gauge", (), "", "Depth.", mode="livemax")
    assert "reply_seconds" not in SHIPPED


def test_the_same_declaration_is_the_same_metric(registry: CollectorRegistry, samples: Samples) -> None:
    for _ in range(3):
        Counter("orders_total", "Orders.", ["kind"], registry=registry).labels("book").inc()
        Gauge("stock", "Stock.", registry=registry).inc()

    assert samples("orders", "stock") == {'orders_total{kind="book"}': 3.0, "stock": 3.0}


def test_a_module_with_declarations_can_be_loaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry, samples: Samples
) -> None:
    (tmp_path / "shop_metrics.py").write_text(
        "from asgi_obs.metrics.custom import Counter\n"
        "import shop_registry\n"
        "ORDERS = Counter('orders_total', 'Orders.', ['kind'], registry=shop_registry.registry)\n"
    )
    (tmp_path / "shop_registry.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("shop_metrics", "shop_registry"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.import_module("shop_registry").registry = registry  # type: ignore[attr-defined]
    module = importlib.import_module("shop_metrics")
    old: Counter = module.ORDERS
    importlib.reload(module)
    old.labels("book").inc()
    module.ORDERS.labels("book").inc()

    assert samples("orders") == {'orders_total{kind="book"}': 2.0}
    for name in ("shop_metrics", "shop_registry"):
        del sys.modules[name]


def test_each_registry_has_its_own_values_under_one_declaration() -> None:
    registries = [CollectorRegistry(), CollectorRegistry()]
    for registry in registries:
        Counter("orders_total", "Orders.", registry=registry).inc()

    assert [registry.get_sample_value("orders_total") for registry in registries] == [1.0, 1.0]


@pytest.mark.parametrize(
    "declare_again",
    [
        lambda registry: Counter("orders_total", "Orders.", ["kind"], registry=registry),
        lambda registry: Counter("orders_total", "Other orders.", registry=registry),
        lambda registry: Gauge("orders_total", "Orders.", registry=registry),
        # These are no names of it, but of its samples.
        lambda registry: Gauge("orders", "Orders.", registry=registry),
        lambda registry: Gauge("orders_created", "Orders.", registry=registry),
        lambda registry: Histogram("orders", "Orders.", registry=registry),
    ],
)
def test_another_declaration_under_the_same_name_is_rejected(
    declare_again: Callable[[CollectorRegistry], Any], registry: CollectorRegistry
) -> None:
    Counter("orders_total", "Orders.", registry=registry)
    before = dict(CATALOGUE)

    for on in (registry, CollectorRegistry()):
        with pytest.raises(ConfigurationError, match="another declaration has the counter orders_total"):
            declare_again(on)
    assert before == CATALOGUE


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Counter, "http_requests_total"),
        (Gauge, "http_requests_active"),
        (Gauge, "http_requests"),
        (Gauge, "http_request_duration_seconds_sum"),
        (Counter, "process_memory_usage_bytes_total"),
    ],
)
def test_a_name_of_this_library_is_rejected(kind: Any, name: str, registry: CollectorRegistry) -> None:
    with pytest.raises(ConfigurationError, match=r"one that is free: asgi_obs has the (counter|gauge|histogram) "):
        kind(name, "Mine.", registry=registry)
    assert SHIPPED == CATALOGUE


def test_not_even_the_same_declaration_takes_over_a_metric_of_this_library(registry: CollectorRegistry) -> None:
    help_text = SHIPPED["http_requests_total"].help
    with pytest.raises(ConfigurationError, match="asgi_obs has the counter http_requests_total"):
        Counter("http_requests_total", help_text, ["method", "endpoint", "status_code"], registry=registry)


def test_a_name_that_another_library_has_on_the_registry_is_rejected_and_not_in_the_catalogue(
    registry: CollectorRegistry,
) -> None:
    ForeignCounter("orders", "Orders.", registry=registry)
    with pytest.raises(ConfigurationError, match="without a orders_total of another library"):
        Counter("orders_total", "Orders.", registry=registry)
    assert "orders_total" not in CATALOGUE


@pytest.mark.parametrize("name", ["", "1st_total", "__x_total", "a-b_total", "a:b_total", "ü_total", "a b_total", 5])
def test_a_name_that_prometheus_would_not_take_is_rejected(name: Any, registry: CollectorRegistry) -> None:
    with pytest.raises(ConfigurationError, match="name="):
        Counter(name, "Help.", registry=registry)


def test_the_name_of_a_counter_ends_in_total(registry: CollectorRegistry) -> None:
    with pytest.raises(ConfigurationError, match="name='orders' is not valid: expected orders_total"):
        Counter("orders", "Orders.", registry=registry)


@pytest.mark.parametrize(
    "labels", ["status", ["le"], ["__x"], ["a-b"], [""], ["a", "a"], [5], None, 5, {"status"}, ["a:b"], ["ü"]]
)
@pytest.mark.parametrize("kind", [Gauge, Histogram])
def test_labels_that_prometheus_would_not_take_are_rejected(kind: Any, labels: Any) -> None:
    with pytest.raises(ConfigurationError, match="labels="):
        kind("orders", "Orders.", labels, registry=CollectorRegistry())


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"help": ""}, "help="),
        ({"help": " "}, "help="),
        ({"help": None}, "help="),
        ({"help": "a \ud800"}, "help="),
        ({"unit": "seconds"}, "unit='seconds' is not valid: expected what the name orders ends in"),
        ({"unit": "rders"}, "unit="),
        ({"unit": 5}, "unit="),
        ({"max_series": 1}, "max_series="),
        ({"max_series": "5"}, "max_series="),
        ({"registry": None}, "registry="),
        ({"mode": "all"}, "mode='all' is not valid: expected one of livesum, livemax, livemin, livemostrecent"),
    ],
)
def test_a_wrong_option_is_rejected(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{complaint}"):
        Gauge(**{"name": "orders", "help": "Orders.", "registry": CollectorRegistry(), **options})
    assert SHIPPED == CATALOGUE


@pytest.mark.parametrize("buckets", [[], [2, 1], [0], [float("inf")], "huge", ["x"], 5])
def test_buckets_that_are_none_are_rejected(buckets: Any) -> None:
    with pytest.raises(ConfigurationError, match="buckets="):
        Histogram("orders", "Orders.", buckets=buckets, registry=CollectorRegistry())


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Counter, "sent_bytes_total"),
        (Gauge, "sent_bytes"),
        (Histogram, "sent_bytes"),
    ],
)
def test_a_unit_stands_at_the_end_of_the_name_and_in_the_scrape(
    kind: Any, name: str, registry: CollectorRegistry
) -> None:
    kind(name, "Sent.", unit="bytes", registry=registry)
    assert "# UNIT sent_bytes bytes\n" in generate_openmetrics(registry).decode()


def test_a_gauge_whose_name_ends_in_total_has_its_unit_behind_it(registry: CollectorRegistry) -> None:
    with pytest.raises(ConfigurationError, match="unit="):
        Gauge("sent_bytes_total", "Sent.", unit="bytes", registry=registry)


def test_both_formats_can_be_read_whatever_the_names_end_in(registry: CollectorRegistry) -> None:
    Gauge("workspaces_total", "Workspaces.", ["status"], registry=registry).labels("active").set(3)
    Gauge("last_count", 'Back\\slash, "quotes" and\nlines.', registry=registry).set(4)
    Gauge("build_info", "Info.", registry=registry).set(1)
    Histogram("asked_total", "Asked.", ["kind"], buckets=[1], registry=registry).labels('a"b\nc\\').observe(0.5)
    Counter("orders_count_total", "Orders.", ["kind"], registry=registry).labels("x").inc(2)

    expected = {
        "workspaces_total": ("gauge", [3.0]),
        "last_count": ("gauge", [4.0]),
        "build_info": ("gauge", [1.0]),
        "asked_total": ("histogram", [1.0, 1.0, 1.0, 0.5]),
        "orders_count": ("counter", [2.0]),
    }
    for encode, parse in ((generate_latest, parse_text), (generate_openmetrics, parse_openmetrics)):
        families = {
            family.name: (family.type, [s.value for s in family.samples if not s.name.endswith("_created")])
            for family in parse(encode(registry).decode())
            if not family.name.endswith("_created")
        }
        assert families == expected


def test_past_the_cap_values_fold_and_are_counted(
    registry: CollectorRegistry, samples: Samples, caplog: pytest.LogCaptureFixture
) -> None:
    orders = Counter("orders_total", "Orders.", ["customer"], registry=registry, max_series=10)
    folded = process_wide("asgi_obs_label_overflow_total").labels("orders_total")
    before = folded._value.get()
    for number in range(50):
        orders.labels(customer=number).inc()
        orders.labels(customer=number).inc()

    found = samples("orders")
    assert len(found) == 9
    assert sum(found.values()) == 100.0
    assert found['orders_total{customer="__overflow__"}'] == 84.0
    assert folded._value.get() - before == 84.0
    assert caplog.text.count("orders_total has reached max_series=10") == 1


def test_of_a_long_label_value_the_first_256_characters_count(registry: CollectorRegistry, samples: Samples) -> None:
    seen = Counter("seen_total", "Seen.", ["user_id"], registry=registry)
    for ending in "ab":
        seen.labels("x" * 256 + ending).inc()

    assert samples("seen_total") == {f'seen_total{{user_id="{"x" * 256}"}}': 2.0}


def test_label_values_that_are_no_text_become_one(registry: CollectorRegistry, samples: Samples) -> None:
    answers = Counter("answers_total", "Answers.", ["code"], registry=registry)
    for code in (1, True, 1.0, None, b"x"):
        answers.labels(code).inc()

    assert samples("answers") == {
        'answers_total{code="1"}': 1.0,
        'answers_total{code="True"}': 1.0,
        'answers_total{code="1.0"}': 1.0,
        'answers_total{code="None"}': 1.0,
        "answers_total{code=\"b'x'\"}": 1.0,
    }


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ((), {}),
        (("password",), {}),
        (("password", "free", "more"), {}),
        ((), {"auth_method": "password"}),
        ((), {"auth_method": "password", "tier": "free", "more": ""}),
        ((), {"auth_method": "password", "level": "free"}),
        (("password",), {"tier": "free"}),
        (("password", Unprintable()), {}),
    ],
)
def test_wrong_labels_are_reported_once_and_dropped(
    values: Any, named: Any, logins: Counter, samples: Samples, reported: list[str]
) -> None:
    series = logins.labels(*values, **named)
    series.inc()
    series.inc(-1)

    assert samples("user_logins") == {}
    assert reported == ["user_logins_total.labels", "user_logins_total.inc"]


def test_what_has_labels_cannot_be_moved_without_and_the_log_says_so(
    logins: Counter, samples: Samples, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "_last_logged", {})
    with caplog.at_level(logging.ERROR, "asgi_obs"):
        for _ in range(3):
            logins.inc()
            logins.labels("password").inc()

    assert samples("user_logins") == {}
    assert [record.getMessage() for record in caplog.records] == [
        "user_logins_total.inc failed; requests are not affected",
        "user_logins_total.labels failed; requests are not affected",
    ]
    assert "user_logins_total has labels: auth_method, tier" in caplog.text
    assert "user_logins_total takes 2 label values" in caplog.text


@pytest.mark.parametrize("series", [0, 1])
def test_what_has_no_labels_left_takes_none(
    series: int, logins: Counter, registry: CollectorRegistry, reported: list[str], samples: Samples
) -> None:
    metric = (Counter("messages_total", "Messages.", registry=registry), logins.labels("a", "b"))[series]
    metric.labels().inc()
    metric.labels("a", "b").inc()

    assert set(samples("messages", "user_logins").values()) == {0.0}
    assert [place.rpartition(".")[2] for place in reported] == ["labels", "labels"]


@pytest.mark.parametrize(
    "amount", [-1, -0.001, float("nan"), float("inf"), float("-inf"), "1", None, [], 10**400, Decimal("nan"), 1j]
)
def test_an_amount_that_cannot_be_counted_is_reported_and_dropped(
    amount: Any, registry: CollectorRegistry, reported: list[str], samples: Samples
) -> None:
    counter = Counter("orders_total", "Orders.", ["kind"], registry=registry).labels("book")
    counter.inc(amount)

    assert samples("orders") == {'orders_total{kind="book"}': 0.0}
    assert reported == ["orders_total.inc"]


def test_a_negative_value_is_not_observed(registry: CollectorRegistry, reported: list[str], samples: Samples) -> None:
    waited = Histogram("waited_seconds", "Waited.", registry=registry)
    waited.observe(-0.001)
    waited.observe(0)

    assert samples("waited") == {"waited_seconds_count": 1.0, "waited_seconds_sum": 0.0}
    assert reported == ["waited_seconds.observe"]


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), "1", None])
def test_gauges_and_histograms_take_finite_numbers_only(
    amount: Any, registry: CollectorRegistry, reported: list[str], samples: Samples
) -> None:
    gauge = Gauge("stock", "Stock.", registry=registry)
    histogram = Histogram("waited_seconds", "Waited.", registry=registry)
    gauge.set(amount)
    gauge.inc(amount)
    gauge.dec(amount)
    histogram.observe(amount)

    assert set(samples("stock", "waited").values()) == {0.0}
    assert reported == ["stock.set", "stock.inc", "stock.dec", "waited_seconds.observe"]


def test_other_numbers_are_counted_as_floats(registry: CollectorRegistry, samples: Samples) -> None:
    gauge = Gauge("balance", "Balance.", registry=registry)
    gauge.set(Decimal("1.5"))
    gauge.inc(True)
    gauge.dec(-2)

    assert samples("balance") == {"balance": 4.5}


def test_only_set_moves_a_gauge_that_shows_the_most_recent_value(
    registry: CollectorRegistry, reported: list[str], samples: Samples
) -> None:
    version = Gauge("schema_version", "Version.", registry=registry, mode="livemostrecent")
    version.set(3)
    version.inc()

    assert samples("schema") == {"schema_version": 3.0}
    assert reported == ["schema_version.inc"]


def test_a_lone_surrogate_is_counted_with_what_can_be_written(registry: CollectorRegistry, samples: Samples) -> None:
    orders = Counter("orders_total", "Orders.", ["kind"], registry=registry)
    orders.labels("a\ud800").inc()
    orders.labels("a\udfff").inc()

    assert samples("orders") == {'orders_total{kind="a?"}': 2.0}


anything = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.none()))


@given(calls=st.lists(st.tuples(st.lists(anything, max_size=3), st.dictionaries(st.text(), anything), anything)))
def test_no_use_raises_or_breaks_the_scrape(calls: list[tuple[list[Any], dict[str, Any], Any]]) -> None:
    registry = CollectorRegistry()
    metrics: list[Any] = [
        Counter("fuzzed_total", "F.", ["kind"], registry=registry, max_series=10),
        Gauge("fuzzed_depth", "F.", ["kind"], registry=registry, max_series=10),
        Histogram("fuzzed_seconds", "F.", ["kind"], registry=registry, max_series=10),
    ]
    for values, named, amount in calls:
        for metric in metrics:
            series = metric.labels(*values, **named)
            for method in {"inc", "dec", "set", "observe"} & set(dir(series)):
                getattr(series, method)(amount)
    for encode, parse in ((generate_latest, parse_text), (generate_openmetrics, parse_openmetrics)):
        assert {family.name for family in parse(encode(registry).decode())} >= {"fuzzed_depth", "fuzzed_seconds"}


def test_threads_that_use_one_metric_lose_nothing(logins: Counter, samples: Samples) -> None:
    def log_in() -> None:
        for number in range(2_000):
            logins.labels("password", str(number % 5)).inc()

    threads = [Thread(target=log_in) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert list(samples("user_logins").values()) == [1_600.0] * 5


@pytest.mark.parametrize(
    ("mode", "expected"), [("livesum", 5.0), ("livemax", 3.0), ("livemin", 2.0), ("livemostrecent", 3.0)]
)
def test_several_processes_look_like_one(
    mode: Any, expected: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "set")
    workers = [Worker(tmp_path), Worker(tmp_path)]
    for worker, amount in zip(workers, (2, 3), strict=True):
        with worker:
            Counter("orders_total", "Orders.", ["kind"], registry=worker.registry).labels("book").inc(amount)
            Gauge("stock", "Stock.", mode=mode, registry=worker.registry).set(amount)
            waited = Histogram("waited_seconds", "Waited.", ["kind"], buckets=[1, 4], registry=worker.registry)
            waited.labels("book").observe(amount)

    for worker in workers:
        assert worker.scrape("orders", "stock", "waited") == {
            'orders_total{kind="book"}': 5.0,
            "stock": expected,
            'waited_seconds_bucket{kind="book",le="1.0"}': 0.0,
            'waited_seconds_bucket{kind="book",le="4.0"}': 2.0,
            'waited_seconds_bucket{kind="book",le="+Inf"}': 2.0,
            'waited_seconds_count{kind="book"}': 2.0,
            'waited_seconds_sum{kind="book"}': 5.0,
        }
