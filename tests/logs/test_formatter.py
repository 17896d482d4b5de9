from __future__ import annotations

import datetime as dt
import json
import logging
import math
import os
import re
import socket
import sys
import time
from io import StringIO
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider

from asgi_obs import errors
from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import Exchange, ExchangeMiddleware
from asgi_obs.logs import LogContext, StructuredLogFormatter, bind, get_logger
from asgi_obs.redaction import MASK
from asgi_obs.settings import LOG_PROFILES, Settings
from asgi_obs.testing import drive, http_scope
from asgi_obs.types import Observer, Receive, Scope, Send
from tests.spans import span_context

pytestmark = pytest.mark.anyio

FORMATTER = StructuredLogFormatter(
    settings=Settings(
        service_name="shop",
        version="1",
        environment="testing",
        log_level="INFO",
        log_format="json",
        sensitive_fields=("password", "token"),
    )
)


class Identify(Observer):
    def on_start(self, exchange: Exchange) -> None:
        exchange.correlation_id = "c-1"
        exchange.span_context = span_context()


def record_with(level: int = logging.INFO, msg: Any = "hello", name: str = "test", **attributes: Any) -> Any:
    record = logging.LogRecord(name, level, "test.py", 1, msg, (), None)
    record.__dict__.update(attributes)
    return record


def line_of(record: logging.LogRecord, formatter: logging.Formatter = FORMATTER) -> dict[str, Any]:
    text = formatter.format(record)
    assert len(text.splitlines()) == 1
    line: dict[str, Any] = json.loads(text)
    return line


def caught(error: BaseException) -> Any:
    try:
        raise error
    except BaseException:
        return sys.exc_info()


def test_structured_logger_format() -> None:
    formatter = StructuredLogFormatter("test-service")
    record = logging.LogRecord(
        name="test", level=logging.INFO, pathname="test.py", lineno=42, msg="Test message", args=(), exc_info=None
    )
    record.correlation_id = "test-correlation-id"
    record.user_id = "test-user-id"
    formatted = formatter.format(record)
    log_data = json.loads(formatted)
    assert log_data["level"] == "INFO"
    assert log_data["service"] == "test-service"
    assert log_data["component"] == "test"
    assert log_data["message"] == "Test message"
    assert log_data["correlation_id"] == "test-correlation-id"
    assert log_data["user_id"] == "test-user-id"
    assert "timestamp" in log_data


def test_logger_with_correlation_id() -> None:
    log_output = StringIO()
    handler = logging.StreamHandler(log_output)
    handler.setFormatter(StructuredLogFormatter("test-service"))
    logger = get_logger("test")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    with LogContext("test-correlation-id", user_id="test-user"):
        logger.info("Test message with context")
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    log_data = json.loads(log_output.getvalue())
    assert log_data["correlation_id"] == "test-correlation-id"
    assert log_data["user_id"] == "test-user"
    assert log_data["message"] == "Test message with context"


def test_the_fields_stand_as_they_were_given_and_error_and_context_behind_them() -> None:
    record = record_with(
        client_ip="::1",
        outcome="completed",
        path="/x",
        method="GET",
        user_id="u",
        correlation_id="c",
        context={"a": 1},
        exc_info=caught(ValueError("x")),
    )
    assert list(line_of(record)) == [
        "timestamp", "level", "service", "component", "message",
        "client_ip", "outcome", "path", "method", "user_id", "correlation_id", "error", "context",
        "hostname", "pid", "environment", "version",
    ]  # fmt: skip


def test_service_host_and_process_are_named() -> None:
    line = line_of(record_with(level=logging.WARNING, name="shop.cart"))
    assert (line["level"], line["service"], line["component"]) == ("WARN", "shop", "shop.cart")
    assert (line["hostname"], line["pid"]) == (socket.gethostname(), os.getpid())
    assert (line["environment"], line["version"]) == ("testing", "1")


def test_a_record_of_another_process_keeps_its_pid() -> None:
    assert line_of(record_with(process=4242))["pid"] == 4242
    assert line_of(record_with(process=None))["pid"] == os.getpid()
    assert line_of(record_with())["pid"] == os.getpid()


def test_the_timestamp_is_utc_with_milliseconds() -> None:
    lines = [line_of(record_with(created=created)) for created in (1742552130.1239, 1742552130.9999, 1742552131.0)]
    assert [line["timestamp"] for line in lines] == [
        "2025-03-21T10:15:30.123Z",
        "2025-03-21T10:15:30.999Z",
        "2025-03-21T10:15:31.000Z",
    ]


