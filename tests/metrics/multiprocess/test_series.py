from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_obs.metrics.multiprocess.series import MAX_DECODED, Series, combine, decode, encode, help_key, writable

texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(texts, st.dictionaries(texts, texts))
def test_a_key_says_what_it_was_made_of(name: str, labels: dict[str, str]) -> None:
    series = decode(encode("counter", "", "family", name, tuple(labels), tuple(labels.values())))
    assert (series.type, series.mode, series.family, series.name) == ("counter", "", "family", name)
    assert series.labels == tuple(sorted(labels.items()))


def test_the_order_of_the_labels_makes_no_difference() -> None:
    one = encode("counter", "", "jobs", "jobs_total", ("a", "b"), ("1", "2"))
    assert one == encode("counter", "", "jobs", "jobs_total", ("b", "a"), ("2", "1"))


def test_what_cannot_be_written_is_replaced() -> None:
    assert decode(encode("counter", "", "jobs", "jobs_total", ("kind",), ("a\ud800b",))).labels == (("kind", "a?b"),)


def test_a_help_is_a_key() -> None:
    assert decode(help_key("jobs", "Jobs done.")) == Series("help", "", "jobs", "Jobs done.", (), True, False)


@given(st.text(st.characters()))
def test_what_is_writable_can_be_written_and_is_as_in_the_key(text: str) -> None:
    assert writable(text).encode().decode() == writable(text)
    assert decode(encode("counter", "", "jobs", "jobs_total", ("kind",), (text,))).labels == (("kind", writable(text)),)


def test_keys_of_files_that_are_gone_are_not_kept_for_ever() -> None:
    decode.cache_clear()
    for number in range(MAX_DECODED + 10):
        decode(f'["gauge","livesum","busy","{number}",[]]')
    assert decode.cache_info().currsize == MAX_DECODED
    decode.cache_clear()


json_values = st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=10)


@example(encode("counter", "", "jobs", "jobs_total"))
@given(st.text() | json_values.map(json.dumps) | st.lists(json_values, min_size=5, max_size=5).map(json.dumps))
def test_whatever_a_file_says_is_a_key_or_a_value_error(text: str) -> None:
    try:
        series = decode(text)
    except ValueError:
        return
    assert all(isinstance(part, str) for part in (series.type, series.mode, series.family, series.name))


@pytest.mark.parametrize("text", ["[" * 100_000, "[1,2,3,4,[]]", '["a","b","c","d",[["x",1]]]', "null", "7", ""])
def test_no_key_whatever_is_another_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no key|Expecting|unpack"):
        decode(text)


@pytest.mark.parametrize(
    ("kind", "mode", "outlives", "by_process"),
    [
        ("counter", "", True, False),
        ("histogram", "", True, False),
        ("summary", "", True, False),
        *[("gauge", mode, True, False) for mode in ("sum", "min", "max", "mostrecent")],
        *[("gauge", mode, False, False) for mode in ("livesum", "livemin", "livemax", "livemostrecent")],
        *[("gauge", mode, False, True) for mode in ("all", "liveall")],
    ],
)
def test_what_outlives_its_process_and_what_is_shown_by_process(
    kind: str, mode: str, outlives: bool, by_process: bool
) -> None:
    series = decode(encode(kind, mode, "x", "x"))
    assert (series.outlives, series.by_process) == (outlives, by_process)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("", 3.0), ("sum", 3.0), ("min", 1.0), ("max", 2.0), ("mostrecent", 1.0), ("all", 3.0)],
)
@pytest.mark.parametrize("live", ["", "live"])
def test_two_processes_are_one_by_the_mode(live: str, mode: str, expected: float) -> None:
    series = decode(encode("gauge", live + mode, "x", "x"))
    assert combine(series, (1.0, 20.0), (2.0, 10.0))[0] == expected
    assert combine(series, (2.0, 10.0), (1.0, 20.0))[0] == expected
