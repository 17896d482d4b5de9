"""`logging.config.dictConfig` with the formatters and handlers of this library, and next to `setup_logging`."""

from __future__ import annotations

import json
import logging
import logging.config
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from asgi_obs.errors import ConfigurationError
from asgi_obs.logs import StructuredLogFormatter, TextLogFormatter, get_logger, setup_logging

pytestmark = pytest.mark.usefixtures("root", "loggers_put_back")

CONSOLE = {"()": "asgi_obs.logs.stdout.StdoutHandler", "formatter": "json"}
FORMATTERS = {
    "json": {"()": "asgi_obs.StructuredLogFormatter", "service_name": "shop"},
    "text": {"()": "asgi_obs.logs.TextLogFormatter"},
}
OURS = ("asgi_obs", "asgi_obs.request", "audit")


def config(**rest: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": FORMATTERS,
        "handlers": {"console": CONSOLE},
        "root": {"handlers": ["console"], "level": "INFO"},
        **rest,
    }


def existing_loggers() -> dict[str, logging.Logger]:
    return {name: logging.getLogger(name) for name in list(logging.Logger.manager.loggerDict)}


@pytest.fixture
def loggers_put_back() -> Iterator[None]:
    before = {
        name: (logger.level, logger.handlers[:], logger.propagate, logger.disabled)
        for name, logger in existing_loggers().items()
    }
    yield
    for name, logger in existing_loggers().items():
        level, handlers, propagate, disabled = before.get(name, (logging.NOTSET, [], True, False))
        logger.setLevel(level)
        logger.handlers, logger.propagate, logger.disabled = handlers, propagate, disabled


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    return [(line["component"], line["message"]) for line in lines]


def test_formatter_and_handler_are_made_by_their_factories(capsys: pytest.CaptureFixture[str]) -> None:
    logging.config.dictConfig(config())
    logging.getLogger("any.library").info("hello", extra={"password": "hunter2"})
    line = json.loads(capsys.readouterr().out)
    assert (line["service"], line["component"], line["password"]) == ("shop", "any.library", "******")
    assert type(logging.getLogger().handlers[0].formatter) is StructuredLogFormatter


def test_text_and_json_stand_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    handlers = {"json": CONSOLE, "text": {**CONSOLE, "formatter": "text"}}
    logging.config.dictConfig(config(handlers=handlers, root={"handlers": ["json", "text"]}))
    logging.getLogger("shop").error("hello")
    first, second = capsys.readouterr().out.splitlines()
    assert json.loads(first)["message"] == "hello"
    assert "ERROR shop" in second
    assert type(logging.getLogger().handlers[1].formatter) is TextLogFormatter


def test_the_formatter_serves_a_handler_of_logging_and_the_handler_a_formatter_of_logging(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logging.config.dictConfig(
        config(
            formatters={**FORMATTERS, "plain": {"format": "%(levelname)s %(message)s"}},
            handlers={
                "theirs": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"},
                "ours": {**CONSOLE, "formatter": "plain"},
            },
            root={"handlers": ["theirs", "ours"]},
        )
    )
    logging.getLogger("shop").error("hello")
    captured = capsys.readouterr()
    assert json.loads(captured.err)["message"] == "hello"
    assert captured.out == "ERROR hello\n"


def test_a_file_takes_its_options_from_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "shop.log"
    file = {
        "()": "asgi_obs.logs.files.FileHandler", "formatter": "json", "level": "WARNING",
        "path": str(path), "retention_days": 7, "mode": 0o600,
    }  # fmt: skip
    logging.config.dictConfig(config(handlers={"file": file}, root={"handlers": ["file"], "level": "INFO"}))
    logging.getLogger("shop").info("not for the file")
    logging.getLogger("shop").warning("hello")
    for handler in logging.getLogger().handlers:
        handler.close()
    assert json.loads(path.read_text())["message"] == "hello"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "wrong",
    [
        {"formatters": {"json": {"()": "asgi_obs.StructuredLogFormatter", "service_name": ""}}},
        {"handlers": {"console": {**CONSOLE, "queue_size": -1}}},
    ],
)
def test_a_wrong_option_is_refused_and_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Unable to configure") as refused:
        logging.config.dictConfig(config(**wrong))
    assert type(refused.value.__cause__) is ConfigurationError


def test_the_levels_of_this_library_have_names_there(capsys: pytest.CaptureFixture[str]) -> None:
    logging.config.dictConfig(config(loggers={"shop.detailed": {"level": "TRACE"}}))
    get_logger("shop.detailed").trace("step")
    assert lines_of(capsys) == [("shop.detailed", "step")]


def test_a_file_of_json_serves_uvicorn(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps(config(loggers={"uvicorn.access": {"level": "WARNING"}})))
    uvicorn.Config("shop:app", log_config=str(path))
    logging.getLogger("uvicorn.error").info("started")
    logging.getLogger("uvicorn.access").info("GET / 200")
    assert lines_of(capsys) == [("uvicorn.error", "started")]


def test_an_incremental_configuration_changes_levels_alone(capsys: pytest.CaptureFixture[str]) -> None:
    root = setup_logging("shop", "INFO")
    handlers = root.handlers[:]
    logging.config.dictConfig(
        {"version": 1, "incremental": True, "root": {"level": "ERROR"}, "loggers": {"shop": {"level": "DEBUG"}}}
    )
    assert root.handlers == handlers
    logging.getLogger("other").warning("not heard")
    logging.getLogger("shop").debug("heard")
    assert lines_of(capsys) == [("shop", "heard")]


def test_what_was_set_up_before_stays_where_the_configuration_does_not_name_the_root_logger(
    capsys: pytest.CaptureFixture[str],
) -> None:
    setup_logging("shop", "INFO")
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
    logging.getLogger("shop").info("heard")
    assert lines_of(capsys) == [("shop", "heard")]


def test_what_was_set_up_before_gives_way_where_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("before", "INFO")
    logging.config.dictConfig(config())
    logging.getLogger("shop").info("heard")
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["service"] == "shop"


def test_handlers_that_were_configured_before_stay_when_set_up_after(tmp_path: Path) -> None:
    path = tmp_path / "theirs.log"
    theirs = {"class": "logging.FileHandler", "filename": str(path), "formatter": "json"}
    logging.config.dictConfig(config(handlers={"theirs": theirs}, root={"handlers": ["theirs"]}))
    setup_logging("shop", "INFO")
    logging.getLogger("shop").info("heard")
    for handler in logging.getLogger().handlers:
        handler.close()
    assert json.loads(path.read_text())["message"] == "heard"


def test_loggers_of_the_application_that_it_does_not_name_are_disabled_by_default_as_ever(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logger = get_logger("shop.orders")
    existing = config()
    del existing["disable_existing_loggers"]
    logging.config.dictConfig(existing)
    logger.error("lost")
    assert lines_of(capsys) == []


@pytest.mark.parametrize("name", [*OURS, "shop.orders"])
@pytest.mark.parametrize(
    "way",
    [
        {"disable_existing_loggers": False},
        {"disable_existing_loggers": True, "loggers": {"asgi_obs": {}, "audit": {}, "shop": {}}},
    ],
    ids=["none is disabled", "they are named"],
)
def test_loggers_stay_if_none_is_disabled_or_they_or_those_above_are_named(
    capsys: pytest.CaptureFixture[str], name: str, way: dict[str, Any]
) -> None:
    logger = get_logger(name)
    logging.config.dictConfig(config(**way))
    logger.error("heard")
    assert lines_of(capsys) == [(name, "heard")]
