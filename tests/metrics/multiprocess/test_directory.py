from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from asgi_obs.errors import SettingsError
from asgi_obs.metrics.multiprocess import directory
from asgi_obs.metrics.multiprocess.directory import configured, exclusive, is_live, prepare, process_files
from tests.metrics.multiprocess.files import leave, names, start


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.delenv("prometheus_multiproc_dir", raising=False)
    return monkeypatch


def test_without_the_variable_nothing_is_configured(unset: pytest.MonkeyPatch) -> None:
    assert configured() is None


def test_both_spellings_are_read_and_the_current_one_wins(unset: pytest.MonkeyPatch) -> None:
    unset.setenv("prometheus_multiproc_dir", "/old")
    assert configured() == "/old"
    unset.setenv("PROMETHEUS_MULTIPROC_DIR", "/new")
    assert configured() == "/new"


def test_a_directory_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    leave(tmp_path, 1, {})
    assert prepare(str(tmp_path)) == tmp_path
    assert len(names(tmp_path)) == 1


def test_a_directory_that_is_missing_is_created(tmp_path: Path) -> None:
    assert prepare(str(tmp_path / "metrics")).is_dir()


def test_a_relative_path_means_the_same_when_the_process_has_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert prepare("metrics") == tmp_path / "metrics"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "or to be unset"),
        ("{}/a/b", "No such file"),
        ("{}/file", "File exists"),
        ("{}/file/metrics", "Not a directory"),
        ("/proc", "can be written"),
        ("{}/taken", "folded.metrics in it is no file"),
    ],
)
def test_what_cannot_be_used_is_rejected(value: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "taken" / "folded.metrics").mkdir(parents=True)
    with pytest.raises(SettingsError, match=f"PROMETHEUS_MULTIPROC_DIR=.*a directory on a local file system.*{reason}"):
        prepare(value.format(tmp_path))


def test_a_file_system_whose_locks_have_no_effect_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *args: None)
    with pytest.raises(SettingsError, match="locks have no effect there"):
        prepare(str(tmp_path))
    assert names(tmp_path) == []


def test_a_process_lives_as_long_as_it_has_its_file_locked(tmp_path: Path) -> None:
    file = start(tmp_path, 7, {})
    assert is_live(file.path)
    file.close()
    assert not is_live(file.path)


def test_files_of_others_and_of_processes_that_are_just_starting_are_no_process_files(tmp_path: Path) -> None:
    ours = leave(tmp_path, 7, {})
    for name in ("8-00ff.metrics", "counter_7.db", "folded.metrics", "7-xyz.metrics"):
        (tmp_path / name).touch()
    (tmp_path / "counter_9.db").write_text("of prometheus_client")
    assert list(process_files(tmp_path)) == [("7", ours)]


def test_what_is_no_file_is_left_alone_whatever_its_name(tmp_path: Path) -> None:
    ours = leave(tmp_path, 7, {})
    (tmp_path / "77-ab.metrics").mkdir()
    (tmp_path / "78-ab.metrics").symlink_to("nowhere")
    (tmp_path / "79-ab.metrics").symlink_to(ours)
    os.mkfifo(tmp_path / "80-ab.metrics")
    assert list(process_files(tmp_path)) == [("7", ours)]


def test_a_file_that_is_removed_meanwhile_is_not_missed(tmp_path: Path) -> None:
    files = [leave(tmp_path, pid, {}) for pid in (1, 2, 3)]
    found = process_files(tmp_path)
    assert next(found) == ("1", files[0])
    files[1].unlink()
    assert list(found) == [("3", files[2])]


def test_one_at_a_time_has_the_directory(tmp_path: Path) -> None:
    with exclusive(tmp_path, 20):
        with pytest.raises(TimeoutError, match=r"locked for 0\.01 seconds"):
            with exclusive(tmp_path, 0.01):
                pass  # pragma: no cover - it is not reached
    with exclusive(tmp_path, 0):
        pass


def test_whoever_waits_for_the_directory_gets_it_next(tmp_path: Path) -> None:
    waiting, has_it = threading.Event(), threading.Event()

    def wait() -> None:
        waiting.set()
        with exclusive(tmp_path, 20):
            has_it.set()

    thread = threading.Thread(target=wait)
    with exclusive(tmp_path, 20):
        thread.start()
        assert waiting.wait(20)
        assert not has_it.is_set()
    thread.join(20)
    assert has_it.is_set()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_process_that_is_forked_meanwhile_does_not_keep_the_directory(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with exclusive(tmp_path, 20):
        pid = os.fork()
        if pid == 0:  # pragma: no cover - in the child, which lives until the pipe is closed
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        # As if this process were killed here: its descriptor is closed, and nobody unlocks.
        for fd in set(directory._held):
            os.dup2(reader, fd)
    with exclusive(tmp_path, 20):
        still_there = os.waitpid(pid, os.WNOHANG)
    os.close(writer)
    os.waitpid(pid, 0)
    os.close(reader)
    assert still_there == (0, 0)


def test_what_is_held_is_let_go_behind_a_fork(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    directory._held.add(fd)
    directory._let_go()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
