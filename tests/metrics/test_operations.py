from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from asgi_obs import OperationMetrics
from asgi_obs.errors import ConfigurationError
from asgi_obs.metrics.catalogue import CATALOGUE, SHIPPED
from asgi_obs.metrics.operations import OPERATION_BUCKETS
from asgi_obs.metrics.tracking import Tracker
from tests.metrics.multiprocess.conftest import Worker

Samples = Callable[..., dict[str, float]]
Totals = Callable[..., tuple[float, float, float, float]]

pytestmark = pytest.mark.usefixtures("only_shipped")


def test_a_block_is_an_operation(ops: OperationMetrics, samples: Samples) -> None:
    with ops.track("store_input"):
        assert samples("memory_service_operations") == {
            'memory_service_operations_total{operation="store_input"}': 0.0,
            'memory_service_operations_in_progress{operation="store_input"}': 1.0,
        }

    found = samples("memory_service")
    assert 0.0 < found.pop('memory_service_operation_duration_seconds_sum{operation="store_input"}') < 60.0
    assert found == {
        'memory_service_operations_total{operation="store_input"}': 1.0,
        'memory_service_operations_in_progress{operation="store_input"}': 0.0,
        'memory_service_operation_duration_seconds_count{operation="store_input"}': 1.0,
    }


def test_the_buckets_are_those_of_the_guide(ops: OperationMetrics, registry: CollectorRegistry) -> None:
    ops.track("store_input")
    (family,) = [f for f in registry.collect() if f.name == "memory_service_operation_duration_seconds"]
    bounds = [float(sample.labels["le"]) for sample in family.samples if sample.name.endswith("_bucket")]

    assert bounds == [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, math.inf]


def test_an_error_passes_unchanged_and_is_counted_by_its_class(
    ops: OperationMetrics, samples: Samples, totals: Totals
) -> None:
    error = KeyError("x")
    with pytest.raises(KeyError) as caught, ops.track("store_input"):
        raise error

    assert caught.value is error
    assert totals() == (1.0, 1.0, 1.0, 0.0)
    assert samples("memory_service_operation_errors") == {
        'memory_service_operation_errors_total{exception="KeyError",operation="store_input"}': 1.0
    }


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_what_ends_an_operation_from_outside_is_no_error(
    kind: type[BaseException], ops: OperationMetrics, totals: Totals
) -> None:
    with pytest.raises(kind), ops.track("store_input"):
        raise kind

    assert totals() == (1.0, 1.0, 0.0, 0.0)


def test_an_operation_is_there_with_zeros_from_when_it_is_tracked(ops: OperationMetrics, samples: Samples) -> None:
    @ops.track("store_input")
    def unused() -> None: ...

    assert samples("memory_service_operations") == {
        'memory_service_operations_total{operation="store_input"}': 0.0,
        'memory_service_operations_in_progress{operation="store_input"}': 0.0,
    }


@pytest.mark.parametrize("name", ["", None, 5, b"x", ["x"]])
def test_a_name_that_is_none_is_rejected(name: Any, ops: OperationMetrics) -> None:
    with pytest.raises(ConfigurationError, match="operation="):
        ops.track(name)


@pytest.mark.parametrize("namespace", ["", "__x", "1x", "a-b", "a b", "a:b", None, 5])
def test_a_namespace_that_cannot_begin_a_name_is_rejected(namespace: Any) -> None:
    with pytest.raises(ConfigurationError, match="namespace="):
        OperationMetrics(namespace, registry=CollectorRegistry())
    assert SHIPPED == CATALOGUE


@pytest.mark.parametrize(
    "options", [{"registry": None}, {"buckets": [2, 1]}, {"buckets": "huge"}, {"max_series": 1}, {"max_series": "5"}]
)
def test_a_wrong_option_is_rejected(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"^{next(iter(options))}="):
        OperationMetrics("memory_service", **{"registry": CollectorRegistry(), **options})
    assert SHIPPED == CATALOGUE


