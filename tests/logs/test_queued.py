from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from asgi_obs.logs import queued as module
from asgi_obs.logs.delivery import Direct
from asgi_obs.logs.queued import Queued
from tests.logs.sinks import FULL, STALLED, Lines, announce, dropped, in_child, until

SIZE = 10


@pytest.fixture
def sink() -> Lines:
    return Lines()


@pytest.fixture
def queued(sink: Lines, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queued]:
    monkeypatch.setattr(module, "FLUSH_INTERVAL", 0.01)
    queued = Queued(Direct(sink, announce, "Test.emit"), SIZE)
    yield queued
    sink.recover()
    queued.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)


def stall(queued: Queued, sink: Lines) -> None:
    """Have the thread wait, with one line in its hands."""
    sink.error = STALLED
    waiting = threading.Event()
    sink.before_write = waiting.set
    queued.deliver("first")
    waiting.wait()


def test_lines_are_written_in_order_by_a_thread(queued: Queued, sink: Lines) -> None:
    writers: list[int] = []
    sink.before_write = lambda: writers.append(threading.get_ident())
    for line in "abc":
        queued.deliver(line)
    assert queued.flush()
    assert sink.lines == ["a", "b", "c"]
    assert threading.get_ident() not in writers


def test_nothing_is_to_be_flushed_before_the_first_line(queued: Queued) -> None:
    assert queued.flush()


def test_a_line_that_finds_the_queue_full_is_dropped_and_announced_where_it_was_missing(
    queued: Queued, sink: Lines
) -> None:
    before = dropped()
    stall(queued, sink)
    for number in range(SIZE + 5):
        queued.deliver(f"{number}")
    assert dropped() - before == 5
    sink.recover()
    assert queued.flush()
    queued.deliver("after")
    assert queued.flush()
    assert sink.lines == ["first", *map(str, range(SIZE)), "lost 5", "after"]


def test_a_loss_is_announced_ahead_of_the_next_line_that_is_accepted(queued: Queued, sink: Lines) -> None:
    stall(queued, sink)
    for number in range(SIZE + 2):
        queued.deliver(f"{number}")
    queued.deliver("audit", keep=True)
    sink.recover()
    queued.flush()
    assert sink.lines == ["first", *map(str, range(SIZE)), "lost 2", "audit"]


def test_lines_to_be_kept_are_accepted_beyond_the_size_and_bounded(
    queued: Queued, sink: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_HELD", 2)
    before = dropped()
    stall(queued, sink)
    for number in range(SIZE + 3):
        queued.deliver(f"audit {number}", keep=True)
    assert dropped() - before == 1
    sink.recover()
    queued.flush()
    assert sink.lines == ["first", *(f"audit {number}" for number in range(SIZE + 2)), "lost 1"]


def test_lines_that_the_thread_cannot_write_are_lost_but_for_those_to_be_kept(queued: Queued, sink: Lines) -> None:
    before = dropped()
    sink.error = FULL
    queued.deliver("a")
    queued.deliver("audit", keep=True)
    queued.flush()
    sink.error = None
    queued.deliver("b")
    queued.flush()
    assert sink.lines == ["audit", "lost 1", "b"]
    assert dropped() - before == 1


def test_losses_of_the_queue_and_of_the_sink_have_one_account(queued: Queued, sink: Lines) -> None:
    sink.error = FULL
    queued.deliver("a")
    queued.flush()
    queued.lose()
    sink.error = None
    queued.deliver("b")
    queued.flush()
    assert sink.lines == ["lost 2", "b"]


def test_every_line_is_written_or_counted_with_many_threads(queued: Queued, sink: Lines) -> None:
    before = dropped()

    def log(_: int) -> None:
        for _ in range(500):
            queued.deliver("a")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(log, range(8)))
    until(queued.flush)
    announced = sum(int(line.split()[1]) for line in sink.lines if line.startswith("lost"))
    assert sink.lines.count("a") + announced == 4_000
    assert dropped() - before == announced


@pytest.mark.usefixtures("impatient")
def test_a_flush_gives_up_when_there_is_no_progress(queued: Queued, sink: Lines) -> None:
    stall(queued, sink)
    assert not queued.flush()
    assert sink.lines == []


