from __future__ import annotations

import io
import json
import logging
import logging.config
import sys
import types
from collections.abc import Iterator
from typing import Any

import hypercorn.config
import pytest
import uvicorn
from gunicorn.config import Config as GunicornConfig
from gunicorn.glogging import Logger as GunicornLogger

from asgi_obs.logs import LogContext, StructuredLogFormatter
from asgi_obs.logs.servers import ACCESS_LOGGERS, SERVER_LOGGERS, take_over_servers
from asgi_obs.settings import Settings

CONSOLE = {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}
GRANIAN = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "generic": {
            "()": "logging.Formatter",
            "fmt": "[%(levelname)s] %(message)s",
            "datefmt": "[%Y-%m-%d %H:%M:%S %z]",
        }
    },
    "handlers": {"console": {"formatter": "generic", **CONSOLE}},
    "loggers": {name: {"handlers": ["console"], "propagate": False} for name in ("_granian", "granian.access")},
}
"""What granian configures. It is no dependency of the tests: it compiles for minutes where it has no wheel."""


async def nothing(scope: Any, receive: Any, send: Any) -> None: ...


def configure_uvicorn(**options: Any) -> None:
    uvicorn.Config(nothing, **options)


def configure_gunicorn(**options: Any) -> GunicornLogger:
    config = GunicornConfig()
    for name, value in options.items():
        config.set(name, value)
    return GunicornLogger(config)


def configure_uvicorn_worker() -> None:
    """As `uvicorn_worker.UvicornWorker` does: both loggers have one list of handlers."""
    log = configure_gunicorn(accesslog="-")
    for name, gunicorn_log in (("uvicorn.error", log.error_log), ("uvicorn.access", log.access_log)):
        logger = logging.getLogger(name)
        logger.handlers = gunicorn_log.handlers
        logger.propagate = False


def configure_hypercorn(**options: Any) -> Any:
    config = hypercorn.config.Config()
    for name, value in options.items():
        setattr(config, name, value)
    return config.log


def configure_granian() -> None:
    logging.config.dictConfig(GRANIAN)


SERVERS = {
    "uvicorn": (configure_uvicorn, ("uvicorn", "uvicorn.error", "uvicorn.asgi"), "uvicorn.access"),
    "gunicorn": (lambda: configure_gunicorn(accesslog="-"), ("gunicorn.error",), "gunicorn.access"),
    "uvicorn under gunicorn": (configure_uvicorn_worker, ("gunicorn.error", "uvicorn.error"), "uvicorn.access"),
    "hypercorn": (lambda: configure_hypercorn(accesslog="-"), ("hypercorn.error",), "hypercorn.access"),
    "granian": (configure_granian, ("_granian", "_granian.serve"), "granian.access"),
}


def put_back(logger: logging.Logger) -> None:
    logger.handlers = []
    logger.filters.clear()
    logger.setLevel(logging.NOTSET)
    logger.propagate, logger.disabled = True, False


@pytest.fixture
def out(settings: Settings) -> Iterator[io.StringIO]:
    """What the handler of the root logger writes; everything is put back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(StructuredLogFormatter(settings=settings))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler.stream
    root.handlers[:], root.level = handlers, level
    for name in (*SERVER_LOGGERS, *ACCESS_LOGGERS):
        put_back(logging.getLogger(name))


def lines_of(out: io.StringIO) -> list[tuple[str, str]]:
    return [(line["component"], line["message"]) for line in map(json.loads, out.getvalue().splitlines())]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages of servers that are no dependencies of the tests are imported, as far as one can see."""
    for package in ("granian", "daphne"):
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("order", ["before", "after", "both"])
@pytest.mark.parametrize("server", SERVERS)
def test_the_records_of_a_server_take_the_way_of_all_others_once_whoever_configures_first(
    out: io.StringIO, capsys: pytest.CaptureFixture[str], server: str, order: str
) -> None:
    configure, names, access = SERVERS[server]
    if order != "after":
        take_over_servers()
    configure()
    if order != "before":
        take_over_servers()
    for name in names:
        logging.getLogger(name).warning("started %s", "x")
    logging.getLogger(access).warning("GET / 200")
    assert lines_of(out) == [(name, "started x") for name in names]
    assert capsys.readouterr() == ("", "")


def test_a_server_that_configures_again_is_taken_over_again(
    out: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    log = configure_gunicorn()
    take_over_servers()
    log.info("one")
    log.setup(log.cfg)
    log.info("two")
    assert lines_of(out) == [("gunicorn.error", "one"), ("gunicorn.error", "two")]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["uvicorn", "gunicorn.error", "hypercorn.error", "_granian"])
