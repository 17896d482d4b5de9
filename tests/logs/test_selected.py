"""Exchanges that are logged at DEBUG, next to others that are not."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import anyio
import pytest
from prometheus_client import CollectorRegistry

from asgi_obs import errors
from asgi_obs.exchange import Exchange, ExchangeMiddleware, HttpExchange, current_exchange
from asgi_obs.exchange.hooks import Hooks
from asgi_obs.logs import RequestLoggingMiddleware, audit_log, setup_logging
from asgi_obs.logs.selected import Selection, is_selected, selection
from asgi_obs.logs.temporary import temporary_levels
from asgi_obs.metrics import MetricsMiddleware
from asgi_obs.routes import Routes
from asgi_obs.settings import Settings
from asgi_obs.testing import drive, http_scope, websocket_scope
from asgi_obs.types import ASGIApp, Observer, Receive, Scope, Send
from tests.logs.sinks import in_child

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("root")]

INFO = Settings(log_level="INFO")
NAMES = ("shop", "shop.cart", "other.library")


class Select(Observer):
    """Selects requests with a header."""

    def on_start(self, exchange: Exchange) -> Callable[[], object] | None:
        if b"x-debug" not in exchange.headers:
            return None
        selection.add(exchange)
        return selection.end


class Seen(logging.Handler):
    """A handler of somebody else."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    assert (selection._running, selection._guarded) == (0, [])


@pytest.fixture
def attach() -> Iterator[Callable[..., Seen]]:
    attached: list[tuple[logging.Logger, Seen]] = []

    def attach(name: str | None = None) -> Seen:
        logger, seen = logging.getLogger(name), Seen()
        logger.addHandler(seen)
        attached.append((logger, seen))
        return seen

    yield attach
    for logger, seen in attached:
        logger.removeHandler(seen)


def observed(app: ASGIApp) -> ASGIApp:
    return ExchangeMiddleware(app, observers=[Select()])


def selected_scope(path: str = "/debugged", **more: Any) -> Scope:
    return http_scope(path, headers=[(b"x-debug", b"1")], **more)


