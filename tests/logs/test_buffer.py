"""The DEBUG lines of a request, written only if it ends in an error."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest

from asgi_obs import errors
from asgi_obs.correlation import CorrelationIdMiddleware
from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import current_exchange
from asgi_obs.logs import LogContext, RequestLoggingMiddleware, StructuredLogFormatter
from asgi_obs.logs.buffer import MAX_KEPT, RequestBuffer
from asgi_obs.settings import Settings
from asgi_obs.testing import drive, http_scope, websocket_scope
from asgi_obs.types import ASGIApp, Receive, Scope, Send
from tests.spans import span_context

pytestmark = pytest.mark.anyio


class Lines(logging.Handler):
    """A handler that can be given lines, as those of `asgi_obs` can."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.setFormatter(StructuredLogFormatter(settings=settings))
        self.written: list[str] = []
        self.levels: list[int] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.write(self.format(record), record.levelno)

    def write(self, line: str, level: int) -> None:
        self.written.append(line)
        self.levels.append(level)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.written]

    @property
    def messages(self) -> list[str]:
        return [line["message"] for line in self.lines]


@pytest.fixture
def handler(settings: Settings) -> Lines:
    return Lines(settings)


@pytest.fixture
def log(request: pytest.FixtureRequest, handler: Lines) -> Iterator[logging.Logger]:
    """A logger that lets everything through to the handler, which keeps what is below INFO."""
    logger = logging.getLogger(f"test.buffer.{request.node.name}")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.DEBUG)
    handler.addFilter(RequestBuffer(handler, logging.INFO, 100))
    yield logger
    logger.handlers.clear()


Work = Callable[[], Any]


