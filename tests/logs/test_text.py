from __future__ import annotations

import logging
from io import StringIO
from typing import Any

import pytest

from asgi_obs import errors
from asgi_obs.logs import TextLogFormatter
from asgi_obs.logs.failure import describe
from asgi_obs.logs.text import wants_colour
from asgi_obs.settings import Settings


@pytest.fixture
def formatter(settings: Settings) -> TextLogFormatter:
    return TextLogFormatter(settings=settings)


@pytest.fixture
def production() -> TextLogFormatter:
    return TextLogFormatter(settings=Settings(environment="production"))


@pytest.fixture
def coloured(settings: Settings) -> TextLogFormatter:
    return TextLogFormatter(settings=settings, colour=True)


def caught(error: BaseException, cause: BaseException | None = None) -> BaseException:
    with pytest.raises(type(error)):
        raise error from cause
    return error


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
    assert formatter.format(record_with(trace_id="4bf92f3577b34da6", span_id="b")).endswith("hello  [4bf92f35]")


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("shop", "shop            "),
        ("asgi_obs.request", "asgi_obs.request"),
        ("sqlalchemy.engine.Engine", "s.engine.Engine "),
        ("sqlalchemy.ext.asyncio.engine", "s.e.a.engine    "),
        ("a_logger_with_a_long_name", "with_a_long_name"),
        ("shop.a_logger_with_a_long_name", "with_a_long_name"),
    ],
)
def test_components_stand_in_a_column(formatter: TextLogFormatter, name: str, column: str) -> None:
    assert formatter.format(record_with(name=name)) == f"2025-03-21 10:15:30.123 INFO  {column} hello"


def test_what_is_in_the_message_of_a_request_is_not_repeated(formatter: TextLogFormatter) -> None:
    record = record_with(msg="GET /x 200", method="GET", path="/x", status_code=200, duration_ms=1.5, user_agent="c")
    assert formatter.format(record).endswith("GET /x 200  duration_ms=1.5")


def test_what_is_not_in_the_message_is_a_field(formatter: TextLogFormatter) -> None:
    assert formatter.format(record_with(path="/x", scheme="s3")).endswith("hello  path=/x scheme=s3")
    assert formatter.format(record_with(method="GET", path="/x")).endswith("hello  method=GET path=/x")


def test_values_that_are_no_single_word_are_quoted(formatter: TextLogFormatter) -> None:
    record = record_with(a="", b="x=y", c='say "hi"', d=["x", 1], e=None, f="ü")
    assert formatter.format(record).endswith(r"""a="" b="x=y" c="say \"hi\"" d=["x",1] e=null f=ü""")


def test_the_stack_of_an_error_stands_below(formatter: TextLogFormatter) -> None:
    error = caught(ValueError("bad\x1b[2J"), cause=KeyError("k"))
    record = record_with(level=logging.ERROR, exc_info=error, stack_info="Stack:\n  here")
    first, *below = formatter.format(record).split("\n")
    assert first.endswith("hello  ValueError: bad\\x1b[2J")
    assert below[0] == "    KeyError: 'k'"
    assert "    Traceback (most recent call last):" in below
    assert "    ValueError: bad\\x1b[2J" in below
    assert below[-2:] == ["    Stack:", "      here"]
    assert all(not line or line.startswith("    ") for line in below)


def test_an_error_has_its_type_and_message_in_the_line(production: TextLogFormatter) -> None:
    assert production.format(record_with(exc_info=ValueError("bad"), a=1)).endswith("hello  a=1  ValueError: bad")
    assert production.format(record_with(exc_info=ValueError())).endswith("hello  ValueError")


def test_without_a_stack_causes_and_members_stand_below(production: TextLogFormatter) -> None:
    member = caught(ValueError("a\nb"), cause=OSError("disk"))
    group = ValueError("many")
    group.exceptions = [member] + [KeyError("k")] * 30  # type: ignore[attr-defined] # a group, to Python 3.10
    error = describe(caught(RuntimeError("r"), cause=group), stack=False)
    _, *below = production.format(record_with(error=error)).split("\n")
    assert below[:4] == [
        "    caused by ValueError: many",
        r"        + ValueError: a\nb",
        "            caused by OSError: disk",
        "        + KeyError: 'k'",
    ]
    assert below[-1] == "        + 1 more"
    assert len(below) == 33


