from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from typing import Any

import pytest
import uvicorn

from asgi_obs import errors
from asgi_obs.errors import ConfigurationError
from asgi_obs.logs import LogContext, StructuredLogFormatter, TextLogFormatter, setup_logging
from asgi_obs.logs.setup import StdoutHandler
from asgi_obs.settings import Settings

pytestmark = pytest.mark.usefixtures("root")


async def nothing(scope: Any, receive: Any, send: Any) -> None: ...


def configure_uvicorn(**options: Any) -> uvicorn.Config:
    return uvicorn.Config(nothing, **options)


def own_handlers(root: logging.Logger) -> list[logging.Handler]:
    return [handler for handler in root.handlers if isinstance(handler, StdoutHandler)]


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_records_go_to_standard_output_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    root = setup_logging("shop", "INFO")
    assert root is logging.getLogger()
    logging.getLogger("any.library").info("hello")
    logging.getLogger("any.library").debug("too detailed")
    (line,) = lines_of(capsys)
    assert (line["service"], line["component"], line["message"]) == ("shop", "any.library", "hello")


def test_the_environment_says_what_is_not_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in {
        "SERVICE_NAME": "cart", "VERSION": "7", "ENVIRONMENT": "staging", "LOG_LEVEL": "warn",
    }.items():  # fmt: skip
        monkeypatch.setenv(variable, value)
    root = setup_logging()
    root.warning("hello")
    (line,) = lines_of(capsys)
    assert (line["service"], line["version"], line["environment"]) == ("cart", "7", "staging")
    assert root.level == logging.WARNING


def test_arguments_win_over_the_settings_given(settings: Settings) -> None:
    root = setup_logging("cart", "error", settings=settings)
    assert root.level == logging.ERROR
    assert setup_logging(settings=settings).level == logging.INFO


@pytest.mark.parametrize(
    ("level", "number"),
    [("TRACE", 5), ("debug", 10), ("INFO", 20), ("WARN", 30), ("WARNING", 30), ("ERROR", 40), ("FATAL", 50)],
)
def test_every_level_of_the_schema_can_be_set(level: str, number: int) -> None:
    assert setup_logging(log_level=level).level == number


@pytest.mark.parametrize("level", ["LOUD", "", 20])
def test_a_wrong_level_is_refused_with_those_allowed(level: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"log_level=.*TRACE, DEBUG, INFO, WARN"):
        setup_logging(log_level=level)


def test_a_wrong_level_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    with pytest.raises(ConfigurationError, match=r"LOG_LEVEL=.*TRACE"):
        setup_logging()


@pytest.mark.parametrize("name", ["", 5])
def test_a_service_without_a_name_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="service_name"):
        setup_logging(name)


def test_calling_it_again_replaces_its_own_handler_and_keeps_others(
    capsys: pytest.CaptureFixture[str], root: logging.Logger
) -> None:
    foreign = logging.NullHandler()
    root.addHandler(foreign)
    setup_logging("one")
    setup_logging("two")
    assert len(own_handlers(root)) == 1
    assert foreign in root.handlers
    root.error("hello")
    assert [line["service"] for line in lines_of(capsys)] == ["two"]


def test_the_format_is_that_of_the_settings(monkeypatch: pytest.MonkeyPatch, root: logging.Logger) -> None:
    setup_logging()
    assert type(own_handlers(root)[0].formatter) is StructuredLogFormatter
    monkeypatch.setenv("LOG_FORMAT", "text")
    setup_logging()
    assert type(own_handlers(root)[0].formatter) is TextLogFormatter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "no_color", "coloured"),
    [(Terminal(), None, True), (Terminal(), "", True), (Terminal(), "1", False), (io.StringIO(), None, False)],
)
def test_text_is_coloured_on_a_terminal_unless_no_color_is_set(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, no_color: str | None, coloured: bool
) -> None:
    monkeypatch.setenv("LOG_FORMAT", "text")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys, "stdout", stream)
    setup_logging().error("hello")
    assert ("\x1b[" in stream.getvalue()) is coloured


def test_the_stream_is_looked_up_for_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    root = setup_logging()
    for _ in range(2):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stdout", stream)
        root.error("hello")
        assert json.loads(stream.getvalue())["message"] == "hello"


def test_warnings_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        setup_logging()
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    (line,) = lines_of(capsys)
    assert (line["component"], line["level"]) == ("py.warnings", "WARN")
    assert "DeprecationWarning: old" in line["message"]


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("stream", [Broken(), None])
def test_a_sink_that_fails_never_reaches_the_caller(monkeypatch: pytest.MonkeyPatch, stream: Any) -> None:
    reported: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [reported.append])
    root = setup_logging()
    monkeypatch.setattr(sys, "stdout", stream)
    root.error("hello")
    assert set(reported) == {"StdoutHandler.emit"}


def test_an_error_outside_of_a_handler_is_nothing_to_report(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [reported.append])
    StdoutHandler().handleError(logging.makeLogRecord({}))
    assert reported == []


def test_a_stream_that_cannot_write_a_character_gets_its_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    setup_logging().error("ü \U0001f600")
    assert json.loads(raw.getvalue())["message"] == "ü \U0001f600"
    assert raw.getvalue().isascii()


@pytest.mark.parametrize("before", [True, False])
def test_the_records_of_uvicorn_take_the_same_way_once_in_either_order(
    capsys: pytest.CaptureFixture[str], before: bool
) -> None:
    if before:
        setup_logging("shop")
        configure_uvicorn()
    else:
        configure_uvicorn()
        setup_logging("shop")
    logging.getLogger("uvicorn.error").info("started %s", "x", extra={"color_message": "\x1b[1mstarted"})
    logging.getLogger("uvicorn").warning("plain")
    logging.getLogger("uvicorn.asgi").error("asgi")
    logging.getLogger("uvicorn.access").info("GET / 200")
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert [(line["component"], line["message"]) for line in lines] == [
        ("uvicorn.error", "started x"),
        ("uvicorn", "plain"),
        ("uvicorn.asgi", "asgi"),
    ]
    assert "color_message" not in lines[0]
    assert captured.err == ""


def test_the_records_of_uvicorn_come_once_without_its_configuration_too(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("shop")
    configure_uvicorn(log_config=None)
    logging.getLogger("uvicorn.error").info("started")
    assert [line["message"] for line in lines_of(capsys)] == ["started"]


def test_handlers_of_others_on_uvicorns_loggers_stay(capsys: pytest.CaptureFixture[str]) -> None:
    foreign = logging.StreamHandler(io.StringIO())
    setup_logging("shop")
    configure_uvicorn()
    logging.getLogger("uvicorn").addHandler(foreign)
    with LogContext("c-1"):
        logging.getLogger("uvicorn.error").info("started")
    assert foreign.stream.getvalue() == "started\n"
    assert [line["correlation_id"] for line in lines_of(capsys)] == ["c-1"]


def test_the_handshakes_that_uvicorn_logs_with_their_query_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("shop", "INFO")
    uvicorn_error = logging.getLogger("uvicorn.error")
    uvicorn_error.info('%s - "WebSocket %s" [accepted]', "127.0.0.1:1", "/live?ticket=hunter2")
    uvicorn_error.info("connection open")
    (line,) = lines_of(capsys)
    assert line["message"] == "connection open"


def test_a_filter_on_the_handler_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    root = setup_logging("shop", "INFO")
    (handler,) = own_handlers(root)
    handler.addFilter(lambda record: "secret" not in record.msg)
    root.info("a secret")
    root.info("no such thing")
    (line,) = lines_of(capsys)
    assert line["message"] == "no such thing"
