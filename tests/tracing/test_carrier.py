"""What is believed of traceparent, tracestate and baggage, and what propagators never see."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_obs.tracing.carrier import CarrierGetter, well_formed
from tests.tracing.spans import PARENT_ID, TRACE_ID

PARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"


@pytest.mark.parametrize(
    "value",
    [
        PARENT,
        f"00-{TRACE_ID}-{PARENT_ID}-00",
        f"01-{TRACE_ID}-{PARENT_ID}-01",
        f"cc-{TRACE_ID}-{PARENT_ID}-01-more",
        f"01-{TRACE_ID}-{PARENT_ID}-01-" + "x" * 200,
    ],
)
def test_a_traceparent_of_this_version_or_a_later_one_is_believed(value: str) -> None:
    assert well_formed("traceparent", value) == value
    assert well_formed("traceparent", f" \t{value}\t ") == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00-xyz",
        PARENT[:-1],
        f"{PARENT}-more",
        f"{PARENT}0",
        f"01-{TRACE_ID}-{PARENT_ID}-01.more",
        f"01-{TRACE_ID}-{PARENT_ID}-01-\xe9",
        f"01-{TRACE_ID}-{PARENT_ID}-01-" + "x" * 201,
        f"ff-{TRACE_ID}-{PARENT_ID}-01",
        f"00-{'0' * 32}-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        PARENT.upper(),
        PARENT.replace("0", "\u0660"),
        f"{PARENT}\n",
        f"{PARENT},{PARENT}",
    ],
)
def test_any_other_traceparent_is_left_out(value: str) -> None:
    assert well_formed("traceparent", value) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a=1", "a=1"),
        ("a=1,b=2", "a=1,b=2"),
        (" a=1 ,\tb=2\t", "a=1,b=2"),
        ("a=1,,b=2,", "a=1,b=2"),
        ("tenant@vendor=x", "tenant@vendor=x"),
        ("0a@v=x", "0a@v=x"),
        ("a=with space", "a=with space"),
        ("a_*/-0=" + "x" * 256, "a_*/-0=" + "x" * 256),
        (",".join(f"k{i}=1" for i in range(32)), ",".join(f"k{i}=1" for i in range(32))),
    ],
)
def test_a_tracestate_is_believed_without_its_blanks(value: str, expected: str) -> None:
    assert well_formed("tracestate", value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        ",",
        "a",
        "=1",
        "a=",
        "A=1",
        "0a=1",
        "a=1=2",
        "a=\xe9",
        "a=1,b",
        "a=1,a=2",
        "a=" + "x" * 257,
        "a=1\n",
        ",".join(f"k{i}=1" for i in range(33)),
        ",".join(f"{'k' * 20}{i:02}=1" for i in range(25)),
    ],
)
def test_a_tracestate_with_anything_wrong_in_it_is_void(value: str) -> None:
    assert well_formed("tracestate", value) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a=1", "a=1"),
        (" a = 1 , b\t=\t2 ", "a=1,b=2"),
        ("a=1;ttl=5;flag,b=2", "a=1,b=2"),
        ("a=%20%C3%A9", "a=%20%C3%A9"),
        ("a=", "a="),
        ('broken,a=1,=2,b c=3,d="4",e=5\\', "a=1"),
        (",".join(f"k{i}=1" for i in range(70)), ",".join(f"k{i}=1" for i in range(64))),
    ],
)
def test_of_baggage_what_is_well_formed_is_believed(value: str, expected: str) -> None:
    assert well_formed("baggage", value) == expected


@pytest.mark.parametrize("value", ["", "nothing", "\xe9=1", "a=1\n", "a=" + "x" * 8191])
def test_baggage_without_anything_well_formed_or_too_much_of_it_is_left_out(value: str) -> None:
    assert well_formed("baggage", value) is None


def test_the_header_of_another_propagator_is_printable_and_short() -> None:
    assert well_formed("b3", "0") == "0"
    assert well_formed("b3", "x" * 1024) == "x" * 1024
    assert well_formed("b3", "x" * 1025) is None
    assert well_formed("b3", "x\r\n") is None
    assert well_formed("b3", "\xe9") is None


@given(st.sampled_from(["traceparent", "tracestate", "baggage", "b3"]), st.text(max_size=600))
def test_what_is_believed_is_printable_and_no_longer_than_it_was(name: str, value: str) -> None:
    believed = well_formed(name, value)

    assert believed is None or (believed.isascii() and believed.isprintable() and len(believed) <= len(value))


@given(st.sampled_from(["traceparent", "tracestate", "baggage", "b3"]), st.text(alphabet="0a1-=,; @\t%x", max_size=80))
def test_what_is_believed_once_is_believed_again(name: str, value: str) -> None:
    believed = well_formed(name, value)

    assert believed is None or well_formed(name, believed) == believed


@pytest.mark.parametrize(
    ("carrier", "expected"),
    [
        ({"traceparent": PARENT}, [PARENT]),
        ({"TraceParent": PARENT.encode()}, [PARENT]),
        ({1: "x", None: "y", "traceparent": PARENT}, [PARENT]),
        ({}, None),
        ({b"traceparent": PARENT}, [PARENT]),
        ({"traceparent": 7}, None),
        ({"traceparent": [PARENT]}, None),
        ({"traceparent": b"\xff"}, None),
        ({"traceparent": "nonsense", "Traceparent": PARENT}, None),
    ],
)
def test_a_mapping_is_read_by_name_in_any_case(carrier: dict[Any, Any], expected: list[str] | None) -> None:
    assert CarrierGetter().get(carrier, "TRACEPARENT") == expected


def test_the_names_of_a_mapping_are_its_texts() -> None:
    assert CarrierGetter().keys({"a": 1, b"b": 2, 3: 3}) == ["a", "b", ""]
