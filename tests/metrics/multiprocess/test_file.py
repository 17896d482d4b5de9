from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.mmap_dict import MmapedDict

from asgi_obs.metrics.multiprocess.directory import is_live
from asgi_obs.metrics.multiprocess.file import MetricFile, read_entries
from tests.metrics.multiprocess.files import leave, names

KEYS = ["k" * length for length in range(1, 20)] + ["ä", "\U0001f600"]


def set_cell(file: MetricFile, key: str, value: float, time: float = 0.0) -> None:
    cells, index = file.cell(key)
    cells[index], cells[index + 1] = value, time


def test_what_is_written_is_read_while_the_process_lives(tmp_path: Path) -> None:
    file = MetricFile(tmp_path / "file")
    for number, key in enumerate(KEYS):
        set_cell(file, key, number, -number)
    assert list(read_entries(file.path)) == [(key, number, -number) for number, key in enumerate(KEYS)]
    file.close()


def test_a_new_value_is_zero_and_an_old_one_stays_where_it_is(tmp_path: Path) -> None:
    file = MetricFile(tmp_path / "file")
    cells, index = file.cell("key")
    assert cells[index] == 0.0
    file.cell("another")
    cells[index] = 7.0
    same, same_index = file.cell("key")
    assert same[same_index] == 7.0
    file.close()


def test_the_format_is_the_one_of_prometheus_client(tmp_path: Path) -> None:
    file = MetricFile(tmp_path / "file")
    for number, key in enumerate(KEYS):
        set_cell(file, key, number, -number)
    file.close()
    theirs = MmapedDict(str(file.path), read_mode=True)  # type: ignore[no-untyped-call]
    entries = list(theirs.read_all_values())  # type: ignore[no-untyped-call]
    theirs.close()  # type: ignore[no-untyped-call]
    assert entries == list(read_entries(file.path)) == [(key, n, -n) for n, key in enumerate(KEYS)]


def test_values_are_moved_where_they_are_when_the_file_grows(tmp_path: Path) -> None:
    file = MetricFile(tmp_path / "file")
    cells, index = file.cell("first")
    size = file.path.stat().st_size
    for number in range(3_000):
        set_cell(file, f"{number:0100}", number)
    set_cell(file, "longer than the file " * size, 7.0)
    cells[index] = 5.0
    read = {key: value for key, value, _ in read_entries(file.path)}
    assert file.path.stat().st_size > 3 * size
    assert read.pop("first") == 5.0
    assert read.pop("longer than the file " * size) == 7.0
    assert read == {f"{number:0100}": number for number in range(3_000)}
    file.close()


def test_a_file_that_is_closed_is_not_written_and_not_locked(tmp_path: Path) -> None:
    file = MetricFile(tmp_path / "file")
    cells, index = file.cell("key")
    assert is_live(file.path)
    file.close()
    assert not is_live(file.path)
    with pytest.raises(ValueError, match="released"):
        cells[index] += 1.0


def test_a_file_that_is_there_is_not_taken(tmp_path: Path) -> None:
    path = leave(tmp_path, 7, {"key": 1.0})
    with pytest.raises(FileExistsError):
        MetricFile(path)
    assert list(read_entries(path)) == [("key", 1.0, 0.0)]


def test_all_may_read_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        path = leave(tmp_path, 7, {})
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644


def refuse(*args: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_on_a_full_disk_no_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match="No space"):
        MetricFile(tmp_path / "file")
    assert names(tmp_path) == []


