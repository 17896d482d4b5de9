import gc
import re
import weakref

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest

from asgi_obs.errors import ConfigurationError, report
from asgi_obs.metrics.catalogue import CATALOGUE, SHIPPED, Metric, create, declare, process_wide
from asgi_obs.metrics.declaration import require_valid

# Every name and label the guide's code, rules and tests refer to that exists by now.
GUIDE = {
    "http_requests_total": ("method", "endpoint", "status_code"),
    "http_request_duration_seconds": ("method", "endpoint"),
    "http_requests_active": (),
    "process_cpu_usage_percent": (),
    "process_memory_usage_bytes": (),
    "service_info": ("name", "version", "environment"),
    "health_status": ("service",),
    "sse_connections_active": (),
    "sse_events_sent_total": ("event_type",),
    "db_queries_total": ("operation", "table"),
    "db_query_duration_seconds": ("operation", "table"),
    "db_pool_size": (),
    "db_pool_connections_checked_out": (),
    "db_pool_overflow": (),
    "event_bus_events_published_total": ("event_type",),
    "event_bus_events_delivered_total": ("event_type",),
    "event_bus_subscribers": (),
}


@pytest.mark.parametrize("name", GUIDE)
def test_the_guides_names_and_labels_are_kept(name: str) -> None:
    assert SHIPPED[name].labels == GUIDE[name]


@pytest.mark.parametrize("metric", SHIPPED.values(), ids=SHIPPED)
def test_a_declaration_follows_the_conventions_for_names(metric: Metric) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", metric.name)
    assert metric.name.endswith("_total") == (metric.type == "counter")
    assert metric.name.endswith("_info") == (metric.type == "info")
    assert metric.name.removesuffix("_total").endswith(metric.unit)
    assert bool(metric.buckets) == (metric.type == "histogram")
    assert metric.buckets == tuple(sorted(metric.buckets))
    assert re.fullmatch(r"[A-Z].*\.", metric.help)


@pytest.mark.parametrize("metric", SHIPPED.values(), ids=SHIPPED)
def test_a_metric_is_exposed_as_it_is_declared(metric: Metric, registry: CollectorRegistry) -> None:
    collector = create(metric.name, registry)
    if metric.type != "info" and metric.labels:
        collector.labels(*metric.labels)
    text = generate_latest(registry).decode()
    exposed_type = "gauge" if metric.type == "info" else metric.type
    assert f"# HELP {metric.name} {metric.help}\n" in text
    assert f"# TYPE {metric.name} {exposed_type}\n" in text


def test_a_metric_can_be_created_hundreds_of_times(registry: CollectorRegistry) -> None:
    assert len({id(create("http_requests_total", registry)) for _ in range(300)}) == 1


def test_each_registry_has_its_own_metrics() -> None:
    assert create("http_requests_total", CollectorRegistry()) is not create("http_requests_total", CollectorRegistry())


def test_a_registry_that_is_no_longer_used_is_freed() -> None:
    registry = CollectorRegistry()
    create("http_requests_total", registry)
    freed = weakref.ref(registry)
    del registry
    gc.collect()
    assert freed() is None


def test_a_metric_of_another_library_is_not_taken_over(registry: CollectorRegistry) -> None:
    Counter("http_requests_total", "Another.", registry=registry)
    with pytest.raises(ConfigurationError, match="without a http_requests_total of another library"):
        create("http_requests_total", registry)


def test_a_metric_of_another_library_is_also_in_the_way_of_a_process_wide_one(registry: CollectorRegistry) -> None:
    Counter("asgi_obs_internal_errors_total", "Another.", registry=registry)
    with pytest.raises(ConfigurationError, match="another library"):
        create("asgi_obs_internal_errors_total", registry)


def test_a_registry_that_was_emptied_shows_the_metric_again(registry: CollectorRegistry) -> None:
    collector = create("http_requests_total", registry)
    registry.unregister(collector)
    assert create("http_requests_total", registry) is collector
    assert "http_requests_total" in generate_latest(registry).decode()


def test_other_buckets_on_the_same_registry_are_rejected(registry: CollectorRegistry) -> None:
    create("http_request_duration_seconds", registry, buckets=[1, 2])
    with pytest.raises(ConfigurationError, match=r"buckets=.*http_request_duration_seconds has on this registry"):
        create("http_request_duration_seconds", registry, buckets=[1, 3])


def test_other_labels_on_the_same_registry_are_rejected(registry: CollectorRegistry) -> None:
    create("http_requests_total", registry, extra_labels=("tier",))
    with pytest.raises(ConfigurationError, match=r"labels=.*http_requests_total has on this registry"):
        create("http_requests_total", registry, extra_labels=())


def test_who_asks_for_no_labels_and_buckets_gets_those_that_are_there(registry: CollectorRegistry) -> None:
    collector = create("http_request_duration_seconds", registry, extra_labels=("tier",), buckets=[1, 2])
    assert create("http_request_duration_seconds", registry) is collector


def test_a_name_outside_of_the_catalogue_is_rejected(registry: CollectorRegistry) -> None:
    with pytest.raises(ConfigurationError, match="http_request_total"):
        create("http_request_total", registry)


def test_what_is_not_a_registry_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match="CollectorRegistry"):
        create("http_requests_total", object())  # type: ignore[arg-type]


def test_errors_that_are_kept_from_requests_are_counted_in_every_registry() -> None:
    registries = [CollectorRegistry(), CollectorRegistry()]
    collectors = [create("asgi_obs_internal_errors_total", registry) for registry in registries]
    component = {"component": "a component of this test"}
    before = registries[0].get_sample_value("asgi_obs_internal_errors_total", component) or 0.0
    report(component["component"], RuntimeError())
    after = [registry.get_sample_value("asgi_obs_internal_errors_total", component) for registry in registries]
    assert after == [before + 1, before + 1]
    assert collectors == [process_wide("asgi_obs_internal_errors_total")] * 2


OWN = Metric("orders_total", "counter", ("kind",), "", "Orders.")


@pytest.mark.usefixtures("only_shipped")
def test_what_is_declared_is_in_the_catalogue_behind_what_is_shipped(registry: CollectorRegistry) -> None:
    declare(OWN, registry)
    assert list(CATALOGUE.values()) == [*SHIPPED.values(), OWN]
    create("orders_total", registry).labels("book").inc()
    assert registry.get_sample_value("orders_total", {"kind": "book"}) == 1.0


@pytest.mark.usefixtures("only_shipped")
def test_what_is_declared_again_stays_as_it_is(registry: CollectorRegistry) -> None:
    declare(OWN, registry)
    collector = create("orders_total", registry)
    declare(OWN, registry)
    assert create("orders_total", registry) is collector


def test_what_is_shipped_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        SHIPPED["orders_total"] = OWN  # type: ignore[index]
    with pytest.raises(ConfigurationError, match="asgi_obs has the histogram http_request_duration_seconds"):
        declare(SHIPPED["http_request_duration_seconds"], CollectorRegistry())


@pytest.mark.parametrize("metric", SHIPPED.values(), ids=SHIPPED)
def test_what_is_shipped_follows_the_rules_for_others(metric: Metric) -> None:
    require_valid(metric)
