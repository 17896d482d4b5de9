"""`audit_log`: complete whatever the levels say, and safe like any other line."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asgi_obs import audit_log
from asgi_obs.logs import LogContext, StdoutHandler, setup_logging
from asgi_obs.settings import Settings

pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture(autouse=True)
def audit(sink: Any) -> Iterator[logging.Logger]:
    """Logger `audit`, which writes to `sink` too."""
    logger = logging.getLogger("audit")
    logger.addHandler(sink)
    yield logger
    logger.removeHandler(sink)
    logger.setLevel(logging.NOTSET)
    logger.disabled = False
    logger.filters.clear()


def test_a_line_says_who_did_what_and_how_it_ended(sink: Any) -> None:
    audit_log("user.login", actor="ann", outcome="denied", reason="wrong password")
    line = sink.line
    assert {name: line[name] for name in ("component", "level", "message", "event", "actor", "outcome", "reason")} == {
        "component": "audit",
        "level": "INFO",
        "message": "user.login",
        "event": "user.login",
        "actor": "ann",
        "outcome": "denied",
        "reason": "wrong password",
    }


def test_what_is_not_given_is_left_out(sink: Any) -> None:
    audit_log("user.login")
    assert not {"actor", "outcome"} & sink.line.keys()


def test_a_line_belongs_to_its_context(sink: Any) -> None:
    with LogContext("c-1", user_id="u-1"):
        audit_log("user.login")
    assert (sink.line["correlation_id"], sink.line["user_id"]) == ("c-1", "u-1")


def test_a_line_is_redacted(sink: Any) -> None:
    audit_log("key.created", api_key="hunter2", url="https://ann:hunter2@example.org/")
    assert "hunter2" not in sink.text


def test_no_level_leaves_a_line_out(sink: Any, audit: logging.Logger) -> None:
    audit.setLevel(logging.CRITICAL)
    logging.disable(logging.CRITICAL)
    try:
        audit_log("user.login")
    finally:
        logging.disable(logging.NOTSET)
    assert sink.line["event"] == "user.login"


def test_neither_a_filter_of_the_logger_nor_its_being_disabled_leaves_a_line_out(
    sink: Any, audit: logging.Logger
) -> None:
    audit.addFilter(lambda _: False)
    audit.disabled = True
    audit_log("user.login")
    assert sink.line["event"] == "user.login"


def test_neither_the_level_nor_a_filter_of_our_handler_leaves_a_line_out(
    capsys: pytest.CaptureFixture[str], root: logging.Logger
) -> None:
    setup_logging(settings=Settings(log_level="FATAL", log_buffer_lines=10))
    (handler,) = (handler for handler in root.handlers if isinstance(handler, StdoutHandler))
    handler.setLevel(logging.CRITICAL)
    handler.addFilter(lambda _: False)
    audit_log("user.login")
    root.critical("filtered")
    assert [json.loads(line)["message"] for line in capsys.readouterr().out.splitlines()] == ["user.login"]


def test_a_handler_of_others_keeps_its_level(audit: logging.Logger, sink: Any) -> None:
    sink.setLevel(logging.ERROR)
    audit_log("user.login")
    assert sink.records == []


def test_a_line_that_no_handler_takes_goes_to_standard_output(
    audit: logging.Logger, sink: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    audit.removeHandler(sink)
    audit.propagate = False
    audit_log("user.login", password="hunter2")
    line = json.loads(capsys.readouterr().out)
    assert (line["event"], line["password"]) == ("user.login", "******")


def test_a_name_that_a_record_has_already_stands_under_context(sink: Any) -> None:
    audit_log("file.deleted", name="x.txt", args=(1,), message="m", level="high")
    line = sink.line
    assert line["message"] == "file.deleted"
    assert line["context"] == {"name": "x.txt", "args": [1], "message": "m", "level": "high"}


def test_a_context_that_is_given_is_kept_beside_such_a_name(sink: Any) -> None:
    audit_log("file.deleted", name="x.txt", context={"folder": "y"})
    assert sink.line["context"] == {"folder": "y", "name": "x.txt"}


def test_the_place_of_a_line_is_that_of_the_caller(sink: Any) -> None:
    audit_log("user.login")
    (record,) = sink.records
    assert (record.funcName, Path(record.pathname).name) == (
        "test_the_place_of_a_line_is_that_of_the_caller",
        "test_audit.py",
    )


async def _login(user: str, started: asyncio.Event, other: asyncio.Event) -> None:
    with LogContext(f"c-{user}"):
        started.set()
        await other.wait()
        audit_log("user.login", actor=user)


def test_two_tasks_at_once_never_mix(sink: Any) -> None:
    async def both() -> None:
        ann, bob = asyncio.Event(), asyncio.Event()
        await asyncio.gather(_login("ann", ann, bob), _login("bob", bob, ann))

    asyncio.run(both())
    assert {(line["actor"], line["correlation_id"]) for line in sink.lines} == {("ann", "c-ann"), ("bob", "c-bob")}


def test_a_file_of_its_own_has_every_line_and_standard_output_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], root: logging.Logger
) -> None:
    path = tmp_path / "audit.log"
    setup_logging(settings=Settings(audit_log_path=str(path), log_level="FATAL", service_name="shop"))
    audit_log("user.login", actor="ann")
    root.error("no audit")
    in_file = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in in_file] == ["logging.configured", "user.login"]
    assert "FATAL" in json.dumps(in_file[0]["settings"])
    on_stdout = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in on_stdout] == ["logging.configured", "user.login"]


def test_a_change_of_the_level_is_in_the_audit_log(sink: Any) -> None:
    settings = Settings(service_name="shop", log_level="INFO", environment="testing")
    setup_logging(settings=settings)
    setup_logging(settings=settings)
    setup_logging(log_level="DEBUG", settings=settings)
    line = sink.line
    assert line["event"] == "logging.changed"
    assert line["changed"] == {"LOG_LEVEL": {"from": "INFO", "to": "DEBUG"}}
