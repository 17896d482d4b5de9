from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import pytest
from pydantic import BaseModel, Field, RootModel, SecretBytes, SecretStr
from starlette.datastructures import Secret

from asgi_obs.redaction import MASK, Redactor, structures
from asgi_obs.redaction.structures import is_clean

REDACTOR = Redactor(["password", "token"])


class Colour(enum.Enum):
    RED = "red"
    SECRET = "password=x"


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no")


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        (),
        {"a": 1, "b": [1.5, None, True, "text"], "c": ({"d": []},)},
        {"name": "user", "value": "ann"},
        {"value": 5},
        {"name": 5, "value": 5},
        [["a", 1], ("b", 2)],
        {"n": 10**30, "m": -(10**15)},
    ],
)
def test_plain_data_without_secrets_is_returned_as_it_is(data: Any) -> None:
    assert REDACTOR.redact(data) is data


@pytest.mark.parametrize(
    "data",
    [
        {"token": 1},
        {"a": {"token": 1}},
        {1: 1},
        {"a": "password=x"},
        {"password=x": 1},
        {"query": "a=1"},
        {"name": "password", "value": 1},
        {"a": ["token", 1]},
        {"a": {1}},
        {"a": 4111111111111111},
        ["--token", "x"],
        {"loc": ("a", "token"), "input": "x"},
    ],
)
def test_all_else_is_copied(data: Any) -> None:
    assert not is_clean(REDACTOR, data)


def test_plain_data_without_end_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structures, "MAX_PLAIN", 10)
    data = [[i] for i in range(20)]

    assert REDACTOR.redact(data) == data
    assert REDACTOR.redact(data) is not data


@pytest.mark.parametrize(
    ("arguments", "redacted"),
    [
        (["mysql", "--password", "x", "-e", "y"], ["mysql", "--password", MASK, "-e", "y"]),
        (("-token", b"x"), ("-token", MASK)),
        (["--token=x", "y"], [f"--token={MASK}", "y"]),
        (["--token", "--verbose", "y"], ["--token", "--verbose", "y"]),
        (["-p", "x", "--user", "token"], ["-p", "x", "--user", "token"]),
        (["--token"], ["--token"]),
    ],
)
def test_an_argument_behind_a_sensitive_option_is_its_value(arguments: Any, redacted: Any) -> None:
    assert REDACTOR.redact({"command": arguments}) == {"command": redacted}
    assert REDACTOR.redact({"command": arguments}) == {"command": redacted}


def test_two_keys_that_were_masked_do_not_become_one() -> None:
    assert REDACTOR.redact({"http://a:b@h": 1, "http://c:d@h": 2}) == {
        f"http://{MASK}@h": 1,
        f"http://{MASK}@h (1)": 2,
    }


def test_keys_of_other_types_are_redacted_too() -> None:
    data = {b"http://u:p@h": 1, ("http://u:p@h", 5): 2}

    assert REDACTOR.redact(data) == {f"http://{MASK}@h".encode(): 1, (f"http://{MASK}@h", 5): 2}


@dataclass
class Pin:
    user: str
    pin: str = field(repr=False)


class Card(BaseModel):
    user: str
    pin: str = Field(repr=False)


class Root(RootModel[list[str]]):
    pass


class Dumped:
    def model_dump(self) -> dict[str, str]:
        return {"user": "ann", "token": "x"}


@pytest.mark.parametrize(
    ("value", "redacted"),
    [
        (Pin("ann", "1234"), {"user": "ann", "pin": MASK}),
        (Card(user="ann", pin="1234"), {"user": "ann", "pin": MASK}),
        (Root(["a", "password=x"]), ["a", f"password={MASK}"]),
        (Dumped(), {"user": "ann", "token": MASK}),
        (Secret("x"), MASK),
        (SecretStr("x"), MASK),
        (SecretBytes(b"x"), MASK),
    ],
)
def test_what_its_author_hides_stays_hidden(value: Any, redacted: Any) -> None:
    assert REDACTOR.redact([value]) == [redacted]


def test_counts_under_a_sensitive_key_are_copied() -> None:
    data = {"prompt_tokens_details": {"cached_tokens": 5}, "a": {1}}

    assert REDACTOR.redact(data) == data
    assert REDACTOR.redact(data)["prompt_tokens_details"] is not data["prompt_tokens_details"]


def test_keys_are_texts_too() -> None:
    assert REDACTOR.redact({"a": {"http://u:p@h": 1, 5: 2}}) == {"a": {f"http://{MASK}@h": 1, 5: 2}}


@pytest.mark.parametrize(
    ("data", "redacted"),
    [
        ({"name": "password", "value": "x"}, {"name": "password", "value": MASK}),
        ({"Name": "password", "Value": "x"}, {"Name": "password", "Value": MASK}),
        ({"field": "password", "input": "x"}, {"field": "password", "input": MASK}),
        ({"loc": ("body", 0, "token"), "input": "x"}, {"loc": ("body", 0, "token"), "input": MASK}),
        ({"loc": "x", "input": "x"}, {"loc": "x", "input": "x"}),
        ({"key": b"token", "val": "x"}, {"key": b"token", "val": MASK}),
        ({"header": "X-Token", "value": ["x"], "n": 1}, {"header": "X-Token", "value": MASK, "n": 1}),
        ({"name": 5, "key": "password", "value": 5}, {"name": 5, "key": "password", "value": MASK}),
    ],
)
def test_a_value_is_judged_by_the_name_beside_it(data: Any, redacted: Any) -> None:
    assert REDACTOR.redact([data]) == [redacted]


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_bytes_are_texts_and_keep_their_type(kind: Any) -> None:
    redacted = REDACTOR.redact({"a": kind("ü password=x \udcff".encode("utf-8", "surrogateescape"))})["a"]

    assert redacted == f"ü password={MASK} \udcff".encode("utf-8", "surrogateescape")
    assert type(redacted) is kind


def test_a_view_of_bytes_becomes_bytes_if_there_is_something_to_redact() -> None:
    clean = memoryview(b"abc")

    assert REDACTOR.redact([clean, memoryview(b"password=x")]) == [clean, b"password=******"]


@pytest.mark.parametrize(
    "value",
    [
        Colour.RED,
        dt.date(2025, 3, 21),
        dt.timedelta(1),
        uuid.UUID(int=5),
        decimal.Decimal("1.5"),
        1j,
        int,
        PurePosixPath("/a/b"),
        ValueError("no"),
        Broken(),
        object,
    ],
)
def test_an_object_whose_text_is_clean_stays(value: Any) -> None:
    assert REDACTOR.redact([value])[0] is value


@pytest.mark.parametrize(
    ("value", "redacted"),
    [
        (ValueError("password=x"), f"password={MASK}"),
        (PurePosixPath("/a/password=x"), f"/a/password={MASK}"),
        (Colour.SECRET, MASK),
        (Text("password=x"), f"password={MASK}"),
    ],
)
def test_an_object_whose_text_is_not_becomes_a_text(value: Any, redacted: str) -> None:
    assert REDACTOR.redact({"a": [value]}) == {"a": [redacted]}
