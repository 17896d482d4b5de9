from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from asgi_obs.metrics import multiprocess
from asgi_obs.metrics.multiprocess.directory import exclusive
from asgi_obs.metrics.multiprocess.fold import Totals, add, fold, take_snapshot
from asgi_obs.metrics.multiprocess.series import decode, encode
from tests.metrics.multiprocess.files import COUNTER, LIVE, OTHER, leave, names, start

CODE = str(Path(multiprocess.__file__).parent)
KILLED = 7
"""How a child ends that did not get to its end."""


def totals(path: Path) -> dict[str, float]:
    """What a scrape would count, of processes that live and of those that do not."""
    snapshot = take_snapshot(path, 20)
    assert snapshot.problems == []
    found: Totals = dict(snapshot.ended)
    for _, entries in snapshot.live:
        add(found, entries)
    return {key: value for key, (value, _) in found.items()}


def test_an_empty_directory_has_nothing(tmp_path: Path) -> None:
    assert totals(tmp_path) == {}
    assert names(tmp_path) == []


def test_files_of_dead_processes_become_one(tmp_path: Path) -> None:
    for pid in range(1, 6):
        leave(tmp_path, pid, {COUNTER: 1.0, OTHER: 10.0})
    assert totals(tmp_path) == {COUNTER: 5.0, OTHER: 50.0}
    assert names(tmp_path) == ["folded.metrics"]
    leave(tmp_path, 6, {COUNTER: 1.0})
    assert totals(tmp_path) == {COUNTER: 6.0, OTHER: 50.0}
    assert names(tmp_path) == ["folded.metrics"]


def test_those_of_live_processes_stay(tmp_path: Path) -> None:
    leave(tmp_path, 1, {COUNTER: 1.0, LIVE: 1.0})
    with closing(start(tmp_path, 2, {COUNTER: 2.0, LIVE: 2.0})) as file:
        snapshot = take_snapshot(tmp_path, 20)
        assert snapshot.ended == {COUNTER: (1.0, 0.0)}
        assert [(pid, list(entries)) for pid, entries in snapshot.live] == [
            ("2", [(COUNTER, 2.0, 0.0), (LIVE, 2.0, 0.0)])
        ]
        assert names(tmp_path) == [file.path.name, "folded.metrics"]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("sum", 9.0), ("min", 2.0), ("max", 4.0), ("mostrecent", 3.0)]
    + [(mode, None) for mode in ("all", "liveall", "livesum", "livemin", "livemax", "livemostrecent")],
)
def test_gauges_are_folded_by_their_mode_or_end_with_their_process(
    mode: str, expected: float | None, tmp_path: Path
) -> None:
    key = encode("gauge", mode, "x", "x")
    for time, value in ((10.0, 4.0), (30.0, 3.0), (20.0, 2.0)):
        leave(tmp_path, int(time), {key: value}, time)
        fold(tmp_path)
    assert totals(tmp_path).get(key) == expected


def kill_at(line: int, function: Callable[[], object]) -> bool:
    """Call a function in a process that dies when it gets to its n-th line of our code; returns whether it did."""
    pid = os.fork()
    if pid == 0:  # pragma: no cover - in the child
        count = 0

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal count
            if not frame.f_code.co_filename.startswith(CODE):
                return None
            if event == "line":
                count += 1
                if count == line:
                    os._exit(KILLED)
            return trace

        sys.settrace(trace)
        try:
            function()
            sys.settrace(None)
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in {0, KILLED}
    return code == KILLED


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_whoever_is_killed_while_folding_nothing_is_lost_or_counted_twice(tmp_path: Path) -> None:
    line = 0
    was_killed = True
    while was_killed:
        line += 1
        path = tmp_path / str(line)
        path.mkdir()
        leave(path, 1, {COUNTER: 1.0})
        fold(path)
        leave(path, 2, {COUNTER: 10.0})
        leave(path, 3, {COUNTER: 100.0, OTHER: 1.0, LIVE: 1.0})
        with closing(start(path, 4, {COUNTER: 1_000.0, LIVE: 1.0})):
            was_killed = kill_at(line, lambda path=path: fold(path))
            for _ in range(2):
                assert totals(path) == {COUNTER: 1_111.0, OTHER: 1.0, LIVE: 1.0}, line
            assert names(path) in (
                ["4-0000000000000004.metrics", "folded.metrics"],
                ["4-0000000000000004.metrics", "folded.metrics", "folded.new"],
            )
    assert line > 100


@pytest.mark.parametrize("threads", [4])
def test_many_may_fold_and_read_at_once(threads: int, tmp_path: Path) -> None:
    seen: list[list[float]] = [[] for _ in range(threads)]

    def scrape(mine: list[float]) -> None:
        for _ in range(30):
            mine.append(totals(tmp_path).get(COUNTER, 0.0))

    readers = [threading.Thread(target=scrape, args=(mine,)) for mine in seen]
    for reader in readers:
        reader.start()
    for pid in range(1, 51):
        leave(tmp_path, pid, {COUNTER: 1.0})
    for reader in readers:
        reader.join()
    assert [mine == sorted(mine) for mine in seen] == [True] * threads
    assert totals(tmp_path) == {COUNTER: 50.0}


