from __future__ import annotations

from collections.abc import Mapping

import pytest
from prometheus_client.core import Metric

from asgi_obs.metrics.multiprocess.families import families_of
from asgi_obs.metrics.multiprocess.series import encode, help_key

Sample = tuple[str, dict[str, str], float]


def families(values: Mapping[str, float], types: Mapping[str, str] | None = None) -> dict[str, list[Sample]]:
    found = families_of(((key, value, "") for key, value in values.items()), types or {})
    return {name: samples(family.metric(None)) for name, family in found.items()}


def samples(metric: Metric) -> list[Sample]:
    return [(sample.name, sample.labels, sample.value) for sample in metric.samples]


def counter(kind: str) -> str:
    return encode("counter", "", "jobs", "jobs_total", ("kind",), (kind,))


def bucket(bound: str, *labels: str) -> str:
    return encode("histogram", "", "took", "took_bucket", ("kind", "le"), (*labels, bound))


def test_series_come_by_family() -> None:
    summary = encode("summary", "", "size", "size_sum"), encode("summary", "", "size", "size_count")
    assert families({counter("mail"): 1.0, summary[0]: 7.0, counter("print"): 2.0, summary[1]: 3.0}) == {
        "jobs": [("jobs_total", {"kind": "mail"}, 1.0), ("jobs_total", {"kind": "print"}, 2.0)],
        "size": [("size_sum", {}, 7.0), ("size_count", {}, 3.0)],
    }


def test_buckets_are_summed_up_in_order() -> None:
    sums = {encode("histogram", "", "took", "took_sum", ("kind",), ("mail",)): 30.0}
    buckets = {bucket("+Inf", "mail"): 4.0, bucket("10.0", "mail"): 2.0, bucket("2.0", "mail"): 1.0}
    assert families({**sums, **buckets, bucket("+Inf", "print"): 0.0}) == {
        "took": [
            ("took_bucket", {"kind": "mail", "le": "2.0"}, 1.0),
            ("took_bucket", {"kind": "mail", "le": "10.0"}, 3.0),
            ("took_bucket", {"kind": "mail", "le": "+Inf"}, 7.0),
            ("took_count", {"kind": "mail"}, 7.0),
            ("took_sum", {"kind": "mail"}, 30.0),
            ("took_bucket", {"kind": "print", "le": "+Inf"}, 0.0),
            ("took_count", {"kind": "print"}, 0.0),
            ("took_sum", {"kind": "print"}, 0.0),
        ]
    }


def test_a_histogram_that_is_just_being_made_is_whole() -> None:
    assert families({bucket("2.0", "mail"): 0.0})["took"][1] == ("took_bucket", {"kind": "mail", "le": "+Inf"}, 0.0)


def test_a_histogram_of_what_may_be_negative_has_no_sum() -> None:
    names = [name for name, _, _ in families({bucket("-1.0", "mail"): 1.0})["took"]]
    assert names == ["took_bucket", "took_bucket", "took_count"]


def test_the_help_is_that_of_the_first() -> None:
    values = [(key, 0.0, "") for key in (help_key("jobs", "New."), counter("mail"), help_key("jobs", "Old."))]
    assert families_of(values, {})["jobs"].metric(None).documentation == "New."


def test_without_a_help_there_is_none() -> None:
    assert families_of([(counter("mail"), 1.0, "")], {})["jobs"].metric(None).documentation == ""


def test_a_family_of_this_process_is_as_it_is_declared_there() -> None:
    local = Metric("jobs", "Declared.", "counter", "")
    local.unit = "unit"
    local.name = "jobs_unit"
    metric = families_of([(counter("mail"), 1.0, "")], {})["jobs"].metric(local)
    assert (metric.name, metric.documentation, metric.type, metric.unit) == (
        "jobs_unit",
        "Declared.",
        "counter",
        "unit",
    )
    assert samples(metric) == [("jobs_total", {"kind": "mail"}, 1.0)]


@pytest.mark.parametrize(
    "other",
    [
        encode("gauge", "sum", "jobs", "jobs"),
        encode("gauge", "sum", "jobs_total", "jobs_total"),
        encode("histogram", "", "jobs", "jobs_bucket", ("le",), ("+Inf",)),
    ],
)
def test_what_has_a_name_in_common_with_something_of_another_kind_is_left_out(other: str) -> None:
    assert families({counter("mail"): 1.0, other: 7.0}) == {"jobs": [("jobs_total", {"kind": "mail"}, 1.0)]}


def test_what_has_changed_its_mode_is_left_out() -> None:
    now, before = encode("gauge", "max", "busy", "busy"), encode("gauge", "sum", "busy", "busy")
    assert families({now: 1.0, before: 7.0}) == {"busy": [("busy", {}, 1.0)]}


@pytest.mark.parametrize("types", [{"jobs": "gauge"}, {"jobs_total": "gauge"}])
def test_what_is_of_another_kind_in_this_process_is_left_out(types: dict[str, str]) -> None:
    assert families({counter("mail"): 1.0}, types) == {}


def test_other_labels_are_other_series() -> None:
    other = encode("counter", "", "jobs", "jobs_total", ("kind", "tier"), ("mail", "gold"))
    assert len(families({counter("mail"): 1.0, other: 2.0})["jobs"]) == 2


def test_it_is_known_which_samples_there_are() -> None:
    family = families_of([(counter("mail"), 1.0, "")], {})["jobs"]
    assert family.has("jobs_total", {"kind": "mail"})
    assert not family.has("jobs_total", {"kind": "print"})