def test_a_flush_goes_on_as_long_as_there_is_progress(
    queued: Queued, sink: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = threading.Semaphore(0)

    class OneLineLater(threading.Event):
        """Loses patience after each line."""

        def wait(self, timeout: float | None = None) -> bool:
            lines = len(sink.lines)
            step.release()
            until(lambda: len(sink.lines) > lines or self.is_set())
            until(lambda: queued._handled == len(sink.lines) or self.is_set())
            return self.is_set()

    sink.before_write = step.acquire
    for line in "abc":
        queued.deliver(line)
    monkeypatch.setattr(module, "threading", SimpleNamespace(Event=OneLineLater, RLock=threading.RLock))
    assert queued.flush()
    assert sink.lines == ["a", "b", "c"]


def test_draining_writes_what_waits_and_then_directly(queued: Queued, sink: Lines) -> None:
    writers: list[int] = []
    sink.before_write = lambda: writers.append(threading.get_ident())
    queued.deliver("a")
    queued.drain()
    queued.deliver("b")
    assert sink.lines == ["a", "b"]
    assert writers[-1] == threading.get_ident()


def test_a_line_that_was_never_made_is_announced_when_draining_is_over_too(queued: Queued, sink: Lines) -> None:
    queued.drain()
    queued.lose()
    queued.deliver("a")
    assert sink.lines == ["lost 1", "a"]


@pytest.mark.usefixtures("impatient")
def test_a_flush_that_has_given_up_does_not_wait_again_until_there_was_progress(
    queued: Queued, sink: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_INTERVAL", 0.01)
    stall(queued, sink)
    assert not queued.flush()
    monkeypatch.setattr(module, "PATIENCE", 1_000.0)
    assert not queued.flush()
    sink.recover()
    until(lambda: sink.lines)
    assert queued.flush()


def test_closing_writes_what_waits_and_ends_the_thread(queued: Queued, sink: Lines) -> None:
    queued.deliver("a")
    thread: Any = queued._thread
    queued.close()
    queued.close()
    assert sink.lines == ["a"]
    assert sink.closed == 2
    assert not thread.is_alive()


def test_a_line_after_the_end_starts_another_thread(queued: Queued, sink: Lines) -> None:
    queued.deliver("a")
    queued.close()
    stall(queued, sink)
    queued.deliver("b")
    assert sink.lines == ["a"]
    sink.recover()
    assert queued.flush()
    assert sink.lines == ["a", "first", "b"]


def test_at_exit_what_waits_is_written_and_later_lines_directly(queued: Queued, sink: Lines) -> None:
    queued.deliver("a")
    module._drain_all()
    assert sink.lines == ["a"]
    queued.deliver("b")
    assert sink.lines == ["a", "b"]


@pytest.mark.usefixtures("impatient")
def test_a_stalled_sink_gets_its_lines_and_is_closed_when_it_recovers(
    queued: Queued, sink: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_INTERVAL", 0.01)
    stall(queued, sink)
    queued.deliver("second")
    queued.close()
    assert (sink.lines, sink.closed) == ([], 0)
    sink.recover()
    until(lambda: sink.closed)
    assert sink.lines == ["first", "second"]


def test_lines_are_written_directly_where_there_can_be_no_thread(
    queued: Queued, sink: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", fail)
    queued.deliver("a")
    assert sink.lines == ["a"]


def test_one_thread_is_started_for_lines_of_several(queued: Queued) -> None:
    queued.deliver("a")
    thread = queued._thread
    assert queued._start()
    assert queued._thread is thread


def test_something_can_be_done_between_two_lines(queued: Queued, sink: Lines) -> None:
    assert queued.run(lambda: sink.lines.append("done"))
    assert sink.lines == ["done"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_process_has_an_empty_queue_and_a_thread_of_its_own(queued: Queued, sink: Lines) -> None:
    stall(queued, sink)
    queued.deliver("parent")
    reader, writer = os.pipe()

    def write() -> None:  # pragma: no cover - in the child
        sink.recover()
        queued.deliver("child")
        queued.flush()
        os.write(writer, repr(sink.lines).encode())

    in_child(write)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read().decode() == "['child']"
    sink.recover()
    queued.flush()
    assert sink.lines == ["first", "parent"]


def test_a_forked_process_starts_anew(queued: Queued, sink: Lines) -> None:
    queued.lose()
    queued.after_fork()
    queued.deliver("a")
    queued.flush()
    assert sink.lines == ["a"]


@pytest.mark.parametrize(
    ("process", "expected"),
    [
        (SimpleNamespace(parent_process=lambda: "the parent"), 1),
        (SimpleNamespace(parent_process=lambda: None), 0),
        (None, 0),
    ],
)
def test_a_child_of_multiprocessing_has_it_flush(
    queued: Queued, sink: Lines, monkeypatch: pytest.MonkeyPatch, process: Any, expected: int
) -> None:
    finalizers: list[Any] = []

    def finalize(obj: None, callback: Callable[[], object], *, exitpriority: int) -> None:
        finalizers.append(callback)

    monkeypatch.setitem(sys.modules, "multiprocessing.process", process)
    monkeypatch.setitem(sys.modules, "multiprocessing.util", SimpleNamespace(Finalize=finalize))  # type: ignore[arg-type]
    queued.deliver("a")
    assert finalizers == [queued.flush] * expected


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_of_multiprocessing_flushes_at_its_end(queued: Queued, sink: Lines) -> None:
    reader, writer = os.pipe()

    def log() -> None:  # pragma: no cover - in the child
        sink.before_write = lambda: os.write(writer, b"written")  # type: ignore[assignment]
        queued.deliver("a")

    child = multiprocessing.get_context("fork").Process(target=log)
    child.start()
    child.join()
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"written"