def test_the_service_is_that_of_the_settings_unless_it_is_given(settings: Settings) -> None:
    assert line_of(record_with(), StructuredLogFormatter(settings=settings))["service"] == "shop"
    assert line_of(record_with(), StructuredLogFormatter("cart", settings=settings))["service"] == "cart"


@pytest.mark.parametrize("name", ["", 5])
def test_a_service_without_a_name_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="service_name"):
        StructuredLogFormatter(name)


def test_extra_fields_stand_at_the_top_level() -> None:
    assert line_of(record_with(item="x", price=None, tags=["a"])).items() >= {
        "item": "x", "price": None, "tags": ["a"],
    }.items()  # fmt: skip


def test_what_others_put_on_records_is_no_field() -> None:
    line = line_of(record_with(message="old", asctime="now", color_message="\x1b[1mold"))
    assert line["message"] == "hello"
    assert not {"asctime", "color_message", "msg", "args", "taskName"} & line.keys()


def test_a_reserved_name_moves_under_context() -> None:
    line = line_of(record_with(level=logging.INFO, service="mine", version="9", environment="x", context={"a": 1}))
    assert (line["service"], line["version"], line["environment"]) == ("shop", "1", "testing")
    assert line["context"] == {"service": "mine", "version": "9", "environment": "x", "a": 1}


def test_a_context_that_is_no_object_becomes_part_of_one() -> None:
    assert line_of(record_with(context="a"))["context"] == {"context": "a"}


def test_a_schema_field_without_a_value_is_left_out() -> None:
    with LogContext("c-1"):
        line = line_of(record_with(correlation_id=None, user_id=None))
    assert line["correlation_id"] == "c-1"
    assert "user_id" not in line


def test_extra_wins_over_the_context() -> None:
    with LogContext("c-1", user_id="u", a=1, b=1):
        line = line_of(record_with(user_id="extra", context={"b": 2}))
    assert (line["correlation_id"], line["user_id"], line["context"]) == ("c-1", "extra", {"a": 1, "b": 2})


async def test_a_record_in_a_request_has_its_ids() -> None:
    lines = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        bind(user_id="u")
        lines.append(line_of(record_with()))
        with TracerProvider().get_tracer("t").start_as_current_span("inner") as span:
            lines.append(line_of(record_with()))
            lines.append({"trace_id": f"{span.get_span_context().trace_id:032x}"})

    await drive(ExchangeMiddleware(app, observers=(Identify(),)), http_scope())  # type: ignore[abstract]
    outside, inside, span = lines
    assert (outside["correlation_id"], outside["trace_id"], outside["span_id"]) == ("c-1", "a" * 32, "b" * 16)
    assert outside["user_id"] == "u"
    assert (inside["correlation_id"], inside["trace_id"]) == ("c-1", span["trace_id"])


async def test_what_a_server_logs_about_a_failed_request_has_its_ids() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x") as raised:
        await drive(ExchangeMiddleware(app, observers=(Identify(),)), http_scope())  # type: ignore[abstract]
    error = raised.value
    assert line_of(record_with(exc_info=(type(error), error, error.__traceback__)))["correlation_id"] == "c-1"
    assert "correlation_id" not in line_of(record_with(exc_info=caught(ValueError("another"))))


