from __future__ import annotations

import io
import logging
import pickle
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from loguru import logger as log

from asgi_obs import CorrelationIdMiddleware, LogContext, bind, errors
from asgi_obs.integrations import loguru as bridge
from asgi_obs.integrations.loguru import configure_loguru
from asgi_obs.testing import http_scope
from asgi_obs.types import Message

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("loguru_put_back")]


@pytest.fixture
def loguru_put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As loguru starts: with one sink, known as number 0 to the bridge."""
    log.remove()
    stderr = io.StringIO()
    monkeypatch.setattr(bridge, "_sinks", [log.add(stderr)])
    yield
    log.remove()


@pytest.fixture(params=[False, True], ids=["direct", "enqueued"])
def configured(request: pytest.FixtureRequest, written: Any) -> bool:
    configure_loguru(enqueue=request.param)
    return request.param


class Unpicklable(Exception):
    def __reduce__(self) -> Any:
        raise pickle.PicklingError


def test_a_message_is_a_line_with_extra_as_fields(configured: bool, written: Any) -> None:
    with log.contextualize(tenant="acme"):
        log.bind(order=7).info("sold {item}", item="book")
    log.complete()
    line = written.line
    assert (line["component"], line["level"], line["message"]) == (__name__, "INFO", "sold book")
    assert (line["order"], line["tenant"], line["item"]) == (7, "acme", "book")


@pytest.mark.parametrize(
    ("method", "level"),
    [
        ("trace", "TRACE"),
        ("debug", "DEBUG"),
        ("info", "INFO"),
        ("success", "SUCCESS"),
        ("warning", "WARN"),
        ("error", "ERROR"),
        ("critical", "FATAL"),
    ],
)
def test_every_level_has_its_name(configured: bool, written: Any, method: str, level: str) -> None:
    logging.getLogger().setLevel(1)
    getattr(log, method)("x")
    log.complete()
    assert written.line["level"] == level


def test_levels_of_your_own_keep_number_and_name(configured: bool, written: Any) -> None:
    with suppress(TypeError, ValueError):  # loguru cannot forget a level: it is there from the other run of this test
        log.level("NOTICE", no=27)
    log.log("NOTICE", "x")
    log.log(33, "y")
    log.complete()
    assert [line["level"] for line in written.lines] == ["NOTICE", "Level 33"]
    assert [record.levelno for record in written.records] == [27, 33]


def test_what_is_below_the_level_of_the_logger_is_not_written(configured: bool, written: Any) -> None:
    log.debug("too detailed")
    log.complete()
    assert written.lines == []


def test_time_place_thread_and_process_are_those_of_the_message(configured: bool, written: Any) -> None:
    seen: list[Any] = []
    log.add(lambda message: seen.append(message.record), format="{message}")

    def helper() -> None:
        log.info("here")

    thread = threading.Thread(target=helper, name="helper")
    thread.start()
    thread.join()
    log.complete()
    record, (said,) = written.record, seen
    assert record.created == said["time"].timestamp()
    assert record.msecs == int(record.created % 1 * 1000)
    assert (record.funcName, record.filename, record.lineno) == ("helper", "test_loguru.py", said["line"])
    assert (record.thread, record.threadName) == (said["thread"].id, "helper")
    assert (record.process, record.processName) == (said["process"].id, said["process"].name)


def fail(secret: str) -> None:
    raise LookupError("no such order")


def test_an_exception_is_the_error_of_the_line_without_the_values_of_variables(configured: bool, written: Any) -> None:
    try:
        fail("hunter" + "2")
    except LookupError:
        log.exception("failed")
    log.complete()
    line = written.line
    assert (line["message"], line["error"]["type"], line["error"]["message"]) == (
        "failed", "LookupError", "no such order",
    )  # fmt: skip
    assert "test_loguru.py" in line["error"]["stack"]
    assert "hunter2" not in written.stream.getvalue()


def test_an_exception_that_cannot_be_pickled_keeps_its_type_and_stack(written: Any) -> None:
    configure_loguru(enqueue=True)
    try:
        raise Unpicklable("gone")
    except Unpicklable:
        log.exception("failed")
    log.complete()
    error = written.line["error"]
    assert (error["type"], "gone" in error["stack"]) == ("Unpicklable", True)


def test_an_exception_that_was_never_raised_is_the_error_too(configured: bool, written: Any) -> None:
    log.opt(exception=LookupError("gone")).error("failed")
    log.complete()
    assert (written.line["error"]["type"], written.line["error"]["message"]) == ("LookupError", "gone")


def test_an_exception_that_is_none_is_no_error(configured: bool, written: Any) -> None:
    log.opt(exception=True).error("failed")
    log.complete()
    assert "error" not in written.line


def test_names_that_records_have_move_under_context(configured: bool, written: Any) -> None:
    taken = {"name": "n", "args": 1, "msg": "m", "message": "x", "process": 3, "level": "l"}
    log.bind(**taken).info("sold")
    log.complete()
    assert (written.line["message"], written.line["context"]) == ("sold", taken)


def test_a_field_called_error_does_not_hide_the_exception(configured: bool, written: Any) -> None:
    try:
        fail("x")
    except LookupError:
        log.bind(error="mine").exception("failed")
    log.complete()
    assert (written.line["error"]["type"], written.line["context"]) == ("LookupError", {"error": "mine"})


def test_a_message_without_a_module_has_a_component(configured: bool, written: Any) -> None:
    exec("log.info('nowhere')", {"log": log})  # noqa: S102 - the way to have no __name__
    log.complete()
    assert written.line["component"] in {"loguru", "builtins"}


async def test_the_request_it_was_logged_in_is_known(configured: bool, written: Any) -> None:
    loop: list[Any] = []
    loop.append(loop)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        bind(user_id="u-1", step=2, data=b"x", cycle=loop)
        with LogContext(batch={"n": 1}):
            log.info("inside")
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def receive() -> Message:
        raise AssertionError  # pragma: no cover - the application reads no body

    async def discard(message: Message) -> None: ...

    await CorrelationIdMiddleware(app)(http_scope("/", headers=[(b"x-correlation-id", b"c-7")]), receive, discard)
    log.complete()
    (line,) = (line for line in written.lines if line["message"] == "inside")
    assert (line["correlation_id"], line["user_id"]) == ("c-7", "u-1")
    assert (line["context"]["step"], line["context"]["data"], line["context"]["batch"]) == (2, "x", {"n": 1})


def test_sensitive_values_are_redacted(configured: bool, written: Any) -> None:
    log.bind(password="hunter2", form={"api_key": "hunter2"}).info("signed in")
    log.complete()
    assert (written.line["message"], "hunter2" in written.stream.getvalue()) == ("signed in", False)


def test_it_takes_the_place_of_the_first_sink_and_leaves_others_alone(written: Any) -> None:
    mine = io.StringIO()
    (first,) = bridge._sinks
    log.add(mine, format="{message}")
    sink = configure_loguru()
    log.info("hello")
    assert (written.line["message"], mine.getvalue()) == ("hello", "hello\n")
    with pytest.raises(ValueError, match="no existing handler"):
        log.remove(first)
    log.remove(sink)


def test_calling_it_again_replaces_its_own_sink(written: Any) -> None:
    sinks = {configure_loguru(), configure_loguru(enqueue=True), configure_loguru()}
    log.info("hello")
    assert (written.line["message"], len(sinks)) == ("hello", 3)


def test_a_first_sink_that_was_removed_already_is_no_error(written: Any) -> None:
    log.remove()
    configure_loguru()
    log.info("hello")
    assert written.line["message"] == "hello"


class ToLoguru(logging.Handler):
    """Sends the records of `logging` to loguru, as loguru's documentation shows."""

    def emit(self, record: logging.LogRecord) -> None:
        log.opt(exception=record.exc_info).log(record.levelname, record.getMessage())


def test_records_that_are_sent_to_loguru_do_not_come_back_for_ever(configured: bool, written: Any) -> None:
    intercept = ToLoguru()
    root = logging.getLogger()
    root.addHandler(intercept)
    try:
        log.info("from loguru")
        log.complete()
        assert [line["message"] for line in written.lines] == ["from loguru"]
        logging.getLogger("shop").info("from logging")
        log.complete()
    finally:
        root.removeHandler(intercept)
    assert [line["message"] for line in written.lines][1:] == ["from logging"] * 2


def test_an_error_in_logging_is_reported_and_not_raised(
    configured: bool, written: Any, reported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "_last_logged", {})

    def broken(record: logging.LogRecord) -> bool:
        raise OSError

    logger = logging.getLogger(__name__)
    logger.addFilter(broken)
    log.info("sold")
    log.complete()
    logger.removeFilter(broken)
    assert reported == ["loguru.to_logging"]
    assert written.line["component"] == "asgi_obs"
