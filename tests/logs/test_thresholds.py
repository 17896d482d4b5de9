from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from asgi_obs.logs.thresholds import RootLevel, level_of, root_level, set_level, threshold_of
from tests.logs.sinks import in_child


@pytest.fixture
def top() -> logging.Logger:
    """A root logger of the test's own."""
    return logging.RootLogger(logging.INFO)


@pytest.fixture
def level(top: logging.Logger) -> RootLevel:
    return RootLevel(top)


@pytest.fixture(autouse=True)
def real_root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    before = logger.level
    yield logger
    logger.setLevel(before)


def test_the_level_that_is_meant_is_the_one_it_has(top: logging.Logger, level: RootLevel) -> None:
    assert level.meant == logging.INFO
    top.setLevel(logging.ERROR)
    assert level.meant == logging.ERROR


def test_while_somebody_needs_a_lower_one_it_is_meant_as_before(top: logging.Logger, level: RootLevel) -> None:
    level.lower("a", logging.DEBUG)
    assert (top.level, level.meant) == (logging.DEBUG, logging.INFO)
    level.lift("a")
    assert (top.level, level.meant) == (logging.INFO, logging.INFO)


def test_it_is_lifted_when_nobody_needs_it_any_more(top: logging.Logger, level: RootLevel) -> None:
    level.lower("a", logging.DEBUG)
    level.lower("b", 5)
    level.lift("a")
    assert top.level == 5
    level.lift("b")
    level.lift("b")
    assert (top.level, level.meant) == (logging.INFO, logging.INFO)


def test_what_is_meant_can_change_while_it_is_lower(top: logging.Logger, level: RootLevel) -> None:
    level.lower("a", logging.DEBUG)
    level.mean(logging.ERROR)
    assert (top.level, level.meant) == (logging.DEBUG, logging.ERROR)
    level.mean(5)
    assert (top.level, level.meant) == (5, 5)
    level.mean(logging.WARNING)
    level.lift("a")
    assert (top.level, level.meant) == (logging.WARNING, logging.WARNING)


def test_a_level_that_others_raise_in_the_meantime_is_meant(top: logging.Logger, level: RootLevel) -> None:
    level.lower("a", logging.DEBUG)
    top.setLevel(logging.ERROR)
    assert level.meant == logging.ERROR
    level.lift("a")
    assert top.level == logging.ERROR


def test_a_root_logger_without_a_level_needs_no_lower_one(top: logging.Logger, level: RootLevel) -> None:
    level.mean(logging.NOTSET)
    level.lower("a", logging.DEBUG)
    assert (top.level, level.meant) == (logging.NOTSET, logging.NOTSET)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_that_is_forked_while_it_changes_can_change_it() -> None:
    def change() -> None:  # pragma: no cover - runs in a forked child
        root_level.mean(logging.ERROR)
        assert root_level.meant == logging.ERROR

    with root_level._lock:
        in_child(change)
        assert root_level.meant != logging.ERROR


def test_the_level_of_a_logger_itself(real_root: logging.Logger) -> None:
    logger = logging.getLogger("thresholds.itself")
    set_level(logger, logging.ERROR)
    set_level(real_root, logging.CRITICAL)
    assert (level_of(logger), level_of(real_root)) == (logging.ERROR, logging.CRITICAL)
    set_level(logger, logging.NOTSET)
    assert level_of(logger) == logging.NOTSET


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("thresholds.a", logging.ERROR),
        ("thresholds.a.b", logging.ERROR),
        ("thresholds.a.none.such", logging.ERROR),
        ("thresholds", logging.WARNING),
        ("root", logging.WARNING),
        ("", logging.WARNING),
    ],
)
def test_what_is_written_of_a_logger_is_what_it_or_the_nearest_one_above_it_says(
    real_root: logging.Logger, name: str, expected: int
) -> None:
    real_root.setLevel(logging.WARNING)
    logging.getLogger("thresholds.a").setLevel(logging.ERROR)
    logging.getLogger("thresholds.a.b")
    assert threshold_of(name) == expected
    assert "thresholds.a.none" not in logging.Logger.manager.loggerDict