def working(work: Callable[[], Any]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        work()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


def make_exchange() -> Exchange:
    return HttpExchange(http_scope(), _no_message, _no_message, Hooks(()), Routes(_no_message))


async def _no_message(*_: Any) -> Any:
    raise AssertionError  # pragma: no cover - nobody asks for any


def debug_all(text: str) -> None:
    for name in NAMES:
        logging.getLogger(name).debug("%s %s", text, name)


def messages(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [json.loads(line)["message"] for line in capsys.readouterr().out.splitlines()]


async def test_of_two_at_once_only_the_selected_one_is_logged_at_debug(
    root: logging.Logger, attach: Callable[..., Seen], capsys: pytest.CaptureFixture[str]
) -> None:
    setup_logging(settings=INFO)
    theirs, below = attach(), attach("shop")
    turns = {"/debugged": asyncio.Event(), "/quiet": asyncio.Event()}
    other = {"/debugged": "/quiet", "/quiet": "/debugged"}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        for _ in range(3):
            debug_all(path)
            logging.getLogger("shop").info("info %s", path)
            turns[other[path]].set()
            await turns[path].wait()
            turns[path].clear()
        turns[other[path]].set()
        debug_all(path)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(drive, observed(app), selected_scope())
        tasks.start_soon(drive, observed(app), http_scope("/quiet"))
    debug_all("afterwards")

    lines = [line for line in messages(capsys) if not line.startswith("info")]
    assert lines == [f"/debugged {name}" for _ in range(4) for name in NAMES]
    assert [line for line in theirs.messages if not line.startswith("info")] == lines
    assert [line for line in below.messages if not line.startswith("info")] == [
        f"/debugged {name}" for _ in range(4) for name in NAMES[:2]
    ]
    assert (root.level, theirs.filters, below.filters) == (logging.INFO, [], [])


async def test_outside_of_any_request_nothing_more_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(settings=INFO)

    def work() -> None:
        thread = threading.Thread(target=debug_all, args=("elsewhere",))
        thread.start()
        thread.join()

    await drive(observed(working(work)), selected_scope())
    assert messages(capsys) == []


async def test_threads_and_tasks_with_its_context_belong_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(settings=INFO)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await anyio.to_thread.run_sync(debug_all, "thread")
        await asyncio.create_task(asyncio.to_thread(debug_all, "task"))
        thread = threading.Thread(target=copy_context().run, args=(debug_all, "copy"))
        thread.start()
        thread.join()

    await drive(observed(app), selected_scope())
    assert messages(capsys) == [f"{text} {name}" for text in ("thread", "task", "copy") for name in NAMES]


async def test_a_websocket_is_logged_as_long_as_it_lasts(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(settings=INFO)
    await drive(observed(working(lambda: debug_all("session"))), websocket_scope(headers=[(b"x-debug", b"1")]))
    assert messages(capsys) == [f"session {name}" for name in NAMES]


async def test_loggers_with_a_level_of_their_own_keep_it(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(settings=Settings(log_level="WARN", log_levels=(("shop.cart", "INFO"), ("other", "TRACE"))))

    def work() -> None:
        debug_all("inside")
        audit_log("audited")

    await drive(observed(working(work)), http_scope())
    assert messages(capsys) == ["inside other.library", "audited"]
    await drive(observed(working(lambda: debug_all("inside"))), selected_scope())
    assert messages(capsys) == ["inside shop", "inside other.library"]


async def test_what_others_would_have_logged_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(settings=Settings(log_level="WARN", log_levels=(("other", "DEBUG"),)))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await drive(observed(working(work)), http_scope("/quiet"))

    def work() -> None:
        debug_all("quiet")
        logging.getLogger("shop").warning("warned")
        audit_log("audited")

    await drive(observed(app), selected_scope())
    assert messages(capsys) == ["quiet other.library", "warned", "audited"]


async def test_it_ends_when_the_application_raises_or_is_cancelled(root: logging.Logger) -> None:
    setup_logging(settings=INFO)

    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        assert root.level == logging.DEBUG
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        await drive(observed(failing), selected_scope())
    assert root.level == logging.INFO

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        assert root.level == logging.DEBUG
        tasks.cancel_scope.cancel()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(drive, observed(waiting), selected_scope())
    assert root.level == logging.INFO


async def test_it_ends_with_the_last_one(root: logging.Logger) -> None:
    setup_logging(settings=INFO)
    levels = []

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        await drive(observed(working(lambda: levels.append(root.level))), selected_scope())
        levels.append(root.level)

    await drive(observed(outer), selected_scope())
    assert levels == [logging.DEBUG, logging.DEBUG]
    assert root.level == logging.INFO


@pytest.mark.parametrize("level", ["INFO", "WARN"])
async def test_logging_can_be_set_up_in_the_meantime(
    root: logging.Logger, capsys: pytest.CaptureFixture[str], level: str
) -> None:
    setup_logging(settings=INFO)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        setup_logging(settings=Settings(log_level=level, version="2"))
        debug_all("inside")
        await drive(observed(working(lambda: debug_all("quiet"))), http_scope("/quiet"))

    await drive(observed(app), selected_scope())
    debug_all("afterwards")
    assert messages(capsys) == ["logging.changed", *(f"inside {name}" for name in NAMES)]
    assert root.level == getattr(logging, level.replace("WARN", "WARNING"))


async def test_a_temporary_level_can_come_and_go_in_the_meantime(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    setup_logging(settings=INFO)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        temporary_levels.put("root", logging.ERROR, 1e11)
        debug_all("inside")
        await drive(observed(working(lambda: logging.getLogger("shop").warning("quiet"))), http_scope("/quiet"))
        temporary_levels.put("root", logging.DEBUG, 1e11)
        await drive(observed(working(lambda: logging.getLogger("shop").debug("heard"))), http_scope("/quiet"))

    await drive(observed(app), selected_scope())
    assert messages(capsys) == [*(f"inside {name}" for name in NAMES), "heard"]
    assert root.level == logging.DEBUG
    temporary_levels.end("root")
    assert root.level == logging.INFO


async def test_with_a_buffer_its_lines_are_written_at_once_and_those_of_others_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    setup_logging(settings=Settings(log_level="INFO", log_buffer_lines=10))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        debug_all("inside")
        assert messages(capsys) == [f"inside {name}" for name in NAMES]
        await drive(observed(working(lambda: debug_all("quiet"))), http_scope("/quiet"))

    await drive(observed(app), selected_scope())
    assert messages(capsys) == []


async def test_with_folding_all_of_its_lines_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(settings=Settings(log_level="INFO", log_fold_seconds=3600))

    def work() -> None:
        for number in range(3):
            logging.getLogger("shop").debug("step %s", number)

    await drive(observed(working(work)), selected_scope())
    assert messages(capsys) == ["step 0", "step 1", "step 2"]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("status", [200, 500])
async def test_its_lines_at_start_and_end_are_written_whatever_is_configured(
    capsys: pytest.CaptureFixture[str], nested: bool, status: int
) -> None:
    settings = Settings(
        log_level="FATAL", log_levels=(("asgi_obs.request", "FATAL"),), log_sample_rates="0", ops_token="hunter22"
    )
    setup_logging(settings=settings)

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    app: ASGIApp = RequestLoggingMiddleware(answering, settings=settings)
    if nested:  # then it returns before the exchange does

        async def between(scope: Scope, receive: Receive, send: Send) -> None:
            await RequestLoggingMiddleware(answering, settings=settings)(scope, receive, send)

        app = MetricsMiddleware(between, registry=CollectorRegistry())
    await drive(observed(app), http_scope("/quiet"))
    await drive(observed(app), selected_scope())
    assert messages(capsys) == ["GET /debugged started", f"GET /debugged {status}"]


async def test_a_line_that_is_written_outside_of_its_context_is_too(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(log_level="FATAL", ops_token="hunter22")
    setup_logging(settings=settings)
    elsewhere = copy_context()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await elsewhere.run(asyncio.create_task, _finish(send))

    await drive(observed(RequestLoggingMiddleware(app, settings=settings)), selected_scope())
    assert messages(capsys) == ["GET /debugged started", "GET /debugged 200"]


async def _finish(send: Send) -> None:
    assert current_exchange() is None
    await send({"type": "http.response.body", "body": b""})


async def test_a_filter_that_meets_a_strange_record_lets_it_pass(
    attach: Callable[..., Seen], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    setup_logging(settings=INFO)
    monkeypatch.setattr(errors, "_last_logged", {})
    theirs = attach()

    def work() -> None:
        record = logging.makeLogRecord({"msg": "strange", "levelno": "high", "name": "shop"})
        theirs.handle(record)

    await drive(observed(working(work)), selected_scope())
    assert "strange" in theirs.messages
    assert "Selection.filter failed" in caplog.text


async def test_handlers_that_come_later_are_guarded_with_the_next_one(attach: Callable[..., Seen]) -> None:
    setup_logging(settings=INFO)
    handlers: list[Seen] = []

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        handlers.append(attach())
        await drive(observed(app), selected_scope())

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await drive(observed(working(lambda: debug_all("quiet"))), http_scope("/quiet"))

    await drive(observed(outer), selected_scope())
    assert [handler.messages for handler in handlers] == [[]]


def test_a_handler_is_left_alone_while_none_is_selected() -> None:
    handler = Seen()
    selection.guard(handler)
    assert handler.filters == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
async def test_in_a_child_that_is_forked_all_is_as_before(root: logging.Logger, attach: Callable[..., Seen]) -> None:
    setup_logging(settings=INFO)
    theirs = attach()

    def look() -> None:  # pragma: no cover - runs in a forked child
        assert (root.level, theirs.filters) == (logging.INFO, [])

    await drive(observed(working(lambda: in_child(look))), selected_scope())


def test_what_is_selected_can_be_forgotten(root: logging.Logger, attach: Callable[..., Seen]) -> None:
    setup_logging(settings=INFO)
    theirs, another = attach(), Selection()
    another.add(make_exchange())
    assert (root.level, len(theirs.filters)) == (logging.DEBUG, 1)
    another.forget()
    assert (root.level, theirs.filters) == (logging.INFO, [])


def test_no_exchange_is_not_selected() -> None:
    assert not is_selected(None)
