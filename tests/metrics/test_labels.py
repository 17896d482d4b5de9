import gc
import logging
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, generate_latest

from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import Exchange, HttpExchange
from asgi_obs.exchange.hooks import Hooks
from asgi_obs.metrics.catalogue import create
from asgi_obs.metrics.labels import (
    MAX_PATH_LENGTH,
    MAX_PATHS,
    OTHER,
    OVERFLOW,
    CustomLabels,
    Family,
    endpoint_label,
    family,
    method_label,
)
from asgi_obs.routes import Routes
from asgi_obs.testing import http_scope


async def unused(*_: Any) -> Any:
    raise AssertionError  # pragma: no cover - these exchanges are never run


def an_exchange(path: str = "/", method: str = "GET", status: int = 404) -> Exchange:
    exchange = HttpExchange(http_scope(path, method), unused, unused, Hooks(()), Routes(unused))
    exchange.status = status
    return exchange


def series_of(registry: CollectorRegistry, name: str = "http_requests_total") -> dict[tuple[str, ...], float]:
    """The values of a counter by its label values, in the order of the labels' names."""
    samples = [sample for metric in registry.collect() for sample in metric.samples if sample.name == name]
    return {tuple(value for _, value in sorted(sample.labels.items())): sample.value for sample in samples}


def overflows(name: str = "http_requests_total") -> float:
    registry = CollectorRegistry()
    create("asgi_obs_label_overflow_total", registry)
    return registry.get_sample_value("asgi_obs_label_overflow_total", {"metric": name}) or 0.0


def test_the_same_values_get_the_same_child(registry: CollectorRegistry) -> None:
    requests = family("http_requests_total", registry, max_series=20)
    for _ in range(3):
        requests.child(("GET", "/", "200")).inc()
    assert series_of(registry) == {("/", "GET", "200"): 3.0}


def test_past_the_cap_the_label_with_the_most_values_is_folded_and_the_others_are_kept(
    registry: CollectorRegistry,
) -> None:
    requests = family("http_requests_total", registry, max_series=12)
    for number in range(30):
        requests.child(("GET" if number % 2 else "PUT", f"/{number}", "200")).inc()
    series = series_of(registry)
    assert [series[f"/{number}", "GET" if number % 2 else "PUT", "200"] for number in range(9)] == [1.0] * 9
    assert {labels: count for labels, count in series.items() if OVERFLOW in labels} == {
        (OVERFLOW, "GET", "200"): 11.0,
        (OVERFLOW, "PUT", "200"): 10.0,
    }


def test_when_folding_one_label_is_not_enough_all_are_folded(registry: CollectorRegistry) -> None:
    requests = family("http_requests_total", registry, max_series=12)
    for number in range(30):
        requests.child((f"M{number // 2}", f"/{number}", "200")).inc()
    series = series_of(registry)
    assert len(series) == 12
    assert series[OVERFLOW, OVERFLOW, OVERFLOW] == 30.0 - 9.0 - series[OVERFLOW, "M4", "200"] - 2.0


def test_the_culprit_may_be_any_label(registry: CollectorRegistry) -> None:
    requests = family("http_requests_total", registry, max_series=12)
    for number in range(30):
        requests.child(("GET", "/", str(number))).inc()
    assert series_of(registry)["/", "GET", OVERFLOW] == 21.0


def test_what_has_a_series_of_its_own_keeps_it_past_the_cap(registry: CollectorRegistry) -> None:
    requests = family("http_requests_total", registry, max_series=8)
    for number in range(30):
        requests.child(("GET", f"/{number}", "200")).inc()
    requests.child(("GET", "/0", "200")).inc()
    assert series_of(registry)["/0", "GET", "200"] == 2.0
    assert requests.holds(("GET", "/0", "200"))
    assert not requests.holds(("GET", "/29", "200"))


