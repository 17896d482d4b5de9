"""Levels that end by themselves: the one from before comes back."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from asgi_obs import errors
from asgi_obs.logs import setup_logging
from asgi_obs.logs.temporary import MAX_LEVELS, TemporaryLevels, level_text, temporary_levels
from asgi_obs.logs.thresholds import level_of
from asgi_obs.settings import Settings
from tests.logs.sinks import in_child, until

NOW = 1_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def levels(clock: Clock) -> Iterator[TemporaryLevels]:
    levels = TemporaryLevels(clock)
    yield levels
    end_all(levels)


@pytest.fixture
def shared() -> Iterator[TemporaryLevels]:
    """Those that `setup_logging` knows of."""
    yield temporary_levels
    end_all(temporary_levels)


@pytest.fixture
def log(request: pytest.FixtureRequest) -> Iterator[logging.Logger]:
    logger = logging.getLogger(f"temporary.{request.node.name}")
    yield logger
    logger.setLevel(logging.NOTSET)


def end_all(levels: TemporaryLevels) -> None:
    for name in levels.all:
        levels.end(name)


@pytest.mark.parametrize("before", [logging.NOTSET, logging.ERROR, 17])
def test_when_it_is_over_the_level_from_before_is_back(
    log: logging.Logger, levels: TemporaryLevels, clock: Clock, before: int
) -> None:
    log.setLevel(before)
    assert levels.put(log.name, logging.DEBUG, NOW + 10)
    assert (log.level, levels.all[log.name].until) == (logging.DEBUG, NOW + 10)
    clock.now += 9.9
    levels.end_what_is_over()
    assert log.level == logging.DEBUG
    clock.now += 0.1
    levels.end_what_is_over()
    assert (log.level, dict(levels.all)) == (before, {})


def test_nobody_has_to_come_back_for_that(log: logging.Logger) -> None:
    levels = TemporaryLevels()
    levels.put(log.name, logging.DEBUG, time.time() + 0.05)
    levels.put(f"{log.name}.later", logging.DEBUG, time.time() + 0.1)
    until(lambda: not levels.all)
    assert log.level == logging.NOTSET
    until(lambda: levels._watcher is None)


def test_an_end_that_comes_sooner_than_the_others_is_not_missed(log: logging.Logger) -> None:
    levels = TemporaryLevels()
    levels.put(f"{log.name}.later", logging.DEBUG, time.time() + 600)
    levels.put(log.name, logging.DEBUG, time.time() + 0.05)
    until(lambda: log.name not in levels.all)
    end_all(levels)


def test_the_thread_goes_with_the_last_of_them(log: logging.Logger, levels: TemporaryLevels) -> None:
    levels.put(log.name, logging.DEBUG, NOW + 600)
    (watcher,) = [thread for thread in threading.enumerate() if thread is levels._watcher]
    levels.end(log.name)
    watcher.join(20)
    assert not watcher.is_alive()


def test_of_two_in_a_row_the_level_from_before_the_first_comes_back(
    log: logging.Logger, levels: TemporaryLevels, clock: Clock
) -> None:
    log.setLevel(logging.ERROR)
    levels.put(log.name, logging.DEBUG, NOW + 10)
    levels.put(log.name, logging.INFO, NOW + 20)
    clock.now += 15
    levels.end_what_is_over()
    assert log.level == logging.INFO
    clock.now += 5
    levels.end_what_is_over()
    assert log.level == logging.ERROR


def test_it_can_be_taken_back(log: logging.Logger, levels: TemporaryLevels) -> None:
    log.setLevel(logging.ERROR)
    levels.put(log.name, logging.DEBUG, NOW + 10)
    levels.end(log.name)
    levels.end(log.name)
    assert (log.level, dict(levels.all)) == (logging.ERROR, {})


def test_a_level_that_somebody_else_sets_in_the_meantime_stays(log: logging.Logger, levels: TemporaryLevels) -> None:
    levels.put(log.name, logging.DEBUG, NOW + 10)
    log.setLevel(logging.WARNING)
    levels.end(log.name)
    assert log.level == logging.WARNING


def test_a_level_that_somebody_else_sets_between_two_is_the_one_from_before(
    log: logging.Logger, levels: TemporaryLevels
) -> None:
    levels.put(log.name, logging.DEBUG, NOW + 10)
    log.setLevel(logging.WARNING)
    levels.put(log.name, logging.DEBUG, NOW + 20)
    levels.end(log.name)
    assert log.level == logging.WARNING


def test_there_is_a_bound(log: logging.Logger, levels: TemporaryLevels) -> None:
    names = [f"{log.name}.{number}" for number in range(MAX_LEVELS)]
    assert all(levels.put(name, logging.DEBUG, NOW + 10) for name in names)
    assert not levels.put(log.name, logging.DEBUG, NOW + 10)
    assert log.level == logging.NOTSET
    assert levels.put(names[0], logging.INFO, NOW + 10)


def test_what_could_not_be_ended_does_not_begin(
    log: logging.Logger, levels: TemporaryLevels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            levels.put(log.name, logging.DEBUG, NOW + 10)
    assert (log.level, dict(levels.all)) == (logging.NOTSET, {})
    assert levels.put(log.name, logging.DEBUG, NOW + 10)


def test_its_end_is_in_the_audit_log_if_that_is_wanted(
    log: logging.Logger, levels: TemporaryLevels, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    log.setLevel(logging.ERROR)
    levels.put(log.name, logging.DEBUG, NOW + 10)
    levels.put(f"{log.name}.quiet", logging.DEBUG, NOW + 10, audited=False)
    clock.now += 10
    levels.end_what_is_over()
    (record,) = caplog.records
    said = {name: record.__dict__[name] for name in ("event", "actor", "outcome", "logger", "old_level", "new_level")}
    assert said == {
        "event": "logger.level",
        "actor": "expiry",
        "outcome": "success",
        "logger": log.name,
        "old_level": "DEBUG",
        "new_level": "ERROR",
    }


def test_an_audit_log_that_raises_ends_nothing_but_its_line(
    log: logging.Logger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise OSError("disk full")

    monkeypatch.setattr(errors, "_last_logged", {})
    audit, broken = logging.getLogger("audit"), Broken()
    audit.addHandler(broken)
    levels = TemporaryLevels()
    try:
        levels.put(log.name, logging.DEBUG, time.time())
        until(lambda: "TemporaryLevels.end failed" in caplog.text)
        levels.put(log.name, logging.DEBUG, time.time(), audited=False)
        until(lambda: not levels.all)
    finally:
        audit.removeHandler(broken)
    assert log.level == logging.NOTSET


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_that_is_forked_ends_them_too(log: logging.Logger, shared: TemporaryLevels) -> None:
    shared.put(log.name, logging.DEBUG, time.time() + 0.2)

    def wait() -> None:  # pragma: no cover - runs in a forked child
        until(lambda: log.level == logging.NOTSET)

    with shared._changed:
        in_child(wait)
    until(lambda: log.level == logging.NOTSET)


def test_a_process_that_starts_anew_ends_them_without_the_thread_of_its_parent(
    log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = TemporaryLevels()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda thread: None)
        levels.put(log.name, logging.DEBUG, time.time() + 0.05)
    levels._start_anew()
    until(lambda: not levels.all)
    assert log.level == logging.NOTSET
    until(lambda: levels._watcher is None)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_that_is_forked_without_any_starts_no_thread(shared: TemporaryLevels) -> None:
    def look() -> None:  # pragma: no cover - runs in a forked child
        assert shared._watcher is None

    in_child(look)
    assert not shared.all


@pytest.mark.usefixtures("root")
def test_logging_that_is_set_up_in_the_meantime_is_what_comes_back(
    log: logging.Logger, root: logging.Logger, shared: TemporaryLevels
) -> None:
    other = f"{log.name}.other"
    setup_logging(settings=Settings(log_level="INFO", log_levels=((log.name, "ERROR"), (other, "ERROR"))))
    for name in (log.name, other, "root"):
        shared.put(name, logging.DEBUG, time.time() + 600)
    setup_logging(settings=Settings(log_level="WARN", log_levels=((log.name, "FATAL"),)))
    assert [log.level, logging.getLogger(other).level, root.level] == [logging.DEBUG] * 3
    end_all(shared)
    expected = [logging.CRITICAL, logging.NOTSET, logging.WARNING]
    assert [log.level, logging.getLogger(other).level, root.level] == expected


@pytest.mark.parametrize(("name", "level"), [("log", "DEBUG"), ("root", "DEBUG"), ("root", "ERROR")])
@pytest.mark.usefixtures("root")
def test_what_is_buffered_follows(
    log: logging.Logger,
    root: logging.Logger,
    shared: TemporaryLevels,
    capsys: pytest.CaptureFixture[str],
    name: str,
    level: str,
) -> None:
    setup_logging(settings=Settings(log_level="INFO", log_buffer_lines=10))
    name = log.name if name == "log" else name
    written = _writing(log, capsys)
    before = written()
    shared.put(name, getattr(logging, level), time.time() + 600)
    during = written()
    shared.end(name)
    assert (before, written()) == (["INFO", "ERROR"], ["INFO", "ERROR"])
    assert during == ["DEBUG", "INFO", "ERROR"][0 if level == "DEBUG" else 2 :]
    assert (root.level, level_of(root)) == (logging.DEBUG, logging.INFO)


def _writing(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    def written() -> list[str]:
        for level in (logging.DEBUG, logging.INFO, logging.ERROR):
            log.log(level, "x")
        return [json.loads(line)["level"] for line in capsys.readouterr().out.splitlines()]

    return written


@pytest.mark.parametrize(("level", "text"), [(logging.WARNING, "WARN"), (5, "TRACE"), (17, "Level 17"), (0, None)])
def test_a_level_has_its_name_of_the_schema(level: int, text: str | None) -> None:
    assert level_text(level) == text