def working(work: Work, status: int = 500, after: Work = lambda: None) -> ASGIApp:
    """An application that does some work, answers, and does some more."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        work()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        after()

    return app


def debugging(log: logging.Logger, *messages: str) -> Work:
    return lambda: [log.debug(message) for message in messages]


async def serve(app: ASGIApp, log: logging.Logger, scope: Scope | None = None, **options: Any) -> None:
    middleware = RequestLoggingMiddleware(app, logger=log.name, **options)
    ids = iter(["c-1", "c-2"])
    await drive(CorrelationIdMiddleware(middleware, generator=lambda: next(ids)), scope or http_scope("/x"))


async def test_of_a_request_that_ends_in_an_error_they_are_written_ahead_of_its_line(
    log: logging.Logger, handler: Lines
) -> None:
    await serve(working(debugging(log, "one", "two")), log)

    assert handler.messages == ["GET /x started", "one", "two", "GET /x 500"]
    assert handler.levels == [logging.DEBUG, logging.DEBUG, logging.DEBUG, logging.ERROR]


@pytest.mark.parametrize("status", [200, 404])
async def test_of_any_other_they_are_gone(log: logging.Logger, handler: Lines, status: int) -> None:
    await serve(working(debugging(log, "one"), status), log)

    assert handler.messages == [f"GET /x {status}"]


async def test_an_application_that_raises_is_an_error(log: logging.Logger, handler: Lines) -> None:
    def fail() -> None:
        log.debug("before")
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        await serve(working(fail), log)

    assert handler.messages == ["GET /x started", "before", "GET /x 500"]


async def test_a_response_that_is_left_unfinished_is_an_error(log: logging.Logger, handler: Lines) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        log.debug("before")

    await serve(app, log)

    assert handler.messages == ["GET /x started", "before", "GET /x 500"]


async def test_a_websocket_whose_application_raises_is_an_error(log: logging.Logger, handler: Lines) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        await serve(app, log, websocket_scope("/chat"))

    assert handler.messages == ["WebSocket /chat started", "WebSocket /chat 1011"]


async def test_records_at_the_threshold_and_above_it_pass_at_once(log: logging.Logger, handler: Lines) -> None:
    def work() -> None:
        log.debug("kept")
        log.info("passed")

    await serve(working(work), log)

    assert handler.messages == ["passed", "GET /x started", "kept", "GET /x 500"]


async def test_the_threshold_may_be_one_of_each_logger(log: logging.Logger, handler: Lines) -> None:
    levels = {f"{log.name}.noisy": logging.ERROR}
    handler.filters[:] = [RequestBuffer(handler, lambda name: levels.get(name, logging.DEBUG), 10)]

    log.getChild("noisy").warning("dropped")
    log.debug("passed")

    assert handler.messages == ["passed"]


async def test_outside_of_a_request_they_are_dropped(log: logging.Logger, handler: Lines) -> None:
    log.debug("nowhere")

    assert handler.messages == []


async def test_they_say_what_was_so_when_they_were_logged(log: logging.Logger, handler: Lines) -> None:
    items = ["first"]

    def work() -> None:
        with LogContext(step=1):
            log.debug("items %s", items, extra={"password": "hunter2"})
        items.append("second")

    await serve(working(work), log)

    line = handler.lines[1]
    assert (line["message"], line["context"], line["password"]) == ("items ['first']", {"step": 1}, "******")
    assert line["correlation_id"] == "c-1"


async def test_the_newest_are_kept_and_a_line_says_how_many_are_not(log: logging.Logger, handler: Lines) -> None:
    handler.filters[:] = [RequestBuffer(handler, logging.INFO, 3)]

    def work() -> None:
        exchange = current_exchange()
        assert exchange is not None
        exchange.span_context = span_context()
        for number in range(10):
            log.debug("%d", number)

    await serve(working(work), log)

    first = handler.lines[0]
    assert handler.messages == ["earlier lines of this request were left out", "7", "8", "9", "GET /x 500"]
    assert (first["left_out"], first["level"], first["component"]) == (8, "DEBUG", "asgi_obs.logs")
    assert (first["correlation_id"], first["trace_id"], first["span_id"]) == ("c-1", "a" * 32, "b" * 16)


async def test_they_take_a_bounded_amount_of_memory(log: logging.Logger, handler: Lines) -> None:
    await serve(working(debugging(log, *(f"{number} {'x' * 30_000}" for number in range(100)))), log)

    *kept, last = handler.written[1:]
    assert MAX_KEPT - 31_000 < sum(map(len, kept)) <= MAX_KEPT
    assert handler.lines[0]["left_out"] == 101 - len(kept)
    assert json.loads(kept[-1])["message"].startswith("99 ")
    assert json.loads(last)["message"] == "GET /x 500"


async def test_a_line_that_alone_is_too_long_is_left_out(log: logging.Logger, handler: Lines) -> None:
    await serve(working(debugging(log, "x" * MAX_KEPT)), log)

    assert [line.get("left_out") for line in handler.lines] == [2, None]


async def test_what_a_background_task_logs_after_the_end_is_dropped(log: logging.Logger, handler: Lines) -> None:
    await serve(working(lambda: None, 200, after=debugging(log, "late")), log)

    assert handler.messages == ["GET /x 200"]


async def test_a_background_task_that_fails_does_not_bring_the_lines_of_the_request(
    log: logging.Logger, handler: Lines
) -> None:
    with pytest.raises(ZeroDivisionError):
        await serve(working(debugging(log, "one"), 200, after=lambda: 1 / 0), log)

    assert handler.messages == ["GET /x 200", "background task failed"]


async def test_after_an_error_it_is_the_end_only_when_the_application_has_returned(
    log: logging.Logger, handler: Lines
) -> None:
    await serve(working(lambda: None, 500, after=debugging(log, "why")), log)

    assert handler.messages == ["GET /x started", "why", "GET /x 500"]


async def test_two_requests_at_once_never_mix(log: logging.Logger, handler: Lines) -> None:
    turns = {"/a": asyncio.Event(), "/b": asyncio.Event()}
    other = {"/a": "/b", "/b": "/a"}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        for step in range(3):
            log.debug("%s %d", path, step)
            turns[path].set()
            await turns[other[path]].wait()
            await asyncio.sleep(0)
        await working(lambda: None, 500 if path == "/a" else 200)(scope, receive, send)

    middleware = RequestLoggingMiddleware(app, logger=log.name)
    await asyncio.gather(*(drive(middleware, http_scope(path)) for path in turns))

    assert [message for message in handler.messages if message.startswith("/")] == ["/a 0", "/a 1", "/a 2"]


async def test_the_threads_of_a_request_are_part_of_it(log: logging.Logger, handler: Lines) -> None:
    def work() -> None:
        def many() -> None:
            for number in range(200):
                log.debug("%d", number)

        threads = [threading.Thread(target=copy_context().run, args=(many,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    handler.filters[:] = [RequestBuffer(handler, logging.INFO, 500)]
    await serve(working(work), log)

    assert len(handler.lines) == 502
    assert handler.lines[0]["left_out"] == 801 - 500


async def test_every_handler_keeps_its_own(log: logging.Logger, handler: Lines, settings: Settings) -> None:
    second = Lines(settings)
    second.addFilter(RequestBuffer(second, logging.ERROR, 1))
    log.addHandler(second)

    def work() -> None:
        log.debug("one")
        log.warning("two")

    await serve(working(work), log)

    assert handler.messages == ["two", "GET /x started", "one", "GET /x 500"]
    assert second.messages == ["earlier lines of this request were left out", "two", "GET /x 500"]


async def test_they_are_written_though_the_line_of_the_request_is_not(log: logging.Logger, handler: Lines) -> None:
    silent = log.getChild("request")
    silent.setLevel(logging.CRITICAL)

    await serve(working(debugging(log, "one")), silent)

    assert handler.messages == ["one"]


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [seen.append])
    monkeypatch.setattr(errors, "_last_logged", {})
    return seen


async def test_a_threshold_that_raises_is_reported_and_the_record_passes(
    log: logging.Logger, handler: Lines, reported: list[str]
) -> None:
    handler.filters[:] = [RequestBuffer(handler, lambda name: {}[name], 10)]  # type: ignore[no-any-return]

    log.debug("one")

    assert (handler.messages, reported) == (["one"], ["RequestBuffer.filter"])


async def test_a_handler_that_cannot_write_does_not_cost_the_line_of_the_request(
    log: logging.Logger, handler: Lines, reported: list[str], sink: Any
) -> None:
    def broken(line: str, level: int) -> None:
        raise OSError("full")

    log.addHandler(sink)
    sink.addFilter(lambda record: record.levelno >= logging.ERROR)
    handler.write = broken  # type: ignore[method-assign]
    handler.emit = lambda record: None  # type: ignore[method-assign]

    await serve(working(debugging(log, "one")), log)

    assert (sink.line["message"], reported) == ("GET /x 500", ["RequestBuffer.write"])


@pytest.mark.parametrize(
    ("option", "value"),
    [("threshold", "INFO"), ("threshold", None), ("max_lines", 0), ("max_lines", True), ("max_lines", "5")],
)
def test_a_wrong_option_is_refused(handler: Lines, option: str, value: Any) -> None:
    options: dict[str, Any] = {"threshold": logging.INFO, "max_lines": 5, option: value}

    with pytest.raises(ConfigurationError, match=option):
        RequestBuffer(handler, **options)  # type: ignore[arg-type]
