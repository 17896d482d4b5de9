from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from asgi_obs.metrics.multiprocess.file import read_entries
from asgi_obs.metrics.multiprocess.series import Series, decode
from asgi_obs.metrics.multiprocess.store import Store
from asgi_obs.metrics.multiprocess.values import LockedValue, SharedValue, value_class
from tests.metrics.multiprocess.files import names


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture(params=[True, False], ids=["gil", "no gil"])
def values(request: pytest.FixtureRequest, store: Store) -> type[SharedValue]:
    return value_class(store, has_gil=request.param)


def counter(values: type[SharedValue], kind: str = "mail") -> SharedValue:
    return values("counter", "jobs", "jobs_total", ("kind",), (kind,), "Jobs done.")


def gauge(values: type[SharedValue], mode: str = "livesum") -> SharedValue:
    return values("gauge", "busy", "busy", (), (), "Workers at work.", multiprocess_mode=mode, unknown="option")


def entries(path: Path) -> dict[str, tuple[float, float]]:
    """Value and time by the name of the sample, helps too."""
    found = [entry for file in path.glob("*.metrics") for entry in read_entries(file)]
    return {decode(key).name: (value, time) for key, value, time in found}


def test_what_is_added_is_in_the_file(values: type[SharedValue], store: Store) -> None:
    value = counter(values)
    value.inc(1)
    value.inc(0.5)
    assert value.get() == 1.5
    assert entries(store.path) == {"Jobs done.": (0.0, 0.0), "jobs_total": (1.5, 0.0)}


def test_what_is_set_is_in_the_file_with_its_time(values: type[SharedValue], store: Store) -> None:
    value = gauge(values, "livemostrecent")
    value.set(7.0, timestamp=1_000.0)
    value.set(8.0, timestamp=2_000.0)
    assert value.get() == 8.0
    assert entries(store.path)["busy"] == (8.0, 2_000.0)


def test_a_gauge_without_time_is_set_likewise(values: type[SharedValue], store: Store) -> None:
    value = gauge(values)
    value.set(7.0)
    value.inc(-2.0)
    assert entries(store.path)["busy"] == (5.0, 0.0)


def test_a_counter_is_there_from_the_start_and_a_gauge_when_it_is_set(values: type[SharedValue], store: Store) -> None:
    unset = gauge(values)
    assert names(store.path) == []
    counter(values)
    assert "jobs_total" in entries(store.path)
    assert "busy" not in entries(store.path)
    assert unset.get() == 0.0
    unset.inc(0.0)
    assert "busy" in entries(store.path)


def test_the_same_series_of_two_registries_adds_up(values: type[SharedValue], store: Store) -> None:
    one, other = counter(values), counter(values)
    one.inc(1)
    other.inc(1)
    assert entries(store.path)["jobs_total"] == (2.0, 0.0)


def test_exemplars_are_not_kept(values: type[SharedValue]) -> None:
    value = counter(values)
    value.set_exemplar(object())
    assert value.get_exemplar() is None


def test_behind_a_fork_a_value_begins_anew(values: type[SharedValue], store: Store) -> None:
    value, untouched, state = counter(values), counter(values, "print"), gauge(values)
    value.inc(5)
    state.set(5)
    store.forget()
    assert (value.get(), state.get()) == (0.0, 0.0)
    value.inc(1)
    state.set(2)
    (mine,) = store.path.glob(f"{os.getpid()}-*.metrics")
    found = {decode(key).name: value for key, value, _ in read_entries(mine)}
    assert found == {"Jobs done.": 0.0, "jobs_total": 1.0, "Workers at work.": 0.0, "busy": 2.0}
    assert untouched.get() == 0.0


def test_a_file_that_is_made_again_has_what_the_values_were(values: type[SharedValue], store: Store) -> None:
    value, state, last = counter(values), gauge(values), gauge(values, "mostrecent")
    value.inc(5)
    state.set(6)
    last.set(7, timestamp=1_000.0)
    (file,) = store.path.iterdir()
    file.unlink()
    store.look_after()
    assert (value.get(), state.get(), last.get()) == (5.0, 6.0, 7.0)
    value.inc(1)
    last.set(8, timestamp=2_000.0)
    found = {(series.name, series.mode): entry for series, entry in file_of(store).items()}
    assert found == {
        ("Jobs done.", ""): (0.0, 0.0),
        ("jobs_total", ""): (6.0, 0.0),
        ("Workers at work.", ""): (0.0, 0.0),
        ("busy", "livesum"): (6.0, 0.0),
        ("busy", "mostrecent"): (8.0, 2_000.0),
    }


def file_of(store: Store) -> dict[Series, tuple[float, float]]:
    (file,) = store.path.iterdir()
    return {decode(key): (value, time) for key, value, time in read_entries(file)}


def test_no_thread_comes_in_between(values: type[SharedValue]) -> None:
    interval, threads, rounds = sys.getswitchinterval(), 4, 20_000
    value = gauge(values)

    def add() -> None:
        for _ in range(rounds):
            value.inc(1)

    workers = [threading.Thread(target=add) for _ in range(threads)]
    sys.setswitchinterval(1e-6)
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(interval)
    assert value.get() == threads * rounds


def test_without_the_gil_a_lock_is_taken(store: Store) -> None:
    assert issubclass(value_class(store, has_gil=False), LockedValue)
    assert not issubclass(value_class(store, has_gil=True), LockedValue)
