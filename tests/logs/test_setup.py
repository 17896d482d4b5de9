from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import logging.config
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import psutil
import pytest

from asgi_obs.errors import ConfigurationError, SettingsError
from asgi_obs.logs import (
    TRACE,
    RequestLoggingMiddleware,
    StdoutHandler,
    StructuredLogFormatter,
    TextLogFormatter,
    setup_logging,
)
from asgi_obs.settings import Settings
from asgi_obs.testing import drive, http_scope

pytestmark = pytest.mark.usefixtures("root")


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
    capsys.readouterr()  # the change is in the audit log
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


def test_a_filter_on_the_handler_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    root = setup_logging("shop", "INFO")
    (handler,) = own_handlers(root)
    handler.addFilter(lambda record: "secret" not in record.msg)
    root.info("a secret")
    root.info("no such thing")
    (line,) = lines_of(capsys)
    assert line["message"] == "no such thing"


def test_loggers_have_levels_of_their_own_and_lose_them_with_the_next_call() -> None:
    setup_logging(settings=Settings(log_levels=(("shop.db", "WARN"), ("shop.cart", "TRACE")), log_level="INFO"))
    levels = [logging.getLogger(name).getEffectiveLevel() for name in ("shop.db.pool", "shop.cart", "shop")]
    assert levels == [logging.WARNING, TRACE, logging.INFO]
    setup_logging(settings=Settings(log_levels=(("shop.db", "ERROR"),), log_level="INFO"))
    levels = [logging.getLogger(name).getEffectiveLevel() for name in ("shop.db.pool", "shop.cart")]
    assert levels == [logging.ERROR, logging.INFO]


def test_a_file_gets_the_lines_in_place_of_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], root: logging.Logger
) -> None:
    path = tmp_path / "shop.log"
    setup_logging(settings=Settings(log_output="file", log_file_path=str(path), log_file_mode=0o600))
    root.error("hello")
    assert [json.loads(line)["message"] for line in path.read_text().splitlines()] == ["hello"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert capsys.readouterr().out == ""


def test_a_file_has_text_without_colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: logging.Logger) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    path = tmp_path / "shop.log"
    setup_logging(settings=Settings(log_output="file", log_file_path=str(path), log_format="text"))
    root.error("hello")
    assert "ERROR root             hello" in path.read_text()


@pytest.mark.parametrize(("variable", "output"), [("LOG_FILE_PATH", "file"), ("AUDIT_LOG_PATH", "stdout")])
def test_a_file_that_cannot_be_written_is_refused_and_changes_nothing(
    tmp_path: Path, root: logging.Logger, monkeypatch: pytest.MonkeyPatch, variable: str, output: str
) -> None:
    setup_logging("shop")
    handlers, level = root.handlers[:], root.level
    monkeypatch.setenv("LOG_OUTPUT", output)
    monkeypatch.setenv("LOG_LEVEL", "FATAL")
    monkeypatch.setenv(variable, str(tmp_path / "missing" / "shop.log"))
    with pytest.raises(SettingsError, match=rf"{variable}='.*missing/shop.log' is not valid: expected"):
        setup_logging()
    assert (root.handlers, root.level) == (handlers, level)


def test_calls_that_fail_leave_no_file_open(tmp_path: Path) -> None:
    wrong = Settings(
        log_output="file",
        log_file_path=str(tmp_path / "shop.log"),
        audit_log_path=str(tmp_path / "missing" / "audit.log"),
    )
    for _ in range(20):
        with pytest.raises(SettingsError):
            setup_logging(settings=wrong)
    gc.collect()
    assert [file.path for file in psutil.Process().open_files() if file.path.startswith(str(tmp_path))] == []


def test_a_queue_takes_the_lines_to_the_same_place(capsys: pytest.CaptureFixture[str], root: logging.Logger) -> None:
    setup_logging(settings=Settings(log_queue_size=10, log_level="INFO"))
    (handler,) = own_handlers(root)
    root.info("hello")
    handler.flush()
    assert [line["message"] for line in lines_of(capsys)] == ["hello"]


def test_a_configuration_of_logging_afterwards_leaves_the_queue(
    capsys: pytest.CaptureFixture[str], root: logging.Logger
) -> None:
    setup_logging(settings=Settings(log_queue_size=10, log_level="INFO"))
    (handler,) = own_handlers(root)
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
    writers = {thread.name for thread in threading.enumerate()}
    root.info("hello")
    assert {thread.name for thread in threading.enumerate()} - writers == {"asgi_obs.logs"}
    handler.flush()
    assert [line["message"] for line in lines_of(capsys)] == ["hello"]


def test_loggers_of_this_library_that_were_disabled_speak_again() -> None:
    names = ("asgi_obs", "asgi_obs.request")
    for name in names:
        logging.getLogger(name).disabled = True
    setup_logging("shop")
    assert [logging.getLogger(name).disabled for name in names] == [False, False]


async def _serve(path: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        logging.getLogger("shop.cart").debug("looked at %s", scope["path"])
        logging.getLogger("shop.db").debug("selected %s", scope["path"])
        status = 500 if scope["path"] == "/broken" else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    await drive(RequestLoggingMiddleware(app), http_scope(path))


def test_with_a_buffer_the_debug_lines_of_a_request_are_written_if_it_ends_in_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    setup_logging(settings=Settings(log_level="INFO", log_buffer_lines=10, log_levels=(("shop.db", "INFO"),)))
    asyncio.run(_serve("/fine"))
    assert [line["message"] for line in lines_of(capsys)] == ["GET /fine 200"]
    asyncio.run(_serve("/broken"))
    assert [line["message"] for line in lines_of(capsys)] == [
        "GET /broken started",
        "looked at /broken",
        "GET /broken 500",
    ]


def test_with_a_buffer_a_logger_with_a_lower_level_of_its_own_is_written_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    setup_logging(settings=Settings(log_level="INFO", log_buffer_lines=10, log_levels=(("shop", "DEBUG"),)))
    asyncio.run(_serve("/fine"))
    messages = [line["message"] for line in lines_of(capsys)]
    assert messages == ["looked at /fine", "selected /fine", "GET /fine 200"]


def test_with_folding_a_storm_is_two_lines(capsys: pytest.CaptureFixture[str], root: logging.Logger) -> None:
    setup_logging(settings=Settings(log_level="INFO", log_fold_seconds=3600))
    for number in range(5):
        root.info("try %s", number)
    (handler,) = own_handlers(root)
    handler.flush()
    assert [(line["message"], line.get("repeated")) for line in lines_of(capsys)] == [("try 0", None), ("try 4", 4)]
