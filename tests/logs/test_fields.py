"""What is read of a record: once, completely, and redacted."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace

from asgi_obs.logs import LogContext
from asgi_obs.logs.fields import RecordReader, span_fields
from asgi_obs.settings import Settings


@pytest.fixture
def reader(settings: Settings) -> RecordReader:
    return RecordReader(settings)


def record_with(**attributes: Any) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": "hello", **attributes})


def test_the_records_of_one_context_have_the_same_fields_and_share_none(reader: RecordReader) -> None:
    with LogContext("c-1", workspace_id="w-1", password="hunter2"):
        first, second = reader.fields(record_with()), reader.fields(record_with())
        first["context"]["workspace_id"] = "changed"
        third = reader.fields(record_with())
    expected = {"correlation_id": "c-1", "context": {"workspace_id": "w-1", "password": "******"}}
    assert (second, third) == (expected, expected)


def test_a_value_that_changes_is_read_again_for_each_record(reader: RecordReader) -> None:
    done: list[str] = []
    with LogContext(done=done):
        before = reader.fields(record_with())["context"]["done"].copy()
        done.append("one")
        after = reader.fields(record_with())["context"]["done"]
    assert (before, after) == ([], ["one"])


def test_two_readers_redact_one_context_each_in_its_own_way(reader: RecordReader) -> None:
    other = RecordReader(Settings(sensitive_fields=("workspace",)))
    with LogContext(workspace_id="w-1", password="hunter2"):
        read = [each.fields(record_with())["context"] for each in (reader, other, reader, other)]
    ours, others = (
        {"workspace_id": "w-1", "password": "******"},
        {"workspace_id": "******", "password": "hunter2"},
    )
    assert read == [ours, others, ours, others]


def test_a_field_of_the_schema_without_a_value_is_left_out(reader: RecordReader) -> None:
    with LogContext(user_id=None, workspace_id=None):
        assert reader.fields(record_with(request_id=None, order_id=None)) == {
            "order_id": None,
            "context": {"workspace_id": None},
        }


def test_attributes_that_a_record_factory_sets_first_are_fields_too(reader: RecordReader) -> None:
    class Record(logging.LogRecord):
        def __init__(self, *arguments: Any) -> None:
            self.region = "eu"
            super().__init__(*arguments)

    assert reader.fields(Record("shop", logging.INFO, "shop.py", 1, "sold", (), None)) == {"region": "eu"}


@pytest.fixture
def invalid_span() -> Iterator[None]:
    span = trace.NonRecordingSpan(trace.SpanContext(0, 0, is_remote=False))
    with trace.use_span(span):
        yield


@pytest.mark.usefixtures("invalid_span")
def test_a_span_without_a_trace_has_no_ids() -> None:
    assert span_fields() == {}


@pytest.mark.parametrize(
    ("message", "arguments", "expected"),
    [
        ("order %s of %d stored", (7, 2.5), "order 7 of 2 stored"),
        ("token=%s", (7,), "token=******"),
        ("login with %s", ("password=hunter2",), "login with password=******"),
        ("paid with %d", (4111111111111111,), "paid with ******"),
        ("paid with %d%d%d%d", (4111, 1111, 1111, 1111), "paid with ******"),
        ("%(name)s is %(age)d", ({"name": "ann", "age": 7},), "ann is 7"),
        ("pw %(password)s of %(name)s", ({"name": "ann", "password": "hunter2"},), "pw ****** of ann"),
        ("got %s", ({"password": "hunter2"},), "got {'password': '******'}"),
        ("pin %(password)d", ({"password": 7},), "pin %(password)d {'password': '******'}"),
        ("nothing of %s", ({},), "nothing of {}"),
    ],
)
def test_a_message_is_redacted_whatever_it_is_made_of(
    reader: RecordReader, message: str, arguments: tuple[Any, ...], expected: str
) -> None:
    for _ in range(2):  # what is known of the template must not matter
        record = logging.LogRecord("shop", logging.INFO, "shop.py", 1, message, arguments, None)
        assert reader.message(record) == expected
