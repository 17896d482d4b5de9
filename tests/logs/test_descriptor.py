from __future__ import annotations

import errno
import os
import pty
import select
import socket
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgi_obs.logs import descriptor as module
from asgi_obs.logs.descriptor import Descriptor
from tests.logs.sinks import in_child, until

LINE = b"x" * 299 + b"\n"
LONG = b"y" * 300_000 + b"\n"


@pytest.fixture(params=["as the system can", "without non-blocking writes"])
def pipe(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    if request.param != "as the system can":
        monkeypatch.setattr(module, "_NO_WAIT", None)
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", 0.01)


def fill(descriptor: Descriptor, line: bytes = LINE) -> int:
    """Write until nothing more is taken; returns how many lines were."""
    count = 0
    while True:
        try:
            descriptor.write(line)
        except BlockingIOError:
            return count
        count += 1


def drain(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += os.read(fd, size - len(data))
    return data


def test_a_line_is_written_at_once(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    Descriptor(writer).write(LINE)
    assert os.read(reader, 1_000) == LINE


def test_lines_are_refused_when_nobody_reads_and_taken_when_somebody_does(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    descriptor = Descriptor(writer)
    count = fill(descriptor)
    assert not descriptor.wait(0)
    with pytest.raises(BlockingIOError):
        descriptor.require_room()
    assert drain(reader, count * len(LINE)) == LINE * count
    assert descriptor.wait(0)
    descriptor.require_room()
    descriptor.write(LINE)
    assert drain(reader, len(LINE)) == LINE


def test_of_a_line_that_found_room_for_a_part_the_rest_comes_first(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    descriptor = Descriptor(writer)
    descriptor.write(LONG)
    with pytest.raises(BlockingIOError):
        descriptor.write(LINE)
    received = b""
    while len(received) < len(LONG):
        received += os.read(reader, 10_000)
        fill_rest(descriptor)
    assert received == LONG
    descriptor.write(LINE)
    assert os.read(reader, 1_000) == LINE


def fill_rest(descriptor: Descriptor) -> None:
    try:
        descriptor.write(b"")
    except BlockingIOError:
        pass


def test_a_forked_process_leaves_the_rest_to_its_parent(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    descriptor = Descriptor(writer)
    descriptor.write(LONG)
    descriptor.forget()
    begun = len(os.read(reader, len(LONG)))
    assert begun < len(LONG)
    descriptor.write(LINE)
    assert os.read(reader, 1_000) == LINE


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_process_forked_while_a_thread_looks_for_room_looks_for_itself(pipe: tuple[int, int]) -> None:
    descriptor = Descriptor(pipe[1])
    stop = threading.Event()

    def look_for_room() -> None:
        while not stop.is_set():
            descriptor.require_room()

    thread = threading.Thread(target=look_for_room)
    thread.start()
    try:
        for _ in range(10):
            in_child(lambda: (descriptor.forget(), descriptor.require_room()))
    finally:
        stop.set()
        thread.join()


def test_a_reader_who_has_fallen_behind_is_waited_for(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = pipe
    descriptor = Descriptor(writer)
    count = fill(descriptor)
    monkeypatch.setattr(module, "GRACE", 20.0)
    descriptor = Descriptor(writer)
    received: list[bytes] = []
    total = (count + 1) * len(LINE)
    thread = threading.Thread(target=lambda: received.append(drain(reader, total)))
    wait = descriptor.wait
    monkeypatch.setattr(descriptor, "wait", lambda seconds: thread.start() or wait(seconds))
    descriptor.write(LINE)
    thread.join()
    assert received == [LINE * (count + 1)]


def test_a_wait_in_vain_is_not_repeated_for_some_time(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor = Descriptor(pipe[1])
    waits: list[float] = []
    wait = descriptor.wait
    monkeypatch.setattr(descriptor, "wait", lambda seconds: waits.append(seconds) or wait(seconds))
    fill(descriptor)
    fill(descriptor)
    assert waits == [0.01]
    monkeypatch.setattr(descriptor, "_no_grace_until", 0.0)
    fill(descriptor)
    assert waits == [0.01, 0.01]


def test_a_descriptor_that_somebody_has_set_not_to_block_is_refused_lines_likewise(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    descriptor = Descriptor(pipe[1])
    count = fill(descriptor)
    assert drain(pipe[0], count * len(LINE)) == LINE * count
    assert not os.get_blocking(pipe[1])


def test_a_reader_who_is_gone_is_an_error(pipe: tuple[int, int]) -> None:
    descriptor = Descriptor(pipe[1])
    with open(os.devnull) as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), pipe[0])
    for _ in range(2):
        with pytest.raises(BrokenPipeError):
            descriptor.write(LINE)


def test_sockets_are_refused_lines_likewise() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        descriptor = Descriptor(ours.fileno())
        count = fill(descriptor)
        assert drain(theirs.fileno(), count * len(LINE)) == LINE * count
        descriptor.write(LINE)
        assert theirs.recv(1_000) == LINE


@pytest.mark.parametrize("is_found", [True, False])
def test_terminals_are_refused_lines_likewise(is_found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_found:
        monkeypatch.setattr(os, "ttyname", fail_with(OSError(errno.ENOENT, "another namespace")))
    master, slave = pty.openpty()
    tty.setraw(slave)
    descriptor = Descriptor(slave)
    if is_found:
        fill(descriptor)
        assert not descriptor.wait(0)
        poll = select.poll()
        poll.register(master, select.POLLIN)
        while poll.poll(100):
            os.read(master, 100_000)
        until(lambda: descriptor.wait(0))
    descriptor.write(LINE)
    assert drain(master, len(LINE))[-len(LINE) :]
    os.close(master)
    os.close(slave)


def fail_with(error: OSError):  # type: ignore[no-untyped-def]
    def fail(*args: object) -> None:
        raise error

    return fail


def test_a_system_that_cannot_write_without_waiting_is_asked_once(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []

    def refuse(*args: object) -> int:
        calls.append(args)
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(module, "_NO_WAIT", 8)
    monkeypatch.setattr(os, "pwritev", refuse)
    descriptor = Descriptor(pipe[1])
    descriptor.write(LINE)
    descriptor.write(LINE)
    assert drain(pipe[0], 2 * len(LINE)) == LINE * 2
    assert len(calls) == 1


def test_files_never_stall(tmp_path: Path) -> None:
    path = tmp_path / "log"
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    descriptor = Descriptor(fd)
    descriptor.require_room()
    descriptor.write(LONG)
    assert not descriptor.wait(0)
    assert path.read_bytes() == LONG
    os.close(fd)


def test_a_full_disk_is_an_error() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="No space"):
        Descriptor(fd).write(LINE)
    os.close(fd)


def test_a_descriptor_that_refuses_by_itself_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    descriptor = Descriptor(writer, is_own=True)
    count = fill(descriptor)
    assert drain(reader, count * len(LINE)) == LINE * count
    os.close(reader)
    os.close(writer)


def test_a_descriptor_that_is_not_open_is_an_error() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        Descriptor(1_000_000)
