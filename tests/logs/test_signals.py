from __future__ import annotations

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
from asgi_obs.logs import signals
from asgi_obs.logs.files import FileHandler
from asgi_obs.logs.handlers import LineHandler
from asgi_obs.logs.signals import listen
from tests.logs.sinks import Lines

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    listen([])


@pytest.fixture
def queued() -> Iterator[LineHandler]:
    handler = LineHandler(Lines(), queue_size=10)
    yield handler
    handler.close()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[FileHandler]:
    handler = FileHandler(str(tmp_path / "app.log"))
    yield handler
    handler.close()


class Received:
    def __init__(self, number: int) -> None:
        self.numbers: list[int] = []
        signal.signal(number, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.numbers.append(number)


def is_ours(number: int) -> bool:
    return isinstance(signal.getsignal(number), signals._Chained)


def test_sigusr1_opens_files_anew_and_goes_on_to_the_handler_before(file: FileHandler, tmp_path: Path) -> None:
    received = Received(signal.SIGUSR1)
    listen([LineHandler(Lines()), file])
    file.write("one")
    (tmp_path / "app.log").rename(tmp_path / "moved")
    signal.raise_signal(signal.SIGUSR1)
    assert (tmp_path / "app.log").read_text() == ""
    assert received.numbers == [signal.SIGUSR1]


@pytest.mark.parametrize("before", [signal.SIG_DFL, signal.SIG_IGN])
def test_sigusr1_does_not_end_the_process(file: FileHandler, tmp_path: Path, before: Any) -> None:
    signal.signal(signal.SIGUSR1, before)
    listen([file])
    (tmp_path / "app.log").rename(tmp_path / "moved")
    signal.raise_signal(signal.SIGUSR1)
    assert (tmp_path / "app.log").exists()


def test_sigterm_drains_queues_and_goes_on_to_the_handler_before(queued: LineHandler, file: FileHandler) -> None:
    received = Received(signal.SIGTERM)
    sink = Lines()
    direct = LineHandler(sink)
    listen([queued, direct])
    signal.raise_signal(signal.SIGTERM)
    assert received.numbers == [signal.SIGTERM]
    queued.write("directly")
    assert queued._delivery._direct.sink.lines == ["directly"]  # type: ignore[attr-defined]


def test_only_what_is_needed_is_installed(queued: LineHandler, file: FileHandler) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    listen([LineHandler(Lines())])
    assert [is_ours(number) for number in SIGNALS] == [False, False]
    listen([queued])
    assert [is_ours(number) for number in SIGNALS] == [True, False]
    listen([file])
    assert [is_ours(number) for number in SIGNALS] == [True, True]


def test_listening_again_replaces_the_handlers_and_not_what_is_installed(tmp_path: Path, file: FileHandler) -> None:
    received = Received(signal.SIGUSR1)
    other = FileHandler(str(tmp_path / "other.log"))
    listen([other])
    listen([file])
    for name in ("app.log", "other.log"):
        (tmp_path / name).rename(tmp_path / f"{name}.moved")
    signal.raise_signal(signal.SIGUSR1)
    assert received.numbers == [signal.SIGUSR1]
    assert (tmp_path / "app.log").exists()
    assert not (tmp_path / "other.log").exists()
    other.close()


def test_a_server_that_has_its_own_handler_meanwhile_is_called_and_can_put_back_ours(queued: LineHandler) -> None:
    application = Received(signal.SIGTERM)
    listen([queued])
    before = signal.getsignal(signal.SIGTERM)
    server = Received(signal.SIGTERM)
    listen([queued])  # by the module of the application, which the server imports
    signal.raise_signal(signal.SIGTERM)
    assert (server.numbers, application.numbers) == ([signal.SIGTERM], [])
    signal.signal(signal.SIGTERM, before)
    signal.raise_signal(signal.SIGTERM)
    assert (server.numbers, application.numbers) == ([signal.SIGTERM], [signal.SIGTERM])


def test_a_process_that_ignores_sigterm_goes_on_ignoring_it(queued: LineHandler) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    listen([queued])
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_a_handler_that_is_not_pythons_stays(queued: LineHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    listen([queued])
    monkeypatch.undo()
    assert not is_ours(signal.SIGTERM)


def test_another_thread_replaces_the_handlers_only(file: FileHandler) -> None:
    thread = threading.Thread(target=listen, args=([file],))
    thread.start()
    thread.join()
    assert not is_ours(signal.SIGUSR1)
    assert signals._handlers == [file]


def test_a_handler_that_fails_keeps_nobody_from_being_called(
    file: FileHandler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [reported.append])
    failing = FileHandler(str(tmp_path / "failing.log"))
    monkeypatch.setattr(failing, "reopen", lambda: 1 // 0)
    received = Received(signal.SIGUSR1)
    listen([failing, file])
    (tmp_path / "app.log").rename(tmp_path / "moved")
    signal.raise_signal(signal.SIGUSR1)
    assert (tmp_path / "app.log").exists()
    assert received.numbers == [signal.SIGUSR1]
    assert reported == ["signals"]
    failing.close()


def test_the_signal_that_nobody_handles_is_sent_again(queued: LineHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda process, number: sent.append((process, number)))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    listen([queued])
    signal.raise_signal(signal.SIGTERM)
    assert sent == [(os.getpid(), signal.SIGTERM)]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_process_that_would_have_died_of_sigterm_does() -> None:
    program = """
import os, signal
from asgi_obs.logs.signals import listen
from asgi_obs.logs.stdout import StdoutHandler
handler = StdoutHandler(queue_size=1000)
listen([handler])
for number in range(1000):
    handler.write(str(number))
os.kill(os.getpid(), signal.SIGTERM)
handler.write("never")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGTERM
    assert done.stdout.split() == [str(number) for number in range(1_000)]
    assert done.stderr == ""
