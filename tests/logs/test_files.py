from __future__ import annotations

import errno
import fcntl
import logging
import os
import resource
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from asgi_obs import errors
from asgi_obs.errors import ConfigurationError
from asgi_obs.logs import descriptor, files
from asgi_obs.logs.files import FileHandler
from tests.logs.sinks import dropped, in_child

DAY = 86_400.0


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


@pytest.fixture
def handler(log: Path, clock: Clock) -> Iterator[FileHandler]:
    handler = FileHandler(str(log), clock=clock)
    yield handler
    handler.close()


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    places: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [places.append])
    return places


def rotated(log: Path) -> list[Path]:
    return sorted(path for path in log.parent.iterdir() if path.name not in {log.name, f"{log.name}.lock"})


def date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def test_a_line_is_in_the_file_before_the_call_returns(handler: FileHandler, log: Path) -> None:
    handler.handle(logging.makeLogRecord({"msg": "hello ü", "levelno": 20}))
    assert log.read_text() == "hello ü\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o640


def test_lines_are_appended(log: Path) -> None:
    log.write_text("before\n")
    for line in ("a", "b"):
        handler = FileHandler(str(log))
        handler.write(line)
        handler.close()
    assert log.read_text() == "before\na\nb\n"


def test_a_queue_writes_the_lines_too(log: Path) -> None:
    handler = FileHandler(str(log), queue_size=10)
    handler.write("a")
    handler.close()
    assert log.read_text() == "a\n"


def test_each_line_can_be_had_on_the_disk(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size))
    handler = FileHandler(str(log), fsync=True)
    handler.write("a")
    handler.write("b")
    handler.close()
    assert synced == [2, 4]