def test_an_error_of_others_is_shown_whatever_it_has(formatter: TextLogFormatter) -> None:
    given = {"type": "X", "code": 7, "causes": "unknown", "stack": "at 1\nat 2"}
    assert formatter.format(record_with(error=given)).split("\n") == [
        "2025-03-21 10:15:30.123 INFO  shop.cart        hello  error.code=7 error.causes=unknown  X",
        "    at 1",
        "    at 2",
    ]
    assert formatter.format(record_with(error={"message": "bad"})).endswith("hello  error.message=bad")


def test_an_error_that_is_no_object_is_a_field_like_any_other(formatter: TextLogFormatter) -> None:
    assert formatter.format(record_with(error="bad")).endswith("error=bad")


def test_no_record_can_forge_a_line_or_move_the_cursor(formatter: TextLogFormatter) -> None:
    record = record_with(msg="a\nb\x1b[2J", name="n\n", **{"k\n": "v\n\x9b", "correlation_id": "\x1b[1m"})
    line = formatter.format(record)
    assert line.isprintable()
    assert r"a\nb\x1b[2J" in line


@pytest.mark.parametrize("char", ["\u202e", "\u2066", "\u200b", "\ufeff", "\u3164", "\ufe0f", "\U000e0101", "\u2028"])
def test_what_turns_text_or_cannot_be_seen_is_escaped(formatter: TextLogFormatter, char: str) -> None:
    record = record_with(msg=f"is{char}admin", name=f"n{char}", **{f"k{char}": f"v{char}ü"})
    line = formatter.format(record)
    assert char not in line
    assert line.count(char.encode("unicode_escape").decode()) == 4
    assert "ü" in line


def test_the_formatter_redacts(formatter: TextLogFormatter) -> None:
    line = formatter.format(record_with(msg="to http://u:p@h", password="x", context={"token": "y"}))
    assert line.endswith("to http://******@h  password=****** token=******")


@pytest.mark.parametrize(
    ("level", "name", "message"),
    [
        (5, "\x1b[2mTRACE\x1b[0m", "hello"),
        (10, "\x1b[36mDEBUG\x1b[0m", "hello"),
        (20, "\x1b[32mINFO \x1b[0m", "hello"),
        (30, "\x1b[33mWARN \x1b[0m", "hello"),
        (40, "\x1b[31mERROR\x1b[0m", "\x1b[31mhello\x1b[0m"),
        (50, "\x1b[1;31mFATAL\x1b[0m", "\x1b[1;31mhello\x1b[0m"),
    ],
)
def test_a_level_has_its_colour_if_asked_for(coloured: TextLogFormatter, level: int, name: str, message: str) -> None:
    assert coloured.format(record_with(level=level, a=1, correlation_id="c")) == (
        f"\x1b[2m2025-03-21 10:15:30.123\x1b[0m {name} \x1b[2mshop.cart       \x1b[0m {message}"
        "  \x1b[2ma=\x1b[0m1  \x1b[2m[c]\x1b[0m"
    )


def test_in_colour_the_frames_of_a_stack_step_back(coloured: TextLogFormatter) -> None:
    first, *below = coloured.format(record_with(exc_info=caught(ValueError("bad")))).split("\n")
    assert first.endswith("hello  \x1b[31mValueError: bad\x1b[0m")
    assert below[0] == "    Traceback (most recent call last):"
    assert below[1].startswith("    \x1b[2m  File ")
    assert below[-1] == "    ValueError: bad"


def test_a_level_of_others_has_no_colour(settings: Settings) -> None:
    assert " Level 25 " in TextLogFormatter(settings=settings, colour=True).format(record_with(level=25))


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "stream", "expected"),
    [
        ({}, Terminal(), True),
        ({}, StringIO(), False),
        ({}, None, False),
        ({}, object(), False),
        ({"TERM": "dumb"}, Terminal(), False),
        ({"NO_COLOR": "1"}, Terminal(), False),
        ({"NO_COLOR": ""}, Terminal(), True),
        ({"FORCE_COLOR": "1"}, StringIO(), True),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, None, True),
        ({"FORCE_COLOR": ""}, StringIO(), False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, Terminal(), False),
    ],
)
def test_colour_is_for_terminals_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], stream: Any, expected: bool
) -> None:
    for variable in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert wants_colour(stream) is expected


def test_a_closed_stream_wants_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    stream = StringIO()
    stream.close()
    assert wants_colour(stream) is False


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
