from __future__ import annotations

import datetime as dt
import enum
import json
import logging
import math
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_obs.logs.safe import dumps, escape, json_line, json_safe, message_of, safe_text


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class Colour(enum.Enum):
    RED = "r\udc80"


class Precise(float):
    pass


def _record(msg: Any, *args: Any) -> logging.LogRecord:
    record = logging.LogRecord("x", logging.INFO, "x.py", 1, msg, (), None)
    record.args = args
    return record


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (b"a\xff", "a\\xff"),
        (bytearray(b"a"), "a"),
        (dt.datetime(2025, 3, 21, 10, 15, tzinfo=dt.timezone.utc), "2025-03-21T10:15:00+00:00"),
        (dt.date(2025, 3, 21), "2025-03-21"),
        (PurePosixPath("/x"), "/x"),
        (Unprintable(), "<unprintable Unprintable>"),
    ],
)
def test_every_object_has_a_text(value: Any, text: str) -> None:
    assert safe_text(value) == text


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert escape("GET /a b/ü") == "GET /a b/ü"
    assert escape("a\nb\x1b[2J\x9b\u2028\udc80") == "a\\nb\\x1b[2J\\x9b\\u2028\\udc80"


def test_a_message_is_formatted_with_its_arguments() -> None:
    assert message_of(_record("hello %s", "you")) == "hello you"
    assert message_of(_record("100 %")) == "100 %"
    assert message_of(_record(ValueError("x"))) == "x"


def test_a_message_whose_arguments_do_not_fit_is_written_all_the_same() -> None:
    assert message_of(_record("%d of %s", "x")) == "%d of %s ('x',)"
    assert message_of(_record("%s", Unprintable())) == "%s <unprintable tuple>"
    assert message_of(_record(Unprintable())) == "<unprintable Unprintable>"


def test_what_json_has_no_word_for_is_written_as_text() -> None:
    value = {"set": {1}, "bytes": b"x", "decimal": Decimal("1.5"), "precise": Precise(2.5), "nan": math.nan}
    assert json.loads(dumps(value)) == {"set": [1], "bytes": "x", "decimal": "1.5", "precise": 2.5, "nan": None}


def test_what_the_encoder_refuses_is_made_safe_first() -> None:
    value = {
        "surrogate \udc80": "a\udc80",
        1: 2**64,
        None: -(2**63),
        b"k": [True, None, 1.5, Precise(2.5)],
        (1, 2): ({"x"}, frozenset({"y"})),
        "enum": Colour.RED,
        "huge": 10**5000,
        "object": Unprintable(),
        "when": dt.date(2025, 3, 21),
    }
    assert json.loads(dumps(value)) == {
        "surrogate \\udc80": "a\\udc80",
        "1": str(2**64),
        "None": -(2**63),
        "k": [True, None, 1.5, 2.5],
        "(1, 2)": [["x"], ["y"]],
        "enum": "r\\udc80",
        "huge": hex(10**5000),
        "object": "<unprintable Unprintable>",
        "when": "2025-03-21",
    }


def test_a_key_that_is_a_kind_of_text_is_written_as_its_text() -> None:
    class Key(str, enum.Enum):
        NAME = "name"

    assert json_safe({Key.NAME: 1}) == {"name": 1}


def test_no_character_within_a_line_ends_it() -> None:
    text = "".join(map(chr, range(0x3000))) + "\U0001f600"
    line = json_line(dumps(text))
    assert len(line.splitlines()) == 1
    assert json.loads(line) == text
    assert "\x9b" not in line


@given(
    st.recursive(
        st.none()
        | st.integers()
        | st.floats()
        | st.text(st.characters())
        | st.binary()
        | st.datetimes()
        | st.decimals(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()) | st.integers() | st.binary(), inner),
    )
)
def test_anything_becomes_one_line_of_json(value: Any) -> None:
    line = json_line(dumps(value))
    json.loads(line)
    assert len(line.splitlines()) == 1