@pytest.mark.parametrize(
    "formatter", [None, logging.Formatter(), logging.Formatter("%(message)s"), logging.Formatter("%(message)s", "%H")]
)
def test_handlers_of_others_stay(out: io.StringIO, name: str, formatter: logging.Formatter | None) -> None:
    foreign = logging.StreamHandler(io.StringIO())
    foreign.setFormatter(formatter)
    logging.getLogger(name).addHandler(foreign)
    take_over_servers()
    logging.getLogger(name).warning("started")
    assert logging.getLogger(name).handlers == [foreign]
    assert foreign.stream.getvalue() != ""
    assert lines_of(out) == [(name, "started")]


def test_files_that_a_server_was_told_to_write_stay(out: io.StringIO, tmp_path: Any) -> None:
    gunicorn, hypercorn = tmp_path / "gunicorn.log", tmp_path / "hypercorn.log"
    configure_gunicorn(errorlog=str(gunicorn))
    configure_hypercorn(errorlog=str(hypercorn))
    take_over_servers()
    for name, path in (("gunicorn.error", gunicorn), ("hypercorn.error", hypercorn)):
        logging.getLogger(name).warning("started")
        assert "[WARNING] started" in path.read_text()
        for handler in logging.getLogger(name).handlers:
            handler.close()
    assert lines_of(out) == [("gunicorn.error", "started"), ("hypercorn.error", "started")]


def attach_as_daphne() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)-15s %(levelname)-8s %(message)s"))
    logging.getLogger().addHandler(handler)
    return handler


def test_a_handler_like_that_of_a_server_that_is_not_there_stays(out: io.StringIO) -> None:
    foreign = attach_as_daphne()
    take_over_servers()
    assert foreign in logging.getLogger().handlers


@pytest.mark.usefixtures("installed")
def test_the_handler_that_daphne_attaches_to_the_root_goes(
    out: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    attach_as_daphne()
    take_over_servers()
    logging.getLogger("daphne.server").warning("listening")
    assert lines_of(out) == [("daphne.server", "listening")]
    assert capsys.readouterr() == ("", "")


def test_loggers_that_a_configuration_has_disabled_are_heard_again(out: io.StringIO) -> None:
    for name in SERVER_LOGGERS:
        logging.getLogger(name).disabled = True
    take_over_servers()
    for name in SERVER_LOGGERS:
        logging.getLogger(name).warning("started")
    assert [name for name, _ in lines_of(out)] == list(SERVER_LOGGERS)


def test_the_level_of_a_server_stays_its_own(out: io.StringIO) -> None:
    take_over_servers()
    log = configure_gunicorn(loglevel="error")
    log.warning("not heard")
    log.error("heard")
    assert lines_of(out) == [("gunicorn.error", "heard")]


def test_taking_over_twice_is_taking_over_once() -> None:
    filters = []
    for _ in range(2):
        take_over_servers()
        filters.append([logging.getLogger(name).filters[:] for name in (*SERVER_LOGGERS, *ACCESS_LOGGERS)])
    assert filters[0] == filters[1]
    for name in (*SERVER_LOGGERS, *ACCESS_LOGGERS):
        put_back(logging.getLogger(name))


def test_the_records_of_uvicorn_come_once_without_its_configuration_too(out: io.StringIO) -> None:
    take_over_servers()
    configure_uvicorn(log_config=None)
    logging.getLogger("uvicorn.error").info("started", extra={"color_message": "\x1b[1mstarted"})
    assert lines_of(out) == [("uvicorn.error", "started")]
    assert "color_message" not in out.getvalue()


def test_the_records_of_a_server_have_the_context_they_are_logged_in(out: io.StringIO) -> None:
    take_over_servers()
    with LogContext("c-1"):
        logging.getLogger("uvicorn.error").info("started")
    assert json.loads(out.getvalue())["correlation_id"] == "c-1"


def test_the_handshakes_that_uvicorn_logs_with_their_query_are_left_out(out: io.StringIO) -> None:
    take_over_servers()
    uvicorn_error = logging.getLogger("uvicorn.error")
    uvicorn_error.info('%s - "WebSocket %s" [accepted]', "127.0.0.1:1", "/live?ticket=hunter2")
    uvicorn_error.info("connection open")
    assert lines_of(out) == [("uvicorn.error", "connection open")]
