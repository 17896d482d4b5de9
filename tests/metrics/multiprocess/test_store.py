from __future__ import annotations

import errno
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from asgi_obs.metrics.multiprocess import store as module
from asgi_obs.metrics.multiprocess.directory import exclusive, is_live
from asgi_obs.metrics.multiprocess.file import read_entries
from asgi_obs.metrics.multiprocess.store import MAX_PROBLEMS, Store
from asgi_obs.metrics.multiprocess.values import value_class
from tests.metrics.multiprocess.files import COUNTER, OTHER, leave, names

forking = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def count(store: Store, key: str = COUNTER, amount: float = 1.0) -> None:
    cells, index = store.cell(key)
    cells[index] += amount


def own_file(path: Path) -> Path:
    (file,) = path.glob(f"{os.getpid()}-*.metrics")
    return file


def test_the_file_is_made_with_the_first_value(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert names(tmp_path) == []
    count(store)
    count(store)
    assert list(read_entries(own_file(tmp_path))) == [(COUNTER, 2.0, 0.0)]


def test_a_process_that_starts_folds_those_that_have_ended(tmp_path: Path) -> None:
    leave(tmp_path, 1, {COUNTER: 1.0})
    count(Store(tmp_path))
    assert names(tmp_path) == [own_file(tmp_path).name, "folded.metrics"]


def test_a_process_starts_while_another_one_has_the_directory(tmp_path: Path) -> None:
    leave(tmp_path, 1, {COUNTER: 1.0})
    with exclusive(tmp_path, 20):
        count(Store(tmp_path))
    assert names(tmp_path) == ["1-0000000000000001.metrics", own_file(tmp_path).name]


def test_two_processes_with_the_same_pid_are_two(tmp_path: Path) -> None:
    stores = [Store(tmp_path), Store(tmp_path)]
    for store in stores:
        count(store)
    snapshot = stores[0].take_snapshot()
    assert [(pid, list(entries)) for pid, entries in snapshot.live] == [(str(os.getpid()), [(COUNTER, 1.0, 0.0)])] * 2


def test_threads_make_one_file_and_one_place_for_a_value(tmp_path: Path) -> None:
    store = Store(tmp_path)
    barrier = threading.Barrier(8)
    found = []

    def ask() -> None:
        barrier.wait()
        found.append(store.cell(COUNTER)[1])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(names(tmp_path)) == 1


def test_what_is_forgotten_counts_as_ended(tmp_path: Path) -> None:
    store = Store(tmp_path)
    count(store)
    first = own_file(tmp_path)
    for _ in range(2):
        module._after_fork()
    assert not is_live(first)
    count(store)
    assert names(tmp_path) == sorted([own_file(tmp_path).name, "folded.metrics"])
    assert own_file(tmp_path) != first


@forking
def test_a_forked_process_counts_for_itself_and_does_not_keep_its_parent_alive(tmp_path: Path) -> None:
    store = Store(tmp_path)
    count(store)
    parents = own_file(tmp_path)
    reader, writer = os.pipe()
    ready, done = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover - in the child, which lives until the pipe is closed
        os.close(writer)
        count(store, OTHER)
        os.write(done, b".")
        os.read(reader, 1)
        os._exit(0)
    os.read(ready, 1)
    count(store)
    assert list(read_entries(parents)) == [(COUNTER, 2.0, 0.0)]
    (childs,) = tmp_path.glob(f"{pid}-*.metrics")
    assert list(read_entries(childs)) == [(OTHER, 1.0, 0.0)]
    assert is_live(childs)
    store.forget()  # as if the parent had ended
    assert not is_live(parents)
    os.close(writer)
    os.waitpid(pid, 0)
    assert not is_live(childs)
    for fd in (reader, ready, done):
        os.close(fd)


@forking
def test_a_forked_process_that_counts_nothing_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    count(store)
    pid = os.fork()
    if pid == 0:  # pragma: no cover - in the child
        os._exit(0)
    os.waitpid(pid, 0)
    assert names(tmp_path) == [own_file(tmp_path).name]


def refuse(*args: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_on_a_full_disk_whoever_counts_goes_on_and_it_is_told_with_the_next_scrape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", refuse)
        for _ in range(MAX_PROBLEMS + 1):
            count(store)
    count(store)
    snapshot = store.take_snapshot()
    assert [str(problem) for problem in snapshot.problems] == ["[Errno 28] No space left on device"] * MAX_PROBLEMS
    assert [list(entries) for _, entries in snapshot.live] == [[(COUNTER, 1.0, 0.0)]]
    assert store.take_snapshot().problems == []


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was reported, as text."""
    found: list[str] = []
    monkeypatch.setattr(module, "report", lambda place, error: found.append(f"{place}: {error}"))
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "parent" / "metrics"


@pytest.fixture
def two(directory: Path) -> tuple[Store, Store]:
    """Two processes that have counted: 1 and 10."""
    directory.mkdir(parents=True)
    stores = Store(directory), Store(directory)
    for store, amount in zip(stores, (1.0, 10.0), strict=True):
        count(store, amount=amount)
    return stores


def counted(store: Store) -> list[float]:
    """The values in all files of processes that live."""
    return sorted(value for _, entries in store.take_snapshot().live for _, value, _ in entries)


def remove_files(directory: Path) -> None:
    for file in directory.iterdir():
        file.unlink()


@pytest.mark.parametrize("remove", [remove_files, shutil.rmtree])
def test_what_is_removed_is_made_again_with_all_that_was_counted(
    remove: Callable[[Path], object], directory: Path, two: tuple[Store, Store], reported: list[str]
) -> None:
    lost = [str(file) for file in directory.iterdir()]
    remove(directory)
    assert counted(two[0]) == [1.0]
    two[1].look_after()
    for store in two:
        count(store)
    assert counted(two[0]) == counted(two[1]) == [2.0, 11.0]
    message = "Store.look_after: [Errno 2] Somebody removed it; it is made again: {!r}"
    assert sorted(reported) == sorted(message.format(path) for path in lost)


def test_what_is_there_is_left_as_it_is(directory: Path, two: tuple[Store, Store], reported: list[str]) -> None:
    before = names(directory)
    two[0].look_after()
    assert counted(two[0]) == [1.0, 10.0]
    assert (names(directory), reported) == (before, [])


def test_looking_after_nothing_makes_nothing(directory: Path, reported: list[str]) -> None:
    directory.mkdir(parents=True)
    Store(directory).look_after()
    assert (names(directory), reported) == ([], [])


def test_where_the_directory_cannot_be_made_again_nothing_is_shown_and_counting_goes_on(
    directory: Path, two: tuple[Store, Store], reported: list[str]
) -> None:
    shutil.rmtree(directory.parent)
    assert counted(two[0]) == []
    count(two[0])
    assert two[0].value(COUNTER) == 2.0
    assert reported == [f"Store.look_after: [Errno 2] No such file or directory: {str(directory)!r}"]
    directory.parent.mkdir()
    assert counted(two[0]) == [2.0]


def test_a_process_that_starts_makes_the_directory_again(directory: Path, two: tuple[Store, Store]) -> None:
    shutil.rmtree(directory)
    count(Store(directory), amount=5.0)
    assert counted(two[0]) == [1.0, 5.0]


def test_a_directory_that_is_gone_keeps_nobody_from_counting(directory: Path) -> None:
    store = Store(directory)
    count(store)
    assert [type(problem) for problem in store.take_snapshot().problems] == [FileNotFoundError]


def test_nothing_is_lost_that_other_threads_count_while_the_file_is_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    value = value_class(store, has_gil=True)("counter", "jobs", "jobs_total", (), (), "Jobs done.")
    for number in range(500):
        count(store, f"{number:050}")
    done = threading.Event()
    counts = []

    def work() -> None:
        rounds = 0
        while not done.is_set():
            value.inc(1)
            rounds += 1
        counts.append(rounds)

    threads = [threading.Thread(target=work) for _ in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for _ in range(100):
            own_file(tmp_path).unlink()
            store.look_after()
    finally:
        done.set()
        sys.setswitchinterval(interval)
    for thread in threads:
        thread.join()
    assert value.get() == sum(counts)
    assert value.get() in [found for _, found, _ in read_entries(own_file(tmp_path))]


def test_what_starting_found_is_told_with_the_next_scrape(tmp_path: Path) -> None:
    (tmp_path / "2-aa.metrics").write_bytes(b"\x7f\xff\xff\x7f damaged")
    store = Store(tmp_path)
    store.start()
    assert [str(problem) for problem in store.take_snapshot().problems] == ["2-aa.metrics was truncated"]