def test_its_metrics_join_the_catalogue(ops: OperationMetrics) -> None:
    own = list(CATALOGUE.values())[len(SHIPPED) :]
    assert [(metric.name, metric.type, metric.labels, metric.unit, metric.buckets) for metric in own] == [
        ("memory_service_operations_total", "counter", ("operation",), "", ()),
        ("memory_service_operation_duration_seconds", "histogram", ("operation",), "seconds", OPERATION_BUCKETS),
        ("memory_service_operations_in_progress", "gauge", ("operation",), "", ()),
        ("memory_service_operation_errors_total", "counter", ("operation", "exception"), "", ()),
    ]


def test_two_of_one_namespace_share_their_metrics(
    ops: OperationMetrics, registry: CollectorRegistry, totals: Totals
) -> None:
    for each in (ops, OperationMetrics("memory_service", registry=registry)):
        with each.track("store_input"):
            pass

    assert totals() == (2.0, 2.0, 0.0, 0.0)


def test_other_buckets_of_one_namespace_are_rejected(ops: OperationMetrics, registry: CollectorRegistry) -> None:
    with pytest.raises(ConfigurationError, match="another declaration has the histogram memory_service_operation_dur"):
        OperationMetrics("memory_service", registry=registry, buckets="slow")


def test_of_a_long_name_the_first_256_characters_count(ops: OperationMetrics, samples: Samples) -> None:
    for ending in "ab":
        with ops.track("x" * 256 + ending):
            pass

    assert samples("memory_service_operations_total") == {
        f'memory_service_operations_total{{operation="{"x" * 256}"}}': 2.0
    }


def test_past_the_cap_operations_fold(registry: CollectorRegistry, samples: Samples) -> None:
    ops = OperationMetrics("memory_service", registry=registry, max_series=10)
    for number in range(50):
        with pytest.raises(KeyError), ops.track(f"operation {number}"):
            raise KeyError

    for family in ("operations_total", "operation_duration_seconds_count", "operation_errors_total"):
        found = samples(f"memory_service_{family}")
        assert len(found) <= 10
        assert sum(found.values()) == 50.0
    assert set(samples("memory_service_operations_in_progress").values()) == {0.0}
    assert len(ops._operations) <= 10


class FullError(Exception):
    pass


def full(*_: object) -> None:
    raise FullError


@pytest.mark.parametrize(("method", "place"), [("inc", "start"), ("dec", "end")])
def test_metrics_that_fail_do_not_keep_an_operation_from_its_work(
    method: str, place: str, ops: OperationMetrics, totals: Totals, monkeypatch: pytest.MonkeyPatch, reported: list[str]
) -> None:
    @ops.track("store_input")
    def work() -> int:
        return 5

    with monkeypatch.context() as patched:
        patched.setattr(f"prometheus_client.Gauge.{method}", full)
        assert work() == 5
        with pytest.raises(KeyError), ops.track("store_input"):
            raise KeyError
    assert reported == [f"OperationMetrics.{place}"] * 2
    assert totals()[:3] == (0.0, 0.0, 0.0)


def test_an_operation_that_cannot_be_made_is_reported_and_runs(
    ops: OperationMetrics, monkeypatch: pytest.MonkeyPatch, reported: list[str], totals: Totals
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("prometheus_client.Gauge.labels", full)
        with ops.track("store_input"):
            pass
    assert reported == ["OperationMetrics.track"]
    with ops.track("store_input"):
        pass
    assert totals() == (1.0, 1.0, 0.0, 0.0)


def test_several_processes_look_like_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "set")
    workers = [Worker(tmp_path), Worker(tmp_path)]
    running: list[Tracker] = []
    for worker in workers:
        with worker:
            ops = OperationMetrics("memory_service", registry=worker.registry)
            with pytest.raises(KeyError), ops.track("store_input"):
                raise KeyError
            running.append(ops.track("store_input"))
            running[-1].__enter__()

    for worker in workers:
        assert worker.scrape(
            "memory_service_operations",
            "memory_service_operation_errors",
            "memory_service_operation_duration_seconds_c",
        ) == {
            'memory_service_operations_total{operation="store_input"}': 2.0,
            'memory_service_operations_in_progress{operation="store_input"}': 2.0,
            'memory_service_operation_errors_total{exception="KeyError",operation="store_input"}': 2.0,
            'memory_service_operation_duration_seconds_count{operation="store_input"}': 2.0,
        }
    for tracker in running:
        tracker.__exit__(None, None, None)