def test_nothing_is_lost_in_folding(registry: CollectorRegistry) -> None:
    requests = family("http_requests_total", registry, max_series=5)
    for number in range(1_000):
        requests.child((f"M{number % 7}", f"/{number}", str(number % 11))).inc()
    assert sum(series_of(registry).values()) == 1_000.0


def test_every_fold_is_counted(registry: CollectorRegistry) -> None:
    requests = family("http_requests_total", registry, max_series=12)
    before = overflows()
    for number in range(30):
        requests.child(("GET", f"/{number}", "200")).inc()
    assert overflows() - before == 21.0


def test_one_warning_names_the_metric_the_culprit_and_the_cap(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    requests = family("http_requests_total", registry, max_series=12)
    with caplog.at_level(logging.WARNING, "asgi_obs"):
        for number in range(30):
            requests.child(("GET", f"/{number}", "200")).inc()
    assert [record.getMessage() for record in caplog.records] == [
        "http_requests_total has reached max_series=12: new values of its label 'endpoint' become __overflow__"
    ]


def test_with_the_smallest_cap_everything_folds(registry: CollectorRegistry) -> None:
    requests = family("http_requests_total", registry, max_series=2)
    requests.child(("GET", "/", "200")).inc()
    requests.child(("PUT", "/", "200")).inc()
    assert series_of(registry) == {("/", OVERFLOW, "200"): 2.0}


@given(
    values=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5)), max_size=80),
    max_series=st.integers(2, 40),
)
def test_no_values_make_more_series_than_the_cap(values: list[tuple[str, str, str]], max_series: int) -> None:
    registry = CollectorRegistry()
    requests = family("http_requests_total", registry, max_series=max_series)
    for labels in values:
        requests.child(labels).inc()
    series = series_of(registry)
    assert len(series) <= max_series
    assert sum(series.values()) == len(values)
    generate_latest(registry)


def test_a_lone_surrogate_does_not_break_the_scrape(registry: CollectorRegistry) -> None:
    family("http_requests_total", registry, max_series=20).child(("GET", "/\udcff", "200")).inc()
    assert 'endpoint="/?"' in generate_latest(registry).decode()


def test_a_combination_that_another_thread_has_just_added_is_not_folded(registry: CollectorRegistry) -> None:
    requests = family("http_requests_total", registry, max_series=3)
    child = requests.child(("GET", "/", "200"))
    # What the slower of two threads does once it gets the lock.
    assert requests._admit(("GET", "/", "200")) is child


def test_a_family_is_shared_by_all_who_ask_for_it_on_a_registry(registry: CollectorRegistry) -> None:
    first = family("http_requests_total", registry, max_series=20)
    assert family("http_requests_total", registry, max_series=20) is first


def test_the_lowest_cap_that_was_asked_for_holds(registry: CollectorRegistry) -> None:
    for max_series in (30, 10, 20):
        requests = family("http_requests_total", registry, max_series=max_series)
    for number in range(100):
        requests.child(("GET", f"/{number}", "200")).inc()
    assert len(series_of(registry)) <= 10


def test_a_registry_that_is_no_longer_used_is_freed_with_its_families() -> None:
    registry = CollectorRegistry()
    family("http_requests_total", registry, max_series=20).child(("GET", "/", "200")).inc()
    freed = weakref.ref(registry)
    del registry
    gc.collect()
    assert freed() is None