def test_a_record_outside_of_a_request_has_the_ids_of_the_current_span() -> None:
    with TracerProvider().get_tracer("t").start_as_current_span("job") as span:
        line = line_of(record_with())
    assert line["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert line["span_id"] == f"{span.get_span_context().span_id:016x}"


def test_an_exception_is_an_error_with_its_stack() -> None:
    error = line_of(record_with(exc_info=caught(ValueError("bad"))))["error"]
    assert (error["type"], error["message"]) == ("ValueError", "bad")
    assert error["stack"].startswith("Traceback (most recent call last):\n")
    assert error["stack"].endswith("ValueError: bad\n")


def test_the_type_of_an_error_has_its_module() -> None:
    assert line_of(record_with(exc_info=caught(json.JSONDecodeError("m", "", 0))))["error"]["type"] == (
        "json.decoder.JSONDecodeError"
    )


def test_no_stack_is_written_in_production() -> None:
    production = StructuredLogFormatter(settings=Settings(environment="production"))
    for record in (
        record_with(exc_info=caught(ValueError("bad"))),
        record_with(error={"type": "ValueError", "stack": "Traceback"}),
        record_with(stack_info="Stack", exc_text="Traceback"),
    ):
        assert "stack" not in production.format(record).lower()
        line_of(record, production)


def test_the_stack_of_the_call_is_written_when_asked_for() -> None:
    assert line_of(record_with(stack_info="Stack (most recent call last)"))["context"] == {
        "stack_info": "Stack (most recent call last)"
    }


def test_exc_info_without_an_exception_is_no_error() -> None:
    assert "error" not in line_of(record_with(exc_info=(None, None, None)))
    assert "error" not in line_of(record_with(exc_info=True))


def test_an_error_given_as_a_field_is_kept() -> None:
    assert line_of(record_with(error={"type": "X", "stack": "s"}))["error"] == {"type": "X", "stack": "s"}
    assert line_of(record_with(error="x"))["error"] == "x"
    assert line_of(record_with(error=KeyError("x")))["error"]["type"] == "KeyError"


def test_an_exception_wins_over_an_error_given_as_a_field() -> None:
    line = line_of(record_with(error="mine", exc_info=caught(KeyError("x"))))
    assert line["error"]["type"] == "KeyError"
    assert line["context"] == {"error": "mine"}


def test_the_traceback_of_a_record_from_another_process_is_kept() -> None:
    assert line_of(record_with(exc_text="Traceback"))["error"] == {"stack": "Traceback"}


def test_no_exception_is_no_error() -> None:
    record = record_with(exc_info=(None, None, None), exc_text="NoneType: None")
    assert "error" not in line_of(record)


def test_an_exception_whose_parts_raise_is_still_an_error() -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

        @property
        def __cause__(self) -> Any:
            raise RuntimeError("no")

    error = line_of(record_with(exc_info=caught(Hostile())))["error"]
    assert error["message"] == "<unprintable Hostile>"
    assert error["stack"].endswith("<unprintable Hostile>\n")


def test_the_formatter_redacts_keys_urls_and_queries() -> None:
    line = line_of(
        record_with(
            msg="connecting to postgres://u:p@db",
            password="x",
            url="http://u:p@h/?token=x",
            query="a=1&token=x",
            deep=[{"token": "x"}],
            exc_info=caught(OSError("no http://u:p@h")),
        )
    )
    assert line["message"] == "connecting to postgres://******@db"
    assert (line["password"], line["url"]) == (MASK, "http://******@h/?token=******")
    assert (line["query"], line["deep"]) == ("a=1&token=******", [{"token": MASK}])
    assert line["error"]["message"] == "no http://******@h"
    assert "u:p@" not in line["error"]["stack"]


def test_a_line_that_cannot_be_made_is_replaced_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [reported.append])
    line = line_of(record_with(created="yesterday", level=logging.ERROR))
    assert (line["level"], line["service"], line["component"]) == ("ERROR", "shop", "test")
    assert line["message"] == "a log record could not be formatted"
    assert line["error"]["type"] == "ValueError"
    assert abs(time.time() - _seconds(line["timestamp"])) < 86_400
    assert reported == ["StructuredLogFormatter.format"]


def _seconds(timestamp: str) -> float:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", timestamp)
    return time.mktime(time.strptime(timestamp[:19], "%Y-%m-%dT%H:%M:%S"))


def test_loggers_without_end_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_obs.logs.formatter.MAX_HEADS", 10)
    formatter = StructuredLogFormatter("shop")
    for number in range(25):
        assert line_of(record_with(name=f"logger-{number}"), formatter)["component"] == f"logger-{number}"
    assert len(formatter._heads) <= 10


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_strange_values_do_not_cost_the_line() -> None:
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    line = line_of(
        record_with(
            msg="lone \udc80\n", cycle=cycle, nan=math.nan, big=2**70, keys={1: 2}, thing=Unprintable(), name="n\udc80"
        )
    )
    assert (line["message"], line["component"]) == ("lone \\udc80\n", "n\\udc80")
    assert line["cycle"] == {"self": "<circular>"}
    assert (line["nan"], line["big"], line["keys"]) == (None, str(2**70), {"1": 2})
    assert line["thing"] == "<unprintable Unprintable>"


ANY_TEXT = st.text(st.characters())
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | ANY_TEXT
    | st.binary()
    | st.datetimes()
    | st.builds(Unprintable)
    | st.sets(st.integers())
    | st.complex_numbers(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(ANY_TEXT | st.integers() | st.none(), inner) | st.tuples(inner, inner)
    ),
    max_leaves=10,
)


FORMATTERS = [
    StructuredLogFormatter(
        settings=Settings(service_name="shop", version="1", environment="testing", log_profile=profile)
    )
    for profile in LOG_PROFILES
]


