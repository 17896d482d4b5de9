from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from asgi_obs import errors
from asgi_obs.logs import queued, signals
from asgi_obs.logs.files import FileHandler
from asgi_obs.logs.fold import Fold
from asgi_obs.logs.handlers import LineHandler
from asgi_obs.logs.signals import call_on, hold
from tests.logs.sinks import Lines

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    monkeypatch.setattr(signals, "_methods", {})
    monkeypatch.setattr(signals, "_holders", {})
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Received:
    """A handler of somebody else."""

    def __init__(self, number: int) -> None:
        self.numbers: list[int] = []
        signal.signal(number, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.numbers.append(number)


class Told:
    """Wants to be told."""

    def __init__(self) -> None:
        self.times = 0

    def tell(self) -> None:
        self.times += 1


class Holding:
    """Holds a signal back as long as it is told to."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)

    def decide(self, number: int) -> bool:
        assert number == signal.SIGTERM
        return self.answers.pop(0)


class Failing(Told):
    def tell(self) -> None:
        raise ValueError("no")


def is_ours(number: int) -> bool:
    return isinstance(signal.getsignal(number), signals._Chained)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_method_is_called_and_the_handler_that_was_there_before(number: int) -> None:
    received, told = Received(number), Told()
    call_on(number, told.tell)
    signal.raise_signal(number)
    assert (told.times, received.numbers) == (1, [number])


def test_a_method_is_called_once_however_often_it_was_asked_for() -> None:
    Received(signal.SIGTERM)
    told, other = Told(), Told()
    for method in (told.tell, other.tell, told.tell):
        call_on(signal.SIGTERM, method)
    signal.raise_signal(signal.SIGTERM)
    assert (told.times, other.times) == (1, 1)


def test_an_object_that_is_gone_is_not_called_and_not_kept() -> None:
    Received(signal.SIGTERM)
    gone, told = Told(), Told()
    call_on(signal.SIGTERM, gone.tell)
    del gone
    gc.collect()
    signal.raise_signal(signal.SIGTERM)
    call_on(signal.SIGTERM, told.tell)
    assert len(signals._methods[signal.SIGTERM]) == 1


@pytest.mark.parametrize("before", [signal.SIG_DFL, signal.SIG_IGN])
def test_sigusr1_does_not_end_the_process(before: Any) -> None:
    told = Told()
    signal.signal(signal.SIGUSR1, before)
    call_on(signal.SIGUSR1, told.tell)
    signal.raise_signal(signal.SIGUSR1)
    assert told.times == 1


def test_where_there_is_no_such_signal_nothing_is_installed() -> None:
    call_on(None, Told().tell)
    assert [is_ours(number) for number in SIGNALS] == [False, False]


def test_a_server_that_has_its_own_handler_meanwhile_is_called_and_can_put_back_ours() -> None:
    told, application = Told(), Received(signal.SIGTERM)
    call_on(signal.SIGTERM, told.tell)
    before = signal.getsignal(signal.SIGTERM)
    server = Received(signal.SIGTERM)
    call_on(signal.SIGTERM, told.tell)  # by the module of the application, which the server imports
    signal.raise_signal(signal.SIGTERM)
    assert (server.numbers, application.numbers) == ([signal.SIGTERM], [])
    signal.signal(signal.SIGTERM, before)
    signal.raise_signal(signal.SIGTERM)
    assert (server.numbers, application.numbers) == ([signal.SIGTERM], [signal.SIGTERM])


def test_a_process_that_ignores_sigterm_goes_on_ignoring_it() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    call_on(signal.SIGTERM, Told().tell)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_a_handler_that_is_not_pythons_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    call_on(signal.SIGTERM, Told().tell)
    monkeypatch.undo()
    assert not is_ours(signal.SIGTERM)


def test_what_another_thread_asks_for_counts_from_the_next_call_in_the_main_thread_on() -> None:
    Received(signal.SIGTERM)
    told, other = Told(), Told()
    thread = threading.Thread(target=call_on, args=(signal.SIGTERM, told.tell))
    thread.start()
    thread.join()
    assert not is_ours(signal.SIGTERM)
    call_on(signal.SIGTERM, other.tell)
    signal.raise_signal(signal.SIGTERM)
    assert (told.times, other.times) == (1, 1)


def test_a_method_that_fails_keeps_nobody_from_being_called(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [reported.append])
    failing, told, received = Failing(), Told(), Received(signal.SIGUSR1)
    call_on(signal.SIGUSR1, failing.tell)
    call_on(signal.SIGUSR1, told.tell)
    signal.raise_signal(signal.SIGUSR1)
    assert (told.times, received.numbers, reported) == (1, [signal.SIGUSR1], ["signals"])


def test_the_signal_that_nobody_handles_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda process, number: sent.append((process, number)))
    told = Told()
    call_on(signal.SIGTERM, told.tell)
    signal.raise_signal(signal.SIGTERM)
    assert sent == [(os.getpid(), signal.SIGTERM)]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_queue_listens_also_after_the_signals_were_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queued, "LISTEN_INTERVAL", 0.0)
    handler = LineHandler(Lines(), queue_size=10)
    assert is_ours(signal.SIGTERM)
    for _ in range(2):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as gunicorn does in the processes it forks
        handler.write("a line")
        assert is_ours(signal.SIGTERM)
    handler.close()


def test_a_handler_without_a_queue_wants_nothing() -> None:
    LineHandler(Lines())
    assert [is_ours(number) for number in SIGNALS] == [False, False]


def test_a_file_is_opened_anew_unless_it_was_closed(tmp_path: Path) -> None:
    log, moved = tmp_path / "app.log", tmp_path / "moved"
    handler = FileHandler(str(log))
    handler.write("one")
    log.rename(moved)
    signal.raise_signal(signal.SIGUSR1)
    assert log.read_text() == ""
    handler.close()
    log.unlink()
    signal.raise_signal(signal.SIGUSR1)
    assert not log.exists()


def test_what_is_folded_is_written_before_the_process_ends(logger: logging.Logger, sink: Any) -> None:
    Received(signal.SIGTERM)
    sink.addFilter(Fold(sink, 60))
    for _ in range(3):
        logger.warning("down")
    signal.raise_signal(signal.SIGTERM)
    assert [line.get("repeated") for line in sink.lines] == [None, 2]


def test_a_process_that_would_have_died_of_sigterm_does() -> None:
    program = """
import os, signal
from asgi_obs.logs.stdout import StdoutHandler
handler = StdoutHandler(queue_size=1000)
for number in range(1000):
    handler.write(str(number))
os.kill(os.getpid(), signal.SIGTERM)
handler.write("never")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGTERM
    assert done.stdout.split() == [str(number) for number in range(1_000)]
    assert done.stderr == ""


def test_nobody_hears_of_a_signal_that_is_held_until_it_is_sent_again() -> None:
    received, told, holding = Received(signal.SIGTERM), Told(), Holding(True, False)
    call_on(signal.SIGTERM, told.tell)
    hold(signal.SIGTERM, holding.decide)

    os.kill(os.getpid(), signal.SIGTERM)
    assert (told.times, received.numbers) == (0, [])

    os.kill(os.getpid(), signal.SIGTERM)
    assert (told.times, received.numbers) == (1, [signal.SIGTERM])


def test_all_who_hold_a_signal_hear_of_it_and_one_is_enough() -> None:
    received, first, second = Received(signal.SIGTERM), Holding(True), Holding(False)
    hold(signal.SIGTERM, first.decide)
    hold(signal.SIGTERM, second.decide)

    os.kill(os.getpid(), signal.SIGTERM)

    assert (first.answers, second.answers, received.numbers) == ([], [], [])


def test_one_who_cannot_decide_or_is_gone_holds_nothing() -> None:
    received, undecided, gone = Received(signal.SIGTERM), Holding(), Holding(True)
    hold(signal.SIGTERM, undecided.decide)
    hold(signal.SIGTERM, gone.decide)
    del gone
    gc.collect()

    os.kill(os.getpid(), signal.SIGTERM)

    assert received.numbers == [signal.SIGTERM]
