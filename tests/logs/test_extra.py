from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_obs.logs import StructuredLogFormatter
from asgi_obs.logs.extra import add_fields

RECORD_NAMES = sorted({*logging.makeLogRecord({}).__dict__, "message", "asctime", "color_message"})


def record_with(fields: dict[str, Any]) -> logging.LogRecord:
    record = logging.LogRecord("shop", logging.INFO, "shop.py", 7, "sold", (), None)
    add_fields(record, fields)
    return record


def line_of(record: logging.LogRecord) -> dict[str, Any]:
    return json.loads(StructuredLogFormatter("shop").format(record))


def test_fields_become_attributes_of_the_record() -> None:
    record = record_with({"item": 3, "user_id": "u-1"})
    assert (record.__dict__["item"], record.__dict__["user_id"]) == (3, "u-1")
    assert "context" not in record.__dict__


@pytest.mark.parametrize("name", RECORD_NAMES)
def test_a_name_that_records_have_moves_under_context(name: str) -> None:
    record = record_with({name: "mine", "item": 3})
    assert (record.name, record.msg, record.args, record.levelno) == ("shop", "sold", (), logging.INFO)
    line = line_of(record)
    assert (line["message"], line["item"], line["context"]) == ("sold", 3, {name: "mine"})


@pytest.mark.parametrize(
    ("context", "expected"),
    [({"a": 1}, {"a": 1, "name": "mine"}), ("text", {"context": "text", "name": "mine"})],
)
def test_a_context_that_was_given_keeps_its_fields(context: Any, expected: dict[str, Any]) -> None:
    assert line_of(record_with({"context": context, "name": "mine"}))["context"] == expected


def test_what_a_record_factory_added_is_not_overwritten() -> None:
    record = logging.LogRecord("shop", logging.INFO, "shop.py", 7, "sold", (), None)
    record.__dict__["region"] = "eu"
    add_fields(record, {"region": "mine"})
    assert (record.__dict__["region"], record.__dict__["context"]) == ("eu", {"region": "mine"})


def test_the_fields_given_are_left_alone() -> None:
    fields = {"name": "mine", "context": {"a": 1}}
    record_with(fields)
    assert fields == {"name": "mine", "context": {"a": 1}}


@given(st.dictionaries(st.sampled_from([*RECORD_NAMES, "context", "item"]) | st.text(), st.integers() | st.text()))
def test_whatever_the_names_the_record_stays_what_it_is_and_no_field_is_lost(fields: dict[str, Any]) -> None:
    record = record_with(fields)
    assert (record.getMessage(), record.lineno, record.exc_info) == ("sold", 7, None)
    kept = {name for name in fields if name in record.__dict__}
    context = record.__dict__.get("context", {})
    assert all(name in kept or name in context for name in fields)
