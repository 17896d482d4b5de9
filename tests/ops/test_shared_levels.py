"""What one worker is asked for, all of them do."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asgi_obs import errors
from asgi_obs.logs.temporary import MAX_LEVELS, TemporaryLevels
from asgi_obs.ops import shared_levels as module
from asgi_obs.ops.levels_file import LevelsFile
from asgi_obs.ops.shared_levels import SharedLevels, follow
from tests.logs.sinks import in_child, until

NEVER = 3600.0
"""Seconds between two looks: those of the test itself are the only ones."""


class Clock:
    """Tells the time, and makes levels end when a test wants."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Worker:
    """A process, as far as it matters here: they share the loggers of the test, but not what they know of them."""

    def __init__(self, directory: Path, period: float) -> None:
        self.clock = Clock()
        self.levels = TemporaryLevels(self.clock)
        self.shared = SharedLevels(self.levels, period)
        self.shared.follow(str(directory))

    @property
    def known(self) -> dict[str, int]:
        return {name: entry.level for name, entry in self.levels.all.items()}

    def stop(self) -> None:
        self.shared.leave()
        for name in self.levels.all:
            self.levels.end(name)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def worker(period: float = NEVER) -> Worker:
        workers.append(Worker(tmp_path, period))
        return workers[-1]

    yield worker
    for started in workers:
        started.stop()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    logger = logging.getLogger(f"test.shared.{request.node.name}")
    yield logger.name
    logger.setLevel(logging.NOTSET)


def later() -> float:
    return time.time() + 600


def test_what_one_is_asked_for_the_others_do_without_being_asked(worker: Callable[..., Worker], name: str) -> None:
    asked, other = worker(0.02), worker(0.02)
    assert asked.shared.put(name, logging.DEBUG, later()) == "all"
    until(lambda: other.known == {name: logging.DEBUG})
    assert other.shared.put(name, logging.INFO, later()) == "all"
    until(lambda: asked.known == {name: logging.INFO})
    assert asked.shared.end(name) == "all"
    until(lambda: other.known == {})


def test_one_that_starts_later_does_so_at_once(worker: Callable[..., Worker], name: str) -> None:
    worker().shared.put(name, logging.DEBUG, later())
    late = worker()
    until(lambda: late.known == {name: logging.DEBUG})


def test_what_two_are_asked_for_is_in_place_in_both(worker: Callable[..., Worker], name: str) -> None:
    first, second = worker(), worker()
    first.shared.put(name, logging.DEBUG, later())
    second.shared.put(f"{name}.b", logging.INFO, later())
    first.shared.look()
    assert first.known == second.known == {name: logging.DEBUG, f"{name}.b": logging.INFO}


def test_only_the_one_that_was_asked_says_in_the_audit_log_that_it_is_over(
    worker: Callable[..., Worker], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked, other = worker(), worker()
    asked.shared.put(name, logging.DEBUG, later())
    other.shared.look()
    for each in (other, asked):
        each.clock.ahead = 1200
        each.levels.end_what_is_over()
        each.clock.ahead = 0
    assert [record.message for record in caplog.records] == ["logger.level"]


def test_there_is_a_bound_for_all_of_them(worker: Callable[..., Worker], name: str, tmp_path: Path) -> None:
    first, second = worker(), worker()
    for number in range(MAX_LEVELS):
        first.levels.put(f"{name}.{number}", logging.DEBUG, later())
    first.shared.put(f"{name}.0", logging.INFO, later())
    assert second.shared.put(name, logging.DEBUG, later()) == "none"
    assert len(json.loads((tmp_path / "loggers.json").read_text())) == MAX_LEVELS


def test_without_a_directory_it_is_for_this_one(name: str) -> None:
    levels = TemporaryLevels()
    shared = SharedLevels(levels)
    assert shared.put(name, logging.DEBUG, later()) == "this one"
    shared.look()
    assert logging.getLogger(name).level == logging.DEBUG
    assert shared.end(name) == "this one"
    assert not levels.all


@pytest.mark.parametrize(
    ("broken", "component"), [("held", "SharedLevels.hold"), ("write", "SharedLevels.write"), ("read", None)]
)
def test_what_cannot_be_shared_is_for_this_one(
    worker: Callable[..., Worker],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: str,
    component: str | None,
) -> None:
    def fail(*_: object) -> None:
        raise OSError("broken")

    asked = worker()
    monkeypatch.setattr(errors, "_last_logged", {})
    monkeypatch.setattr(LevelsFile, broken, fail)
    assert asked.shared.put(name, logging.DEBUG, later()) == ("all" if component is None else "this one")
    assert logging.getLogger(name).level == logging.DEBUG
    assert (f"{component} failed" in caplog.text) is (component is not None)
    asked.shared.end(name)
    assert asked.known == {}


def test_a_file_that_others_could_have_written_changes_nothing_and_is_reported_once(
    worker: Callable[..., Worker],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    reported: list[str] = []
    monkeypatch.setattr(module, "report", lambda component, error: reported.append(component))
    (tmp_path / "loggers.json").write_text(json.dumps({name: {"level": "DEBUG", "until": later()}}))
    (tmp_path / "loggers.json").chmod(0o666)
    follower = worker()
    until(lambda: reported)
    follower.shared.look()
    assert (reported, follower.known) == (["SharedLevels.look"], {})


def test_one_that_is_removed_ends_them_all(worker: Callable[..., Worker], name: str, tmp_path: Path) -> None:
    asked = worker()
    asked.shared.put(name, logging.DEBUG, later())
    (tmp_path / "loggers.json").unlink()
    asked.shared.look()
    assert asked.known == {}


def test_it_can_be_called_again_and_left(worker: Callable[..., Worker], tmp_path: Path) -> None:
    follower = worker()
    thread = follower.shared._follower
    follower.shared.follow(str(tmp_path))
    assert follower.shared._follower is thread is not None
    follower.shared.leave()
    thread.join(20)
    assert not thread.is_alive()


def test_without_room_for_a_thread_it_goes_on_without(
    worker: Callable[..., Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    reported: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(module, "report", lambda component, error: reported.append(component))
        patch.setattr(threading.Thread, "start", refuse)
        follower = worker()
    assert (reported, follower.shared._follower) == (["SharedLevels.follow"], None)
    follower.shared.follow(str(tmp_path))
    assert follower.shared._follower is not None


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_that_is_forked_can_follow(name: str, tmp_path: Path) -> None:
    shared = module.shared_levels
    follow(str(tmp_path))
    try:

        def ask() -> None:  # pragma: no cover - runs in a forked child
            assert shared._follower is None
            follow(str(tmp_path))
            assert shared.put(name, logging.DEBUG, later()) == "all"

        with shared._lock:
            in_child(ask)
        until(lambda: name in shared.levels.all)
        assert [path.name for path in tmp_path.iterdir()] == ["loggers.json"]
    finally:
        shared.end(name)
        shared.leave()
