from __future__ import annotations

import logging

import pytest

from asgi_obs.logs import TRACE, get_logger
from asgi_obs.logs.levels import level_name


def _record(level: int) -> logging.LogRecord:
    return logging.LogRecord("x", level, "x.py", 1, "m", (), None)


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (TRACE, "TRACE"),
        (logging.DEBUG, "DEBUG"),
        (logging.INFO, "INFO"),
        (logging.WARNING, "WARN"),
        (logging.ERROR, "ERROR"),
        (logging.CRITICAL, "FATAL"),
        (25, "Level 25"),
    ],
)
def test_every_level_has_its_name_of_the_schema(level: int, name: str) -> None:
    assert level_name(_record(level)) == name


def test_a_logger_is_the_one_that_logging_knows() -> None:
    logger = get_logger("test.levels.same")
    assert logger is logging.getLogger("test.levels.same")
    assert logger is get_logger("test.levels.same")


def test_a_logger_that_was_there_before_keeps_its_handlers_and_can_trace() -> None:
    before = logging.getLogger("test.levels.before")
    handler = logging.NullHandler()
    before.addHandler(handler)
    logger = get_logger("test.levels.before")
    assert logger is before
    assert logger.handlers == [handler]
    logger.trace("nobody listens")


def test_a_logger_of_a_class_of_its_own_can_trace_too() -> None:
    class Special(logging.Logger):
        pass

    logging.setLoggerClass(Special)
    try:
        special = logging.getLogger("test.levels.special")
    finally:
        logging.setLoggerClass(logging.Logger)
    assert type(get_logger("test.levels.special")) is type(special) is Special
    assert hasattr(special, "trace")


def test_loggers_of_others_are_left_alone() -> None:
    get_logger("test.levels.mine")
    assert logging.getLoggerClass() is logging.Logger
    assert not hasattr(logging.Logger, "trace")
    assert not hasattr(logging.getLogger("test.levels.others"), "trace")


def test_trace_and_fatal_write_records_of_their_levels_from_the_line_that_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = get_logger("test.levels.calls")

    def helper() -> None:
        logger.trace("from %s", "above", stacklevel=2)

    with caplog.at_level(TRACE, logger="test.levels.calls"):
        logger.trace("entered %s", "f", extra={"a": 1})
        logger.fatal("over")
        helper()
    first, second, third = caplog.records
    assert (first.levelno, first.getMessage(), first.__dict__["a"]) == (TRACE, "entered f", 1)
    assert (
        first.funcName
        == second.funcName
        == third.funcName
        == test_trace_and_fatal_write_records_of_their_levels_from_the_line_that_called.__name__
    )
    assert first.filename == "test_levels.py"
    assert second.levelno == logging.CRITICAL


def test_a_trace_below_the_level_of_the_logger_is_not_written(caplog: pytest.LogCaptureFixture) -> None:
    logger = get_logger("test.levels.quiet")
    with caplog.at_level(logging.DEBUG, logger="test.levels.quiet"):
        logger.trace("too detailed")
    assert caplog.records == []


def test_the_name_of_the_level_can_be_used_to_set_it() -> None:
    logger = get_logger("test.levels.named")
    logger.setLevel("TRACE")
    assert logger.isEnabledFor(TRACE)