@pytest.mark.parametrize("max_series", [1, 0, -1, 2.5, "2000", None, True])
def test_a_cap_that_is_no_number_of_series_is_rejected(max_series: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_series"):
        Family(Counter("n", "N.", ("a",), registry=None), name="n_total", labels=("a",), max_series=max_series)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"])
def test_a_standard_method_is_its_own_label(method: str) -> None:
    assert method_label(an_exchange(method=method)) == method


@pytest.mark.parametrize("method", ["get", "PROPFIND", "", "GET\n", "X" * 10_000])
def test_any_other_method_is_grouped(method: str) -> None:
    assert method_label(an_exchange(method=method)) == "_OTHER"


@pytest.mark.parametrize("unmatched", ["group", "path"])
def test_the_endpoint_is_the_route(unmatched: str) -> None:
    assert endpoint_label(unmatched)("/items/{item_id}", an_exchange("/items/3", status=307)) == "/items/{item_id}"


@pytest.mark.parametrize("unmatched", ["group", "path"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_without_a_route_is_grouped_as_such(unmatched: str, status: int) -> None:
    assert endpoint_label(unmatched)(None, an_exchange("/items", status=status)) == "__redirect__"


@pytest.mark.parametrize("status", [200, 304, 404, 499, 500])
def test_anything_else_without_a_route_is_unmatched(status: int) -> None:
    assert endpoint_label("group")(None, an_exchange("/secret/4711", status=status)) == "__unmatched__"


def test_the_first_raw_paths_are_kept_when_asked_for() -> None:
    label = endpoint_label("path")
    kept = [label(None, an_exchange(f"/{number}")) for number in range(MAX_PATHS + 5)]
    assert kept == [f"/{number}" for number in range(MAX_PATHS)] + ["__unmatched__"] * 5
    assert label(None, an_exchange("/3")) == "/3"


@pytest.mark.parametrize("path", ["", "/" + "x" * MAX_PATH_LENGTH])
def test_a_raw_path_that_is_empty_or_very_long_is_not_kept(path: str) -> None:
    assert endpoint_label("path")(None, an_exchange(path)) == "__unmatched__"


def test_an_unknown_way_to_label_the_unmatched_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match="group or path"):
        endpoint_label("raw")


ALLOWED = {"tier": ("free", "paid"), "region": ["eu"]}


def test_custom_values_come_in_the_order_of_their_names() -> None:
    labels = CustomLabels(lambda exchange: {"region": "eu", "tier": exchange.method}, {**ALLOWED, "tier": ["GET"]})
    assert labels.names == ("tier", "region")
    assert labels(an_exchange()) == ("GET", "eu")


@pytest.mark.parametrize("given", [{"tier": "vip", "region": 5}, {}, {"tier": None, "region": "", "more": "x"}])
def test_a_custom_value_that_is_missing_or_not_allowed_is_folded(given: dict[str, Any]) -> None:
    assert CustomLabels(lambda _: given, ALLOWED)(an_exchange()) == (OTHER, OTHER)


@pytest.mark.parametrize("result", [None, {"tier": []}, "free"])
def test_a_custom_source_that_fails_folds_all_and_is_reported(
    result: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_obs.errors._last_logged", {})
    assert CustomLabels(lambda _: result, ALLOWED)(an_exchange()) == (OTHER, OTHER)
    assert [record.getMessage() for record in caplog.records] == [
        "MetricsMiddleware.labels failed; requests are not affected"
    ]


@pytest.mark.parametrize("source", [None, "tier"])
def test_a_custom_source_that_cannot_be_called_is_rejected(source: Any) -> None:
    with pytest.raises(ConfigurationError, match="labels="):
        CustomLabels(source, ALLOWED)


@pytest.mark.parametrize(
    "allowed",
    [None, {}, ["tier"], {"method": ["a"]}, {"le": ["a"]}, {"__a": ["a"]}, {"a-b": ["a"]}, {"": ["a"]}, {1: ["a"]}],
    ids=str,
)
def test_custom_names_that_cannot_be_labels_are_rejected(allowed: Any) -> None:
    with pytest.raises(ConfigurationError, match="label_values="):
        CustomLabels(lambda _: {}, allowed)  # pragma: no cover - the source is never called


@pytest.mark.parametrize("values", [[], "free", [1], ["a", None]], ids=str)
def test_custom_values_that_cannot_be_allowed_are_rejected(values: Any) -> None:
    with pytest.raises(ConfigurationError, match="some strings for the label tier"):
        CustomLabels(lambda _: {}, {"tier": values})  # pragma: no cover - the source is never called
