from __future__ import annotations

import gc
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakSet

import pytest

from asgi_obs import errors
from asgi_obs.logs import delivery
from asgi_obs.logs.delivery import Direct
from tests.logs.sinks import FULL, Lines, announce, dropped, in_child


@pytest.fixture
def sink() -> Lines:
    return Lines()


@pytest.fixture
def direct(sink: Lines) -> Direct:
    return Direct(sink, announce, "Test.emit")


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    places: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [places.append])
    return places


def test_a_line_is_written_before_the_call_returns(direct: Direct, sink: Lines) -> None:
    direct.deliver("a")
    assert sink.lines == ["a"]


@pytest.mark.parametrize("error", [FULL, ValueError("closed"), TypeError("a stream of somebody else")])
def test_lines_that_cannot_be_written_are_counted_and_announced_ahead_of_the_next(
    direct: Direct, sink: Lines, error: Exception
) -> None:
    before = dropped()
    direct.deliver("a")
    sink.error = error
    for _ in range(3):
        direct.deliver("x")
    sink.error = None
    for line in "bc":
        direct.deliver(line)
    assert sink.lines == ["a", "lost 3", "b", "c"]
    assert dropped() - before == 3


def test_what_failed_is_reported_each_time(direct: Direct, sink: Lines, reported: list[str]) -> None:
    sink.error = FULL
    direct.deliver("a")
    direct.deliver("b")
    assert reported == ["Test.emit", "Test.emit"]