@pytest.mark.parametrize(
    ("path", "reason"),
    [("missing/app.log", "No such file"), ("", "Is a directory"), ("file/app.log", "Not a directory")],
)
def test_a_path_that_cannot_be_written_is_refused_with_the_reason(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=f"path=.*{path}.*{reason}"):
        FileHandler(str(tmp_path / path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_path_without_permission_is_refused(tmp_path: Path) -> None:  # pragma: no cover - not as root
    tmp_path.chmod(0o500)

    def as_somebody_else() -> None:
        os.setuid(65_534)
        with pytest.raises(ConfigurationError, match="Permission denied"):
            FileHandler(str(tmp_path / "app.log"))

    in_child(as_somebody_else)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("retention_days", 0), ("retention_days", "30"), ("mode", 0o1640), ("mode", 0o440), ("mode", "0640"),
        ("queue_size", -1),
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused(log: Path, option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{option}={value!r}"):
        FileHandler(str(log), **{option: value})


def test_the_path_holds_when_the_working_directory_changes(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    handler = FileHandler("app.log")
    monkeypatch.chdir("/")
    handler.write("a")
    assert handler.rotate()
    handler.close()
    assert [path.read_text() for path in rotated(log)] == ["a\n"]


# Rotation


def test_the_first_line_of_a_day_goes_to_a_new_file(handler: FileHandler, log: Path, clock: Clock) -> None:
    handler.write("yesterday")
    day = date(clock.now)
    clock.now += DAY
    handler.write("today")
    handler.write("and more")
    assert [path.name for path in rotated(log)] == [f"app.log.{day}"]
    assert [path.read_text() for path in (*rotated(log), log)] == ["yesterday\n", "today\nand more\n"]
    assert stat.S_IMODE(log.stat().st_mode) == 0o640


def test_a_file_of_an_earlier_day_is_set_aside_at_the_first_line(log: Path) -> None:
    log.write_text("old\n")
    os.utime(log, (1_700_049_600, 1_700_049_600))
    handler = FileHandler(str(log), retention_days=100_000)
    handler.write("new")
    handler.close()
    assert [path.name for path in rotated(log)] == ["app.log.2023-11-15"]
    assert log.read_text() == "new\n"


def test_a_file_without_lines_stays_where_it_is(handler: FileHandler, log: Path, clock: Clock) -> None:
    clock.now += 3 * DAY
    handler.write("a")
    assert rotated(log) == []
    assert not handler.rotate() or log.read_text() == ""


def test_old_files_are_deleted_after_a_rotation(handler: FileHandler, log: Path) -> None:
    (log.parent / "app.log.2001-01-01").touch()
    handler.write("a")
    assert handler.rotate()
    assert [path.read_text() for path in rotated(log)] == ["a\n"]


def test_an_old_file_that_cannot_be_deleted_is_reported_and_the_rotation_has_happened(
    handler: FileHandler, log: Path, reported: list[str]
) -> None:
    (log.parent / "app.log.2001-01-01").mkdir()
    handler.write("a")
    assert handler.rotate()
    assert reported == ["FileHandler.delete_old"]
    assert log.read_text() == ""


def test_a_rotation_can_be_forced_any_number_of_times(handler: FileHandler, log: Path) -> None:
    for line in "abc":
        handler.write(line)
        assert handler.rotate()
    assert not handler.rotate()
    assert [path.read_text() for path in rotated(log)] == ["a\n", "b\n", "c\n"]
    assert log.read_text() == ""


def test_another_process_that_has_rotated_is_followed(handler: FileHandler, log: Path, clock: Clock) -> None:
    other = FileHandler(str(log), clock=clock)
    handler.write("one")
    other.write("two")
    clock.now += DAY
    handler.write("three")
    os.utime(log, (clock.now, clock.now))
    other.write("four")
    other.close()
    assert len(rotated(log)) == 1
    assert rotated(log)[0].read_text() == "one\ntwo\n"
    assert log.read_text() == "three\nfour\n"


def test_what_another_process_has_rotated_just_before_is_not_rotated_again(
    handler: FileHandler, log: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = FileHandler(str(log), clock=clock)
    handler.write("one")
    clock.now += DAY
    exclusive = files.exclusive

    def rotate_first(path: str, mode: int) -> Any:
        monkeypatch.undo()
        other.write("two")
        os.utime(log, (clock.now, clock.now))
        return exclusive(path, mode)

    monkeypatch.setattr(files, "exclusive", rotate_first)
    handler.write("three")
    other.close()
    assert [path.read_text() for path in rotated(log)] == ["one\n"]
    assert log.read_text() == "two\nthree\n"


def test_while_another_process_rotates_lines_are_written_all_the_same(
    handler: FileHandler, log: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler.write("one")
    clock.now += DAY
    with (log.parent / "app.log.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        handler.write("two")
        assert not handler.rotate()
    assert log.read_text() == "one\ntwo\n"
    handler.write("three")  # not looked at again for each line
    assert log.read_text() == "one\ntwo\nthree\n"
    monkeypatch.setattr(handler._file, "_look_again", 0.0)
    handler.write("four")
    assert log.read_text() == "four\n"


def test_a_rotation_that_fails_is_reported_and_tried_again_later(
    handler: FileHandler, log: Path, clock: Clock, reported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler.write("one")
    clock.now += DAY

    def fail(path: str, before: float) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(files, "set_aside", fail)
        handler.write("two")
        handler.write("three")
        assert reported == ["FileHandler.rotate"]
        assert not handler.rotate()
    assert reported == ["FileHandler.rotate"] * 2
    assert log.read_text() == "one\ntwo\nthree\n"
    assert handler.rotate()


def test_a_link_is_followed_and_stays(tmp_path: Path, log: Path) -> None:
    (tmp_path / "data").mkdir()
    log.symlink_to(tmp_path / "data" / "real.log")
    handler = FileHandler(str(log))
    handler.write("a")
    assert handler.rotate()
    handler.write("b")
    handler.close()
    assert log.is_symlink()
    assert log.read_text() == "b\n"
    assert sorted(path.name[:9] for path in (tmp_path / "data").iterdir()) == ["real.log", "real.log.", "real.log."]


# Files that others move


def test_a_file_that_was_moved_is_followed_to_the_new_one(handler: FileHandler, log: Path) -> None:
    handler.write("one")
    log.rename(log.parent / "moved")
    handler.write("two")  # nobody has created the new one yet
    log.touch(0o600)
    handler.write("three")
    assert (log.parent / "moved").read_text() == "one\ntwo\n"
    assert log.read_text() == "three\n"


def test_a_file_that_nobody_creates_is_created_after_a_moment(
    handler: FileHandler, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler.write("one")
    log.rename(log.parent / "moved")
    handler.write("two")
    monkeypatch.setattr(files, "PATIENCE", 0.0)
    handler.write("three")
    assert (log.parent / "moved").read_text() == "one\ntwo\n"
    assert log.read_text() == "three\n"


def test_a_rotation_leaves_a_file_alone_that_somebody_is_just_moving(handler: FileHandler, log: Path) -> None:
    handler.write("one")
    log.rename(log.parent / "moved")
    assert not handler.rotate()
    assert [path.name for path in rotated(log)] == ["moved"]


def test_a_file_that_was_deleted_is_created_at_once(handler: FileHandler, log: Path) -> None:
    handler.write("one")
    log.unlink()
    handler.write("two")
    assert log.read_text() == "two\n"


def test_a_directory_that_was_deleted_costs_lines(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "app.log"
    log.parent.mkdir()
    handler = FileHandler(str(log))
    log.unlink()
    log.parent.rmdir()
    before = dropped()
    handler.write("one")
    assert dropped() - before == 1
    log.parent.mkdir()
    handler.write("two")
    handler.close()
    assert log.read_text() == "log records were lost\ntwo\n"


def test_a_new_file_that_cannot_be_opened_leaves_the_old_one_in_use(
    handler: FileHandler, log: Path, reported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler.write("one")
    log.rename(log.parent / "moved")
    log.mkdir()
    handler.write("two")
    assert (log.parent / "moved").read_text() == "one\ntwo\n"
    assert reported == ["FileHandler.reopen"]


def test_a_path_that_cannot_be_looked_up_leaves_the_file_in_use(
    handler: FileHandler, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", fail)
        handler.write("one")
    assert log.read_text() == "one\n"


def test_reopening_lets_go_of_a_moved_file_at_once(handler: FileHandler, log: Path) -> None:
    handler.write("one")
    log.rename(log.parent / "moved")
    handler.reopen()
    assert log.read_text() == ""
    handler.write("two")
    assert log.read_text() == "two\n"


def test_reopening_in_the_middle_of_a_line_waits_for_its_end(
    handler: FileHandler, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = handler._file._append

    def interrupted(data: bytes) -> None:
        monkeypatch.undo()
        log.rename(log.parent / "moved")
        handler.reopen()
        append(data)

    monkeypatch.setattr(handler._file, "_append", interrupted)
    handler.write("one")
    assert not log.exists()
    handler.write("two")
    assert (log.parent / "moved").read_text() == "one\n"
    assert log.read_text() == "two\n"


def test_reopening_never_waits_for_another_thread(handler: FileHandler, log: Path) -> None:
    holding, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        holding.set()
        go_on.wait()

    thread = threading.Thread(target=handler._delivery.run, args=(hold,))
    thread.start()
    holding.wait()
    handler.reopen()
    go_on.set()
    thread.join()
    handler.write("one")
    assert log.read_text() == "one\n"


def test_reopening_what_cannot_be_opened_raises_nothing(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "app.log"
    log.parent.mkdir()
    handler = FileHandler(str(log))
    log.unlink()
    log.parent.rmdir()
    before = dropped()
    handler.reopen()
    handler.write("one")
    assert dropped() - before == 1
    handler.close()


def test_a_line_after_closing_opens_the_file_again(handler: FileHandler, log: Path) -> None:
    handler.write("one")
    handler.close()
    handler.write("two")
    assert log.read_text() == "one\ntwo\n"


def test_what_a_forked_process_does_first_is_to_open_the_file(handler: FileHandler, log: Path) -> None:
    handler.write("parent")
    fd = os.dup(handler._file._fd)
    handler._file.forget()
    handler.write("child")
    assert log.read_text() == "parent\nchild\n"
    assert os.lseek(fd, 0, os.SEEK_CUR) == len("parent\n")
    os.close(fd)


def test_a_queue_waits_for_room_in_a_pipe_only(handler: FileHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    handler._file.wait(0.5)
    assert slept == [0.5]


def test_a_forked_process_opens_the_file_for_itself(handler: FileHandler, log: Path) -> None:
    handler.write("parent")
    fd = handler._file._fd
    in_child(lambda: handler.write("child"))
    assert log.read_text() == "parent\nchild\n"
    assert os.lseek(fd, 0, os.SEEK_CUR) == len("parent\n")


# Disks that are full, and what is no file


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size`: as if the disk were full, for whoever runs the tests too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_part_of_a_line_that_found_room_is_removed(handler: FileHandler, log: Path) -> None:
    before = dropped()
    with files_limited_to(1_000):
        for _ in range(3):
            handler.write("x" * 399)
        handler.write("y" * 99)
    lines = log.read_text().splitlines()
    assert dropped() - before == 1
    assert lines == ["x" * 399, "x" * 399, "log records were lost", "y" * 99]


def test_a_part_that_somebody_has_written_behind_stays(handler: FileHandler, log: Path) -> None:
    handler.write("x" * 899)
    os.lseek(handler._file._fd, 0, os.SEEK_SET)
    handler._file._take_back(900)
    assert log.read_text() == "x" * 899 + "\n"


def test_a_full_disk_costs_lines_and_says_how_many_afterwards() -> None:
    before = dropped()
    handler = FileHandler("/dev/full")
    for _ in range(5):
        handler.write("a")
    assert dropped() - before == 5
    assert not handler.rotate()
    handler.close()


def test_what_is_no_file_is_never_rotated(clock: Clock) -> None:
    handler = FileHandler("/dev/null", clock=clock)
    handler.write("a")
    clock.now += DAY
    handler.write("b")
    assert not handler.rotate()
    handler.close()
    assert Path("/dev/null").is_char_device()


def test_a_pipe_that_nobody_opens_is_refused_and_one_that_nobody_reads_costs_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptor, "GRACE", 0.01)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(ConfigurationError, match="No such device"):
        FileHandler(str(path))
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    handler = FileHandler(str(path))
    before = dropped()
    for _ in range(1_000):
        handler.write("x" * 299)
    lost = dropped() - before
    received = os.read(reader, 1_000_000)
    assert received == (b"x" * 299 + b"\n") * int(1_000 - lost)
    assert lost > 0
    handler.close()
    os.close(reader)


def test_a_queue_waits_for_the_reader_of_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptor, "GRACE", 0.01)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    handler = FileHandler(str(path), queue_size=10_000)
    for _ in range(1_000):
        handler.write("x" * 299)
    received = b""
    os.set_blocking(reader, True)
    while len(received) < 300_000:
        received += os.read(reader, 1_000_000)
    handler.close()
    os.close(reader)
    assert received == (b"x" * 299 + b"\n") * 1_000