@pytest.mark.parametrize("formatter", FORMATTERS, ids=LOG_PROFILES)
@given(
    msg=ANY_TEXT | ANYTHING,
    args=st.lists(ANYTHING, max_size=3).map(tuple),
    name=ANY_TEXT,
    extra=st.dictionaries(ANY_TEXT | st.sampled_from(["service", "context", "error", "query", "message"]), ANYTHING),
    error=st.none() | ANY_TEXT.map(ValueError),
)
def test_any_record_is_one_line_of_json(
    formatter: logging.Formatter,
    msg: Any,
    args: tuple[Any, ...],
    name: str,
    extra: dict[str, Any],
    error: BaseException | None,
) -> None:
    record = record_with(msg=msg, name=name)
    record.args = args
    record.__dict__.update({key: value for key, value in extra.items() if key not in record.__dict__})
    if error is not None:
        record.exc_info = (type(error), error, None)
    assert line_of(record, formatter)
    assert "could not be formatted" not in formatter.format(record)


@pytest.mark.parametrize("formatter", FORMATTERS, ids=LOG_PROFILES)
@given(attributes=st.dictionaries(st.sampled_from(list(logging.makeLogRecord({}).__dict__)), ANYTHING))
def test_a_record_with_any_attributes_is_one_line_of_json(
    formatter: logging.Formatter, attributes: dict[str, Any]
) -> None:
    record = record_with()
    record.__dict__.update(attributes)
    assert line_of(record, formatter)


@given(extra=st.dictionaries(st.sampled_from("abcdef"), ANYTHING, min_size=1))
def test_a_record_with_any_objects_of_its_own_is_never_left_out(extra: dict[str, Any]) -> None:
    line = line_of(record_with(**extra))
    assert (line["message"], extra.keys() - line.keys()) == ("hello", set())


def test_a_cycle_of_any_containers_is_one_line_of_json() -> None:
    cycle: list[Any] = []
    cycle.append(({"again": cycle}, {1, 2}))
    for formatter in FORMATTERS:
        assert line_of(record_with(cycle=cycle), formatter)


def test_two_names_of_one_level_are_told_apart() -> None:
    names = [line_of(record_with(level=25, levelname=name))["level"] for name in ("SUCCESS", "NOTICE")]
    assert names == ["SUCCESS", "NOTICE"]


def test_a_profile_writes_the_line_in_its_own_schema() -> None:
    settings = Settings(service_name="shop", version="1", environment="testing", log_profile="ecs")
    line = line_of(record_with(order_id=7), StructuredLogFormatter(settings=settings))
    assert (line["log.level"], line["service"]["name"], line["process"]["pid"]) == ("info", "shop", os.getpid())


def test_in_production_no_part_of_an_error_that_was_given_has_a_stack() -> None:
    production = StructuredLogFormatter(settings=Settings(service_name="shop", environment="production"))
    given = {"type": "E", "stack": "S", "causes": [{"type": "C", "stack": "S"}], "exceptions": ({"stack": "S"},)}
    for error in (given, MappingProxyType(given)):
        line = line_of(record_with(error=error), production)
        assert line["error"] == {"type": "E", "causes": [{"type": "C"}], "exceptions": [{}]}


class BrokenZone(dt.tzinfo):
    """Raises from C, which has ended processes."""


def test_a_time_whose_zone_raises_is_written_as_a_text() -> None:
    line = line_of(record_with(at=dt.datetime(2026, 3, 21, tzinfo=BrokenZone()), day=dt.date(2026, 3, 21)))
    assert (line["at"], line["day"]) == ("<unprintable datetime>", "2026-03-21")


@pytest.mark.parametrize("formatter", FORMATTERS, ids=LOG_PROFILES)
def test_what_is_nested_deeply_does_not_cost_the_line(formatter: logging.Formatter) -> None:
    for wrap in (lambda inner: [inner], lambda inner: {"a": inner}, lambda inner: [{"a": (inner,)}]):
        value: Any = "core"
        for _ in range(90):
            value = wrap(value)
        text = formatter.format(record_with(value=value))
        assert "hello" in text
        assert "core" in text or "<too deep>" in text


@pytest.mark.parametrize("formatter", FORMATTERS[1:], ids=LOG_PROFILES[1:])
@pytest.mark.parametrize("levelno", [logging.INFO, None])
def test_the_last_resort_is_in_the_schema_of_the_profile(formatter: logging.Formatter, levelno: Any) -> None:
    line = line_of(record_with(created=math.inf, levelno=levelno), formatter)
    assert line.keys() >= line_of(record_with(), formatter).keys() & {"@timestamp", "severity", "resourceLogs"}
    assert "could not be formatted" in str(line)