def test_the_record_of_the_report_may_take_the_same_way_and_its_loss_counts_too(
    direct: Direct, sink: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    depth = []

    def log(component: str) -> None:  # as `report` does, once a minute
        if not depth:
            depth.append(component)
            direct.deliver("the report")

    monkeypatch.setattr(errors, "_listeners", [log])
    sink.error = FULL
    direct.deliver("a")
    sink.error = None
    direct.deliver("b")
    assert sink.lines == ["lost 2", "b"]


def test_the_announcement_can_be_lost_and_comes_once(direct: Direct, sink: Lines) -> None:
    sink.error = FULL
    direct.deliver("a")

    def fail_once() -> None:
        sink.before_write = lambda: None
        raise FULL

    sink.error = None
    sink.before_write = fail_once
    direct.deliver("b")
    direct.deliver("c")
    assert sink.lines == ["lost 2", "c"]


def test_lines_to_be_kept_are_held_and_written_ahead_of_the_next(direct: Direct, sink: Lines) -> None:
    before = dropped()
    sink.error = FULL
    direct.deliver("audit 1", keep=True)
    direct.deliver("a")
    direct.deliver("audit 2", keep=True)
    sink.error = None
    direct.deliver("b")
    assert sink.lines == ["audit 1", "audit 2", "lost 1", "b"]
    assert dropped() - before == 1


def test_no_more_lines_are_held_than_memory_allows(
    direct: Direct, sink: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "MAX_HELD", 2)
    before = dropped()
    sink.error = FULL
    for number in range(5):
        direct.deliver(f"audit {number}", keep=True)
    sink.error = None
    assert direct.flush()
    assert sink.lines == ["audit 0", "audit 1", "lost 3"]
    assert dropped() - before == 3


def test_a_flush_writes_what_is_held_and_says_whether_it_could(direct: Direct, sink: Lines) -> None:
    assert direct.flush()
    sink.error = FULL
    direct.deliver("audit", keep=True)
    assert not direct.flush()
    sink.error = None
    assert direct.flush()
    direct.drain()
    assert sink.lines == ["audit"]


def test_a_line_that_was_never_made_counts(direct: Direct, sink: Lines) -> None:
    before = dropped()
    direct.lose()
    direct.deliver("a")
    assert sink.lines == ["lost 1", "a"]
    assert dropped() - before == 1


def test_what_is_logged_in_the_middle_of_a_line_comes_behind_it(direct: Direct, sink: Lines) -> None:
    def interrupt() -> None:
        sink.before_write = lambda: None
        direct.deliver("from a signal handler")
        assert not direct.run(lambda: sink.lines.append("never"))

    sink.before_write = interrupt
    direct.deliver("a")
    assert sink.lines == ["a", "from a signal handler"]


def test_a_sink_that_logs_each_line_it_writes_comes_to_an_end(direct: Direct, sink: Lines) -> None:
    sink.before_write = lambda: direct.deliver("again")
    direct.deliver("a")
    assert sink.lines == ["a", "again"]


def test_what_went_wrong_beside_a_line_is_reported(direct: Direct, sink: Lines, reported: list[str]) -> None:
    sink.problems += [("Sink.rotate", FULL), ("Sink.reopen", FULL)]
    direct.deliver("a")
    assert sink.lines == ["a"]
    assert sorted(reported) == ["Sink.reopen", "Sink.rotate"]
    assert sink.problems == []


def test_something_can_be_done_between_two_lines(direct: Direct, sink: Lines) -> None:
    assert direct.run(lambda: direct.deliver("logged meanwhile"))
    assert sink.lines == ["logged meanwhile"]
    with pytest.raises(ZeroDivisionError):
        direct.run(lambda: 1 // 0)
    direct.deliver("a")
    assert sink.lines == ["logged meanwhile", "a"]


def test_who_does_not_wait_does_nothing_while_another_thread_writes(direct: Direct, sink: Lines) -> None:
    writing, go_on = threading.Event(), threading.Event()

    def block() -> None:
        writing.set()
        go_on.wait()

    sink.before_write = block
    thread = threading.Thread(target=direct.deliver, args=("a",))
    thread.start()
    writing.wait()
    assert not direct.run(lambda: sink.lines.append("never"), wait=False)
    go_on.set()
    thread.join()
    assert sink.lines == ["a"]


def test_losses_of_several_threads_are_counted_exactly(direct: Direct, sink: Lines) -> None:
    before = dropped()
    failures = iter(range(4_000))

    def fail_sometimes() -> None:
        if next(failures) % 3 == 0:
            raise FULL

    sink.before_write = fail_sometimes

    def log(_: int) -> None:
        for _ in range(250):
            direct.deliver("a")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(log, range(8)))
    sink.before_write = lambda: None
    direct.flush()
    announced = sum(int(line.split()[1]) for line in sink.lines if line.startswith("lost"))
    assert sink.lines.count("a") + announced == 2_000
    assert dropped() - before == announced > 0


def test_closing_settles_and_closes_the_sink(direct: Direct, sink: Lines) -> None:
    sink.error = FULL
    direct.deliver("audit", keep=True)
    direct.deliver("a")
    sink.error = None
    direct.close()
    direct.close()
    assert sink.lines == ["audit", "lost 1"]
    assert sink.closed == 2


def test_what_is_still_held_at_the_end_is_lost(direct: Direct, sink: Lines) -> None:
    before = dropped()
    sink.error = FULL
    direct.deliver("audit", keep=True)
    direct.close()
    sink.error = None
    direct.deliver("b")
    assert sink.lines == ["b"]
    assert dropped() - before == 1


def test_a_forked_process_starts_anew(direct: Direct, sink: Lines) -> None:
    sink.error = FULL
    direct.deliver("audit", keep=True)
    direct.deliver("a")
    sink.error = None
    reader, writer = os.pipe()

    def write() -> None:  # pragma: no cover - in the child
        direct.deliver("child")
        os.write(writer, repr((sink.lines, sink.forgotten)).encode())

    def fork_in_the_middle_of_a_line() -> None:
        sink.before_write = lambda: None
        in_child(write)

    sink.before_write = fork_in_the_middle_of_a_line
    direct.deliver("b")
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read().decode() == repr((["child"], 1))
    assert sink.lines == ["audit", "lost 1", "b"]
    assert sink.forgotten == 0


def test_what_a_forked_process_forgets(direct: Direct, sink: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_deliveries", WeakSet([direct]))
    sink.error = FULL
    direct.deliver("audit", keep=True)
    direct.deliver("a")
    sink.error = None
    delivery._after_fork()
    direct.deliver("b")
    assert sink.lines == ["b"]
    assert sink.forgotten == 1


def test_a_delivery_that_is_gone_is_not_kept_for_forks() -> None:
    gc.collect()
    before = len(delivery._deliveries)
    gone: Any = Direct(Lines(), announce, "Test.emit")
    assert len(delivery._deliveries) == before + 1
    del gone
    gc.collect()
    assert len(delivery._deliveries) == before
