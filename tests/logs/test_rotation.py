from __future__ import annotations

import datetime as dt
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgi_obs.logs import rotation
from asgi_obs.logs.rotation import create, delete_old, exclusive, open_log, set_aside

NOON = 1_700_049_600.0
"""2023-11-15 12:00 UTC."""

TODAY = dt.date(2023, 11, 15)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.write_text("line\n")
    os.utime(path, (NOON, NOON))
    return path


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("wanted", [0o640, 0o666, 0o600])
def test_a_file_is_created_with_exactly_these_permissions(tmp_path: Path, wanted: int) -> None:
    os.close(open_log(str(tmp_path / "new"), wanted))
    assert mode(tmp_path / "new") == wanted


def test_a_file_that_is_there_keeps_its_lines_and_permissions(log: Path) -> None:
    log.chmod(0o604)
    fd = open_log(str(log), 0o640)
    os.write(fd, b"another\n")
    os.close(fd)
    assert log.read_text() == "line\nanother\n"
    assert mode(log) == 0o604


def test_a_file_that_somebody_else_creates_meanwhile_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def create_too_late(path: str, mode: int) -> int:
        Path(path).touch()
        return create(path, mode)

    monkeypatch.setattr(rotation, "create", create_too_late)
    os.close(open_log(str(tmp_path / "new"), 0o640))
    assert (tmp_path / "new").exists()


def test_a_file_that_others_rename_again_and_again_is_an_error_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str, mode: int) -> int:
        raise FileExistsError

    monkeypatch.setattr(rotation, "create", fail)
    with pytest.raises(FileNotFoundError):
        open_log(str(tmp_path / "new"), 0o640)


def test_a_log_is_set_aside_under_the_day_of_its_last_line(log: Path) -> None:
    set_aside(str(log), NOON + 100)
    assert [path.name for path in log.parent.iterdir()] == ["app.log.2023-11-15"]


def test_a_line_that_came_a_moment_after_midnight_does_not_change_the_day(log: Path) -> None:
    midnight = NOON - NOON % 86_400
    set_aside(str(log), midnight - 1)
    assert [path.name for path in log.parent.iterdir()] == ["app.log.2023-11-14"]


def test_no_file_is_overwritten(log: Path) -> None:
    for number in range(3):
        log.write_text(f"{number}")
        os.utime(log, (NOON, NOON))
        set_aside(str(log), NOON)
    assert {path.name: path.read_text() for path in log.parent.iterdir()} == {
        "app.log.2023-11-15": "0",
        "app.log.2023-11-15.1": "1",
        "app.log.2023-11-15.2": "2",
    }


def test_old_files_are_deleted_and_nothing_else(log: Path) -> None:
    kept = {
        "app.log", "app.log.lock", "app.log.2023-11-08", "app.log.2023-11-15.1", "app.log.2023-11-01.gz",
        "app.log.2023-13-01", "other.log.2023-01-01", "my.app.log.2023-01-01", "app.log.2023-01-01.x", "app.log.old",
        "app_log.2023-01-01", "app.log.2023-01-01\n",
    }  # fmt: skip
    deleted = {"app.log.2023-11-07", "app.log.2023-11-07.12", "app.log.1999-12-31"}
    for name in kept | deleted:
        (log.parent / name).touch()
    delete_old(str(log), TODAY, 7)
    assert {path.name for path in log.parent.iterdir()} == kept


def test_a_file_that_somebody_else_deletes_meanwhile_is_nothing_to_say(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (log.parent / "app.log.1999-12-31").touch()
    unlink = Path.unlink

    def unlink_twice(path: Path) -> None:
        unlink(path)
        unlink(path)

    monkeypatch.setattr(Path, "unlink", unlink_twice)
    delete_old(str(log), TODAY, 7)
    assert [path.name for path in log.parent.iterdir()] == ["app.log"]


def test_one_at_a_time_holds_the_lock(log: Path) -> None:
    with exclusive(str(log), 0o640) as first, exclusive(str(log), 0o640) as second:
        assert (first, second) == (True, False)
    with exclusive(str(log), 0o640) as third:
        assert third
    assert mode(log.parent / "app.log.lock") == 0o640


def test_the_lock_is_not_kept_by_a_process_that_was_forked_meanwhile(log: Path) -> None:
    with exclusive(str(log), 0o640):
        inherited = os.dup(os.open(log.parent / "app.log.lock", os.O_RDONLY))
    with exclusive(str(log), 0o640) as is_ours:
        assert is_ours
        with pytest.raises(BlockingIOError):
            fcntl.flock(inherited, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(inherited)