def test_when_the_disk_is_full_what_is_there_can_still_be_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = MetricFile(tmp_path / "file")
    set_cell(file, "key", 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", refuse)
        with pytest.raises(OSError, match="No space"):
            file.cell("x" * 100_000)
    set_cell(file, "key", 2.0)
    set_cell(file, "x" * 100_000, 3.0)
    assert list(read_entries(file.path)) == [("key", 2.0, 0.0), ("x" * 100_000, 3.0, 0.0)]
    file.close()


@pytest.mark.parametrize("content", [b"", bytes(8), bytes(4_096), struct.pack("i", 8) + bytes(100)])
def test_a_file_with_nothing_in_it_has_no_entries(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert list(read_entries(path)) == []


@pytest.mark.parametrize("size", [1, 7, 8, 30, 50])
def test_a_file_that_was_truncated_is_damaged(size: int, tmp_path: Path) -> None:
    path = leave(tmp_path, 7, {"some key": 1.0, "some other key": 2.0})
    os.truncate(path, size)
    with pytest.raises(ValueError, match="was truncated"):
        read_entries(path)


@pytest.mark.parametrize("used", [-(2**31), -8, -1, 0, 1, 7, 9, 20, 50])
def test_a_count_of_bytes_that_cannot_be_is_damage(used: int, tmp_path: Path) -> None:
    path = leave(tmp_path, 7, {"some key": 1.0})
    data = bytearray(path.read_bytes())
    data[:4] = struct.pack("i", used)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is damaged"):
        list(read_entries(path))


def test_a_file_that_is_removed_replaced_or_renamed_is_not_there(tmp_path: Path) -> None:
    file = MetricFile(tmp_path / "file")
    assert file.is_there()
    file.path.rename(tmp_path / "aside")
    assert not file.is_there()
    file.path.write_bytes(b"")
    assert not file.is_there()
    file.path.unlink()
    assert not file.is_there()
    file.close()


def test_a_copy_has_all_that_was_counted_and_goes_on(tmp_path: Path) -> None:
    file = MetricFile(tmp_path / "file")
    cells, index = file.cell("first")
    for number in range(1_000):
        set_cell(file, f"{number:0100}", number, -number)
    cells[index] = 5.0
    copy = file.copy(tmp_path / "copy")
    assert list(read_entries(copy.path)) == list(read_entries(file.path))
    with pytest.raises(ValueError, match="released"):
        cells[index] += 1.0
    file.close()
    set_cell(copy, "first", copy.value("first") + 1.0)
    set_cell(copy, "new", 7.0)
    read = {key: value for key, value, _ in read_entries(copy.path)}
    assert (len(read), read["first"], read["new"], read[f"{999:0100}"]) == (1_002, 6.0, 7.0, 999.0)
    assert is_live(copy.path)
    copy.close()


def test_without_room_for_a_copy_a_file_stays_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = MetricFile(tmp_path / "file")
    cells, index = file.cell("key")
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", refuse)
        with pytest.raises(OSError, match="No space"):
            file.copy(tmp_path / "copy")
    cells[index] = 7.0
    assert list(read_entries(file.path)) == [("key", 7.0, 0.0)]
    assert names(tmp_path) == ["file"]
    file.close()


def test_a_key_that_is_not_there_is_zero_and_is_not_added(tmp_path: Path) -> None:
    file = MetricFile(tmp_path / "file")
    set_cell(file, "key", 7.0)
    assert (file.value("key"), file.value("other")) == (7.0, 0.0)
    assert list(read_entries(file.path)) == [("key", 7.0, 0.0)]
    file.close()


@pytest.mark.parametrize("length", [-28, -1, 10_000, 2**31 - 1])
def test_an_entry_that_leads_elsewhere_is_damage(length: int, tmp_path: Path) -> None:
    path = leave(tmp_path, 7, {"some key": 1.0})
    data = bytearray(path.read_bytes())
    data[8:12] = struct.pack("i", length)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is damaged"):
        list(read_entries(path))


@given(changes=st.dictionaries(st.integers(0, 200), st.integers(0, 255), max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reading_whatever_there_is_ends_in_entries_or_in_a_value_error(changes: dict[int, int], tmp_path: Path) -> None:
    path = tmp_path / f"7-{7:016x}.metrics"
    path.unlink(missing_ok=True)
    leave(tmp_path, 7, {f"some key {number}": number for number in range(5)})
    data = bytearray(path.read_bytes())
    for position, byte in changes.items():
        data[position] = byte
    path.write_bytes(data)
    try:
        count = len(list(read_entries(path)))
    except ValueError:
        count = 0
    assert count < 3_000
