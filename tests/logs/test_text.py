from __future__ import annotations

import logging
import sys
from typing import Any

import pytest

from asgi_obs import errors
from asgi_obs.logs import TextLogFormatter
from asgi_obs.logs.text import _COLOURS
from asgi_obs.settings import Settings


@pytest.fixture
def formatter(settings: Settings) -> TextLogFormatter:
    return TextLogFormatter(settings=settings)


def record_with(level: int = logging.INFO, msg: Any = "hello", name: str = "shop.cart", **attributes: Any) -> Any:
    record = logging.LogRecord(name, level, "test.py", 1, msg, (), None)
    record.created = 1742552130.1239
    record.__dict__.update(attributes)
    return record


def test_a_line_has_time_level_component_message_fields_and_a_short_id(formatter: TextLogFormatter) -> None:
    record = record_with(item="x", n=2, correlation_id="550e8400-e29b-41d4-a716-446655440000", context={"w": "a b"})
    assert formatter.format(record) == (
        '2025-03-21 10:15:30.123 INFO  shop.cart        hello  item=x n=2 w="a b"  [550e8400]'
    )


def test_a_record_without_fields_ends_with_its_message(formatter: TextLogFormatter) -> None:
    assert formatter.format(record_with()).endswith("shop.cart        hello")


def test_a_record_with_nothing_but_an_id_shows_the_id(formatter: TextLogFormatter) -> None:
    assert formatter.format(record_with(correlation_id="c-1")).endswith("hello  [c-1]")


def test_what_is_in_the_message_of_a_request_is_not_repeated(formatter: TextLogFormatter) -> None:
    record = record_with(msg="GET /x 200", method="GET", path="/x", status_code=200, duration_ms=1.5, user_agent="c")
    assert formatter.format(record).endswith("GET /x 200  duration_ms=1.5")


def test_values_that_are_no_single_word_are_quoted(formatter: TextLogFormatter) -> None:
    record = record_with(a="", b="x=y", c='say "hi"', d=["x", 1], e=None, f="ü")
    assert formatter.format(record).endswith(r"""a="" b="x=y" c="say \"hi\"" d=["x",1] e=null f=ü""")


def test_the_stack_of_an_error_stands_below(formatter: TextLogFormatter) -> None:
    try:
        raise ValueError("bad\x1b[2J")
    except ValueError:
        record = record_with(level=logging.ERROR, exc_info=sys.exc_info(), stack_info="Stack:\n  here")
    first, *below = formatter.format(record).split("\n")
    assert "error.type=ValueError" in first
    assert "stack" not in first
    assert below[0] == "    Traceback (most recent call last):"
    assert "    ValueError: bad\\x1b[2J" in below
    assert below[-2:] == ["    Stack:", "      here"]


def test_no_stack_is_written_in_production() -> None:
    formatter = TextLogFormatter(settings=Settings(environment="production"))
    record = record_with(exc_info=(ValueError, ValueError("bad"), None))
    assert formatter.format(record).endswith("error.type=ValueError error.message=bad")


def test_an_error_that_is_no_object_is_a_field_like_any_other(formatter: TextLogFormatter) -> None:
    assert formatter.format(record_with(error="bad")).endswith("error=bad")


def test_no_record_can_forge_a_line_or_move_the_cursor(formatter: TextLogFormatter) -> None:
    record = record_with(msg="a\nb\x1b[2J", name="n\n", **{"k\n": "v\n\x9b", "correlation_id": "\x1b[1m"})
    line = formatter.format(record)
    assert line.isprintable()
    assert r"a\nb\x1b[2J" in line


def test_the_formatter_redacts(formatter: TextLogFormatter) -> None:
    line = formatter.format(record_with(msg="to http://u:p@h", password="x", context={"token": "y"}))
    assert line.endswith("to http://******@h  password=****** token=******")


@pytest.mark.parametrize("level", [5, 10, 20, 30, 40, 50])
def test_a_level_has_its_colour_if_asked_for(settings: Settings, level: int) -> None:
    line = TextLogFormatter(settings=settings, colour=True).format(record_with(level=level, a=1))
    assert any(f"{colour}{name:<5}\x1b[0m" in line for name, colour in _COLOURS.items())
    assert "hello  \x1b[2ma=1\x1b[0m" in line


def test_a_level_of_others_has_no_colour(settings: Settings) -> None:
    assert " Level 25 " in TextLogFormatter(settings=settings, colour=True).format(record_with(level=25))


def test_the_settings_are_those_of_the_environment_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSITIVE_FIELDS", "iban")
    assert TextLogFormatter().format(record_with(iban="x")).endswith("iban=******")


def test_a_line_that_cannot_be_made_is_replaced_and_reported(
    formatter: TextLogFormatter, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [reported.append])
    assert formatter.format(record_with(created="yesterday", name="n\n")) == (
        "a log record of n\\n could not be formatted"
    )
    assert reported == ["TextLogFormatter.format"]