def test_to_fold_nobody_is_waited_for(tmp_path: Path) -> None:
    leave(tmp_path, 1, {COUNTER: 1.0})
    with exclusive(tmp_path, 20):
        assert fold(tmp_path) == []
    assert names(tmp_path) == ["1-0000000000000001.metrics"]


def test_to_read_the_directory_is_waited_for_only_so_long(tmp_path: Path) -> None:
    with exclusive(tmp_path, 20), pytest.raises(TimeoutError):
        take_snapshot(tmp_path, 0.01)


@pytest.mark.parametrize("content", [b"\xff" * 4_096, b"no", b"\x28\0\0\0" + bytes(4) + b"\x01\0\0\0x" + bytes(100)])
def test_a_damaged_file_of_a_dead_process_is_set_aside(content: bytes, tmp_path: Path) -> None:
    leave(tmp_path, 1, {COUNTER: 1.0})
    (tmp_path / "2-aa.metrics").write_bytes(b"\x7f\xff\xff\x7f" + content)
    leave(tmp_path, 3, {COUNTER: 1.0})
    snapshot = take_snapshot(tmp_path, 20)
    assert snapshot.ended == {COUNTER: (2.0, 0.0)}
    assert [type(problem) for problem in snapshot.problems] == [ValueError]
    assert names(tmp_path) == ["2-aa.metrics.damaged", "folded.metrics"]
    assert totals(tmp_path) == {COUNTER: 2.0}


def test_what_is_no_key_is_damage(tmp_path: Path) -> None:
    leave(tmp_path, 1, {COUNTER: 1.0, "[1, 2, 3, 4, 5]": 1.0})
    assert [str(problem) for problem in take_snapshot(tmp_path, 20).problems] == ["'[1, 2, 3, 4, 5]' is no key"]
    assert totals(tmp_path) == {}


def test_a_damaged_file_of_totals_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "folded.metrics").write_bytes(b"\x7f\xff\xff\x7f damaged")
    leave(tmp_path, 1, {COUNTER: 1.0})
    snapshot = take_snapshot(tmp_path, 20)
    assert snapshot.ended == {COUNTER: (1.0, 0.0)}
    assert [str(problem) for problem in snapshot.problems] == ["folded.metrics was truncated"]
    assert names(tmp_path) == ["folded.metrics", "folded.metrics.damaged"]


def test_a_damaged_file_of_a_live_process_is_left_to_it(tmp_path: Path) -> None:
    with closing(start(tmp_path, 1, {COUNTER: 1.0})) as file:
        file.path.write_bytes(b"\x7f\xff\xff\x7f damaged")
        snapshot = take_snapshot(tmp_path, 20)
        assert snapshot.live == []
        assert [str(problem) for problem in snapshot.problems] == [f"{file.path.name} was truncated"]
        assert names(tmp_path) == [file.path.name]


def test_a_file_that_is_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "1-aa.metrics").touch()
    assert totals(tmp_path) == {}
    assert names(tmp_path) == ["1-aa.metrics"]


def refuse(*args: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_on_a_full_disk_the_totals_are_right_and_are_folded_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(tmp_path, 1, {COUNTER: 1.0})
    leave(tmp_path, 2, {COUNTER: 1.0})
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", refuse)
        for _ in range(2):
            snapshot = take_snapshot(tmp_path, 20)
            assert snapshot.ended == {COUNTER: (2.0, 0.0)}
            assert [str(problem) for problem in snapshot.problems] == ["[Errno 28] No space left on device"]
    assert totals(tmp_path) == {COUNTER: 2.0}
    assert names(tmp_path) == ["folded.metrics"]


def test_a_file_that_cannot_be_removed_is_not_counted_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlink = Path.unlink

    def refuse_one(path: Path, **options: bool) -> None:
        if path.name.startswith("1-"):
            refuse()
        unlink(path, **options)

    leave(tmp_path, 1, {COUNTER: 1.0})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse_one)
        for pid in (2, 3, 4):
            leave(tmp_path, pid, {COUNTER: 1.0})
            snapshot = take_snapshot(tmp_path, 20)
            assert snapshot.ended == {COUNTER: (float(pid), 0.0)}
            assert {str(problem) for problem in snapshot.problems} == {"[Errno 28] No space left on device"}
        assert "1-0000000000000001.metrics" in names(tmp_path)
    assert totals(tmp_path) == {COUNTER: 4.0}
    assert names(tmp_path) == ["folded.metrics"]


def test_what_was_absorbed_is_not_told_of(tmp_path: Path) -> None:
    leave(tmp_path, 1, {COUNTER: 1.0})
    fold(tmp_path)
    assert {decode(key).type for key in totals(tmp_path)} == {"counter"}
