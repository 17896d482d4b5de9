"""The file that workers share: whole or not there, and of nobody else."""

from __future__ import annotations

import json
import logging
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_obs.logs.temporary import TemporaryLevel
from asgi_obs.ops.levels_file import LevelsFile, _is_valid, is_logger_name
from asgi_obs.settings import LOG_LEVELS

UNTIL = time.time() + 3600
ENTRY = {"level": "DEBUG", "until": UNTIL}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "loggers.json"


@pytest.fixture
def file(tmp_path: Path) -> LevelsFile:
    return LevelsFile(str(tmp_path))


def level(number: int) -> TemporaryLevel:
    return TemporaryLevel(number, UNTIL, before=logging.NOTSET, audited=True)


def test_what_is_written_is_read(file: LevelsFile, path: Path) -> None:
    assert (file.version(), file.read()) == (None, {})
    file.write({"shop.db": level(logging.DEBUG), "root": level(logging.WARNING)})
    assert file.read() == {"shop.db": (logging.DEBUG, UNTIL), "root": (logging.WARNING, UNTIL)}
    assert json.loads(path.read_text())["root"] == {"level": "WARN", "until": UNTIL}


def test_each_time_it_is_written_it_is_of_another_version(file: LevelsFile) -> None:
    versions = []
    for number in (logging.DEBUG, logging.INFO):
        file.write({"shop": level(number)})
        versions.append(file.version())
    assert file.version() == versions[1] != versions[0]


def test_nobody_else_can_read_or_write_it(file: LevelsFile, path: Path) -> None:
    file.write({})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_of_one_that_cannot_be_written_nothing_is_left(file: LevelsFile, path: Path) -> None:
    path.mkdir()
    with pytest.raises(OSError, match=r"loggers\.json"):
        file.write({})
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_one_that_others_can_write_is_not_read(file: LevelsFile, path: Path, mode: int) -> None:
    file.write({"shop": level(logging.DEBUG)})
    path.chmod(mode)
    with pytest.raises(PermissionError, match="only this user"):
        file.read()


def test_one_of_another_user_is_not_read(file: LevelsFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write({"shop": level(logging.DEBUG)})
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(PermissionError, match="only this user"):
        file.read()


def test_what_is_not_a_file_is_not_read(file: LevelsFile, path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}")
    path.symlink_to(other)
    with pytest.raises(OSError, match="symbolic link"):
        file.read()
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(PermissionError, match="only this user"):
        file.read()
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        file.read()


@pytest.mark.parametrize("content", ["", "{", "\0", "nul"])
def test_what_is_not_in_json_is_an_error(file: LevelsFile, path: Path, content: str) -> None:
    _written(path, content)
    with pytest.raises(ValueError, match="line 1"):
        file.read()


@pytest.mark.parametrize(
    "content",
    [
        [],
        None,
        {"shop": None},
        {"shop": {}},
        {"shop": {**ENTRY, "level": "LOUD"}},
        {"shop": {**ENTRY, "level": ["DEBUG"]}},
        {"shop": {"level": "DEBUG"}},
        {"shop": {**ENTRY, "until": "soon"}},
        {"shop": {**ENTRY, "until": True}},
        {"shop": {**ENTRY, "until": UNTIL - 7200}},
        {"shop": {**ENTRY, "until": UNTIL + 86_400}},
        {"shop": {**ENTRY, "until": 1e300}},
        {"": ENTRY, "a..b": ENTRY, "x" * 201: ENTRY, "a\n": ENTRY},
    ],
)
def test_what_is_not_valid_in_it_is_left_out(file: LevelsFile, path: Path, content: Any) -> None:
    _written(path, json.dumps(content))
    assert file.read() == {}
    if isinstance(content, dict):
        _written(path, json.dumps({**content, "good": ENTRY}))
        assert file.read() == {"good": (logging.DEBUG, UNTIL)}


@given(
    name=st.text(max_size=210),
    entry=st.none()
    | st.integers()
    | st.fixed_dictionaries(
        {"level": st.sampled_from(LOG_LEVELS) | st.text(), "until": st.none() | st.text() | st.floats() | st.integers()}
    ),
)
def test_no_entry_breaks_it(name: str, entry: Any) -> None:
    assert _is_valid(name, entry) in {True, False}


@pytest.mark.parametrize("name", ["root", "shop", "shop.db", "__main__", "müsli", "a b:c-d", "x" * 200])
def test_the_names_of_loggers(name: str) -> None:
    assert is_logger_name(name)


def test_only_one_process_at_a_time_holds_it(file: LevelsFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_obs.ops.levels_file.PATIENCE", 0.01)
    with file.held(), pytest.raises(TimeoutError):
        file.held().__enter__()
    with file.held():
        file.write({})


def _written(path: Path, content: str) -> None:
    path.write_text(content)
    path.chmod(0o600)
