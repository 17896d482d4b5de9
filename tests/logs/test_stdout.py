from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from typing import Any

import pytest
from hypothesis import given, strategies

from asgi_obs import errors
from asgi_obs.errors import ConfigurationError
from asgi_obs.logs import StructuredLogFormatter, descriptor
from asgi_obs.logs import stdout as module
from asgi_obs.logs.stdout import Stdout, StdoutHandler
from asgi_obs.settings import Settings
from tests.logs.sinks import dropped, in_child, until


@pytest.fixture
def handler(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[StdoutHandler]:
    monkeypatch.setattr(descriptor, "GRACE", 0.01)
    handler = StdoutHandler()
    handler.setFormatter(StructuredLogFormatter(settings=settings))
    yield handler
    handler.close()


@pytest.fixture
def logger(logger: logging.Logger, handler: StdoutHandler) -> logging.Logger:
    logger.handlers = [handler]
    return logger


class Pipe:
    """A standard output that is a pipe."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.stream = os.fdopen(writer, "w", encoding="ascii")

    def read(self) -> bytes:
        data = b""
        with suppress(BlockingIOError):
            while True:
                data += os.read(self.reader, 100_000)
        return data

    def close(self) -> None:
        os.close(self.reader)
        self.stream.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def test_the_stream_is_looked_up_for_every_line(logger: logging.Logger) -> None:
    for _ in range(2):
        with redirect_stdout(io.StringIO()) as stream:
            logger.error("hello")
        assert json.loads(stream.getvalue())["message"] == "hello"


def test_lines_go_to_the_descriptor_behind_what_was_printed(
    logger: logging.Logger, capfd: pytest.CaptureFixture[str], pipe: Pipe
) -> None:
    with redirect_stdout(pipe.stream):
        pipe.stream.write("printed\n")
        logger.error("hello ü")
        printed, line = pipe.read().splitlines()
        assert printed == b"printed"
        assert json.loads(line)["message"] == "hello ü"


def test_a_descriptor_that_pytest_has_replaced_gets_them(
    logger: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    logger.error("hello")
    assert json.loads(capfd.readouterr().out)["message"] == "hello"


def test_another_descriptor_behind_the_same_stream_is_noticed(
    handler: StdoutHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipes = [Pipe(), Pipe()]
    stream = Moving([pipe.stream for pipe in pipes])
    monkeypatch.setattr(sys, "stdout", stream)
    handler.write("one")
    stream.position = 1
    handler.write("two")
    assert [pipe.read() for pipe in pipes] == [b"one\n", b"two\n"]
    monkeypatch.undo()
    for pipe in pipes:
        pipe.close()


class Moving(io.TextIOWrapper):
    def __init__(self, streams: list[io.TextIOWrapper]) -> None:
        super().__init__(io.BytesIO())
        self.streams = streams
        self.position = 0

    def fileno(self) -> int:
        return self.streams[self.position].fileno()


class Tee(io.TextIOWrapper):
    """Has a descriptor, and does more with a text."""

    seen = ""

    def write(self, text: str) -> int:
        self.seen += text
        return super().write(text)


def test_a_stream_that_does_more_than_write_is_asked_to(
    handler: StdoutHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    with Tee(io.FileIO(writer, "w")) as tee, os.fdopen(reader) as pipe:  # type: ignore[type-var]
        monkeypatch.setattr(sys, "stdout", tee)
        handler.write("a")
        assert (tee.seen, pipe.readline()) == ("a\n", "a\n")
        monkeypatch.undo()


def test_without_poll_the_stream_is_written(
    handler: StdoutHandler, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redirect_stdout(pipe.stream):
        monkeypatch.setattr(module, "_HAS_POLL", False)
        handler.write("a ü")
        assert pipe.read() == b"a \\u00fc\n"


def test_a_stream_that_cannot_write_a_character_gets_its_escape(
    logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    logger.error("ü \U0001f600")
    assert json.loads(raw.getvalue())["message"] == "ü \U0001f600"
    assert raw.getvalue().isascii()


@given(line=strategies.text())
def test_any_text_is_one_write_of_its_bytes(line: str) -> None:
    pipe = Pipe()
    with redirect_stdout(pipe.stream):
        Stdout().write(line)
    assert pipe.read() == line.encode("utf-8", "backslashreplace") + b"\n"
    pipe.close()


def test_a_lone_surrogate_is_escaped(handler: StdoutHandler, pipe: Pipe) -> None:
    with redirect_stdout(pipe.stream):
        handler.write("\ud800")
        assert pipe.read() == b"\\ud800\n"


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [Broken(), None, closed()])
def test_a_sink_that_fails_never_reaches_the_caller(
    logger: logging.Logger, monkeypatch: pytest.MonkeyPatch, stream: Any
) -> None:
    reported: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [reported.append])
    before = dropped()
    with redirect_stdout(stream):
        logger.error("hello")
    assert set(reported) == {"StdoutHandler.emit"}
    assert dropped() - before == 1
    with redirect_stdout(io.StringIO()) as recovered:
        logger.error("again")
    first, second = map(json.loads, recovered.getvalue().splitlines())
    assert (first["message"], first["lost"], first["level"]) == ("log records were lost", 1, "WARN")
    assert (first["component"], second["message"]) == ("asgi_obs.logs", "again")


def test_a_stream_that_was_closed_is_not_written_by_its_number(
    handler: StdoutHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = Pipe()
    monkeypatch.setattr(sys, "stdout", pipe.stream)
    handler.write("a")
    number = pipe.stream.fileno()
    pipe.stream.close()
    reader, writer = os.pipe()  # takes the number
    before = dropped()
    handler.write("b")
    assert dropped() - before == 1
    assert number in {reader, writer}
    monkeypatch.undo()
    os.close(reader)
    os.close(writer)
    os.close(pipe.reader)


@pytest.mark.parametrize("print_too", [False, True])
def test_a_reader_who_has_stopped_costs_lines_and_is_told_how_many(
    logger: logging.Logger, pipe: Pipe, print_too: bool
) -> None:
    with redirect_stdout(pipe.stream):
        before = dropped()
        for number in range(2_000):
            pipe.stream.write(" " * print_too)
            logger.info("%d", number)
        received = pipe.read()
        logger.info("after")
        received += pipe.read()
        lines = [json.loads(line) for line in received.splitlines()]
        losses = [line["lost"] for line in lines if line["message"] == "log records were lost"]
        assert lines[-1]["message"] == "after"
        assert losses == [dropped() - before]
        assert len(lines) - 1 + sum(losses) == 2_001


def test_a_reader_who_is_gone_costs_lines(logger: logging.Logger, pipe: Pipe) -> None:
    with redirect_stdout(pipe.stream):
        before = dropped()
        with open(os.devnull) as nothing:  # noqa: PTH123
            os.dup2(nothing.fileno(), pipe.reader)
        for _ in range(3):
            logger.info("hello")
        assert dropped() - before == 3


def test_a_queue_waits_for_a_reader_who_has_stopped(settings: Settings, pipe: Pipe) -> None:
    with redirect_stdout(pipe.stream):
        handler = StdoutHandler(queue_size=10_000)
        before = dropped()
        for number in range(2_000):
            handler.write(str(number).rjust(100))
        received = b""

        def complete() -> bool:
            nonlocal received
            received += pipe.read()
            return received.count(b"\n") == 2_000

        until(complete)
        handler.close()
        assert [int(line) for line in received.splitlines()] == list(range(2_000))
        assert dropped() == before


def test_a_stream_without_a_descriptor_is_waited_for_without_looking(
    handler: StdoutHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hesitating(io.StringIO):
        refusals = 2

        def write(self, text: str) -> int:
            if self.refusals:
                self.refusals -= 1
                raise BlockingIOError(11, "not now")
            return super().write(text)

    monkeypatch.setattr("asgi_obs.logs.queued.RETRY_INTERVAL", 0.01)
    stream = Hesitating()
    monkeypatch.setattr(sys, "stdout", stream)
    queued = StdoutHandler(queue_size=10)
    queued.write("a")
    queued.close()
    assert stream.getvalue() == "a\n"


def test_a_forked_process_leaves_what_has_begun_to_its_parent(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptor, "GRACE", 0.01)
    sink = Stdout()
    sink.forget()
    with redirect_stdout(pipe.stream):
        sink.write("x" * 200_000)
        sink.forget()
        begun = pipe.read()
        sink.wait(0)
        sink.write("y")
        assert (begun, pipe.read()) == (b"x" * len(begun), b"y\n")
    assert len(begun) < 200_000


def test_a_forked_process_writes_too(handler: StdoutHandler, pipe: Pipe) -> None:
    with redirect_stdout(pipe.stream):
        handler.write("parent")
        in_child(lambda: handler.write("child"))
        assert pipe.read() == b"parent\nchild\n"


def test_a_wrong_size_of_the_queue_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="queue_size=-1"):
        StdoutHandler(queue_size=-1)
