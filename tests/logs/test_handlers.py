from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from asgi_obs import errors
from asgi_obs.errors import ConfigurationError
from asgi_obs.logs import LogContext, StructuredLogFormatter
from asgi_obs.logs.handlers import LineHandler
from asgi_obs.metrics.catalogue import process_wide
from asgi_obs.settings import Settings
from tests.logs.sinks import FULL, Lines, dropped


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def handler(lines: Lines) -> Iterator[LineHandler]:
    handler = LineHandler(lines)
    yield handler
    lines.recover()
    handler.close()


@pytest.fixture
def logger(logger: logging.Logger, handler: LineHandler) -> logging.Logger:
    logger.handlers = [handler]
    return logger


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    places: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [places.append])
    return places


def counted(level: str) -> float:
    family = next(iter(process_wide("log_records_total").collect()))
    return sum(
        sample.value
        for sample in family.samples
        if sample.labels == {"level": level} and sample.name == "log_records_total"
    )


def test_a_record_becomes_a_line(logger: logging.Logger, lines: Lines) -> None:
    logger.info("hello %s", "you")
    assert lines.lines == ["hello you"]


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (1, "TRACE"), (5, "TRACE"), (9, "TRACE"), (10, "DEBUG"), (20, "INFO"), (25, "INFO"), (30, "WARN"),
        (40, "ERROR"), (50, "FATAL"), (99, "FATAL"),
    ],
)  # fmt: skip
def test_records_are_counted_by_level(logger: logging.Logger, level: int, name: str) -> None:
    before = counted(name)
    logger.log(level, "hello")
    assert counted(name) - before == 1


def test_a_record_that_a_filter_drops_is_neither_written_nor_counted(
    logger: logging.Logger, handler: LineHandler, lines: Lines
) -> None:
    before = counted("INFO")
    handler.addFilter(lambda record: "secret" not in record.msg)
    logger.info("a secret")
    logger.info("no such thing")
    assert lines.lines == ["no such thing"]
    assert counted("INFO") - before == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="filters replace records from Python 3.12 on")
def test_a_filter_may_replace_the_record(  # pragma: no cover - not below Python 3.12
    logger: logging.Logger, handler: LineHandler, lines: Lines
) -> None:
    handler.addFilter(lambda record: logging.makeLogRecord({"msg": "another", "levelno": 20}))
    logger.info("one")
    assert lines.lines == ["another"]


def test_a_formatter_that_fails_costs_its_line_and_is_reported(
    handler: LineHandler, lines: Lines, reported: list[str]
) -> None:
    before = dropped()
    handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",), "levelno": 20}))
    handler.handle(logging.makeLogRecord({"msg": "hello", "levelno": 20}))
    assert lines.lines == ["log records were lost", "hello"]
    assert dropped() - before == 1
    assert reported == ["LineHandler.emit"]


@pytest.mark.parametrize("level", ["", None, []])
def test_a_level_that_is_no_number_costs_the_count_but_not_the_line(
    handler: LineHandler, lines: Lines, reported: list[str], level: Any
) -> None:
    handler.handle(logging.makeLogRecord({"msg": "hello", "levelno": level}))
    assert lines.lines == ["hello"]
    assert reported == ["LineHandler.emit"]


def test_an_error_outside_of_a_handler_is_nothing_to_report(handler: LineHandler, reported: list[str]) -> None:
    handler.handleError(logging.makeLogRecord({}))
    assert reported == []


def test_the_loss_is_said_in_the_format_of_the_lines_and_in_nobodys_context(
    logger: logging.Logger, handler: LineHandler, lines: Lines, settings: Settings
) -> None:
    handler.setFormatter(StructuredLogFormatter(settings=settings))
    lines.error = FULL
    logger.info("lost")
    lines.error = None
    with LogContext("c-1"):
        logger.info("hello")
    loss = lines.lines[0]
    assert '"level":"WARN","service":"shop","component":"asgi_obs.logs","message":"log records were lost"' in loss
    assert '"lost":1' in loss
    assert "c-1" not in loss


def test_the_loss_is_said_even_if_it_cannot_be_formatted(
    logger: logging.Logger, handler: LineHandler, lines: Lines, reported: list[str]
) -> None:
    class Choosy(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            if record.name == "asgi_obs.logs":
                raise LookupError
            return super().format(record)

    handler.setFormatter(Choosy())
    lines.error = FULL
    logger.info("lost")
    lines.error = None
    logger.info("hello")
    assert lines.lines == ["log records were lost: 1", "hello"]
    assert reported == ["LineHandler.emit", "LineHandler.emit"]


def test_records_of_the_audit_log_are_never_lost(handler: LineHandler, lines: Lines) -> None:
    lines.error = FULL
    handler.handle(logging.makeLogRecord({"name": "audit", "msg": "login", "levelno": 20}))
    handler.handle(logging.makeLogRecord({"name": "audits", "msg": "other", "levelno": 20}))
    lines.error = None
    handler.flush()
    assert lines.lines == ["login", "log records were lost"]


def test_a_line_that_was_formatted_already_is_written_and_counted(handler: LineHandler, lines: Lines) -> None:
    before = counted("DEBUG")
    handler.write("a", 10)
    assert lines.lines == ["a"]
    assert counted("DEBUG") - before == 1


def test_a_queue_takes_the_lines_until_it_is_drained(lines: Lines) -> None:
    handler = LineHandler(lines, queue_size=10)
    assert handler.is_queued
    handler.write("a", 20)
    handler.flush()
    handler.drain()
    handler.write("b", 20)
    assert lines.lines == ["a", "b"]
    handler.close()
    assert lines.closed == 1


class Holding(logging.Filter):
    """Holds a line back until it is flushed."""

    def __init__(self, handler: LineHandler) -> None:
        super().__init__()
        self.flush = lambda: handler.write("held back", 20)


@pytest.mark.parametrize("method", ["flush", "drain", "close"])
def test_what_filters_hold_back_is_written_too(handler: LineHandler, lines: Lines, method: str) -> None:
    handler.addFilter(Holding(handler))
    handler.addFilter(lambda record: True)
    getattr(handler, method)()
    assert lines.lines == ["held back"]
    handler.filters.clear()


def test_a_filter_that_cannot_be_flushed_is_reported(handler: LineHandler, lines: Lines, reported: list[str]) -> None:
    holding = Holding(handler)
    holding.flush = lambda: 1 // 0  # type: ignore[assignment, return-value]
    handler.addFilter(holding)
    handler.flush()
    assert reported == ["LineHandler.flush"]
    handler.filters.clear()


def test_a_line_after_closing_is_written(handler: LineHandler, lines: Lines) -> None:
    handler.close()
    handler.close()
    handler.write("a", 20)
    assert lines.lines == ["a"]


def test_a_sink_that_cannot_be_closed_is_reported(
    handler: LineHandler, lines: Lines, reported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise FULL

    with monkeypatch.context() as patched:
        patched.setattr(lines, "close", fail)
        handler.close()
    assert reported == ["LineHandler.close"]


@pytest.mark.parametrize("size", [-1, 1.5, "10", None])
def test_a_wrong_size_of_the_queue_is_refused(lines: Lines, size: Any) -> None:
    with pytest.raises(ConfigurationError, match="queue_size"):
        LineHandler(lines, queue_size=size)
