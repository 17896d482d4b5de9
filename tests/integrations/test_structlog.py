from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from asgi_obs import CorrelationIdMiddleware, LogContext, errors
from asgi_obs.integrations.structlog import BoundLogger, configure_structlog, to_logging
from asgi_obs.logs import StructuredLogFormatter
from asgi_obs.testing import http_scope
from asgi_obs.types import Message

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("configured")]


@pytest.fixture
def configured() -> Iterator[None]:
    configure_structlog()
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def log() -> BoundLogger:
    return structlog.get_logger("shop.orders")


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError

    __str__ = __repr__


def test_an_event_is_a_line_with_its_keys_as_fields(log: BoundLogger, written: Any) -> None:
    log.bind(order=7).info("sold", item="book", user_id="u-1")
    line = written.line
    assert (line["component"], line["level"], line["message"]) == ("shop.orders", "INFO", "sold")
    assert (line["order"], line["item"], line["user_id"]) == (7, "book", "u-1")
    assert "context" not in line


def test_the_logger_is_that_of_logging(log: BoundLogger) -> None:
    assert log.name == "shop.orders"
    assert type(logging.getLogger("test.structlog.made.after")) is logging.Logger


def test_a_logger_without_a_name_has_that_of_its_module(written: Any) -> None:
    structlog.get_logger().warning("here")
    assert written.line["component"] == __name__


@pytest.mark.parametrize(
    ("method", "level"),
    [
        ("trace", "TRACE"),
        ("debug", "DEBUG"),
        ("info", "INFO"),
        ("warning", "WARN"),
        ("warn", "WARN"),
        ("error", "ERROR"),
        ("exception", "ERROR"),
        ("critical", "FATAL"),
        ("fatal", "FATAL"),
    ],
)
def test_every_method_has_its_level(log: BoundLogger, written: Any, method: str, level: str) -> None:
    logging.getLogger().setLevel(1)
    getattr(log, method)("x")
    assert written.line["level"] == level


@pytest.mark.parametrize(("number", "level"), [(5, "TRACE"), (10, "DEBUG"), (30, "WARN"), (50, "FATAL")])
def test_a_level_may_be_given_by_its_number(log: BoundLogger, written: Any, number: int, level: str) -> None:
    logging.getLogger().setLevel(1)
    log.log(number, "x %s", "y")
    assert (written.line["level"], written.line["message"]) == (level, "x y")


def test_what_is_below_the_level_of_the_logger_is_not_written(log: BoundLogger, written: Any) -> None:
    log.debug("too detailed")
    log.trace("more so")
    logging.getLogger("shop.orders").setLevel(logging.ERROR)
    log.warning("too detailed now")
    logging.getLogger("shop.orders").setLevel(logging.NOTSET)
    assert written.lines == []


def test_positional_arguments_are_put_into_the_message(log: BoundLogger, written: Any) -> None:
    log.info("%s of %d", "one", 2)
    log.info("%(a)s", {"a": "named"})
    log.info("100 %")
    assert [line["message"] for line in written.lines] == ["one of 2", "named", "100 %"]


def test_keys_that_records_have_and_reserved_names_move_under_context(log: BoundLogger, written: Any) -> None:
    taken = {
        "name": "n", "args": [1], "msg": "m", "message": "m", "process": 3, "filename": "f", "lineno": 4,
        "level": "l", "timestamp": "t", "service": "s", "hostname": "h",
    }  # fmt: skip
    log.info("sold", **taken)
    line = written.line
    assert (line["message"], line["component"], line["service"], line["level"]) == (
        "sold", "shop.orders", "shop", "INFO",
    )  # fmt: skip
    assert line["context"] == taken


def test_an_exception_is_the_error_of_the_line(log: BoundLogger, written: Any) -> None:
    try:
        raise LookupError("no such order")
    except LookupError as error:
        log.exception("failed")
        log.error("failed", exc_info=True)
        log.error("failed", exc_info=error)
        log.error("failed", exc_info=(type(error), error, error.__traceback__))
    log.error("no failure", exc_info=False)
    *failed, fine = written.lines
    assert [(line["error"]["type"], line["error"]["message"]) for line in failed] == [
        ("LookupError", "no such order")
    ] * 4
    assert all("test_structlog.py" in line["error"]["stack"] for line in failed)
    assert "error" not in fine


def test_the_stack_is_that_of_the_caller(log: BoundLogger, written: Any) -> None:
    log.info("here", stack_info=True)
    stack = written.line["context"]["stack_info"]
    assert stack.startswith("Stack (most recent call last):\n")
    assert "stack_info=True" in stack.splitlines()[-1] or "stack_info=True" in stack.splitlines()[-2]
    assert "structlog/" not in stack


def test_the_caller_is_the_function_that_called_structlog(log: BoundLogger, written: Any) -> None:
    def helper() -> None:
        log.info("direct")
        log.trace("through our own method")
        log.info("one further out", stacklevel=2)
        structlog.stdlib.get_logger("other").info("through another logger")

    logging.getLogger().setLevel(1)
    helper()
    this = test_the_caller_is_the_function_that_called_structlog.__name__
    assert [record.funcName for record in written.records] == ["helper", "helper", this, "helper"]
    assert {record.filename for record in written.records} == {"test_structlog.py"}


def test_a_stacklevel_beyond_the_outermost_frame_is_the_outermost(log: BoundLogger, written: Any) -> None:
    log.info("far out", stacklevel=10_000)
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
    assert written.record.funcName == frame.f_code.co_name


def test_context_variables_of_structlog_are_fields(log: BoundLogger, written: Any) -> None:
    with structlog.contextvars.bound_contextvars(tenant="acme", correlation_id="c-1"):
        log.info("inside")
    assert (written.line["tenant"], written.line["correlation_id"]) == ("acme", "c-1")


def test_fields_of_log_contexts_are_there_too(log: BoundLogger, written: Any) -> None:
    with LogContext("c-1", batch=3):
        log.info("inside")
    assert (written.line["correlation_id"], written.line["context"]) == ("c-1", {"batch": 3})


def test_sensitive_values_are_redacted(log: BoundLogger, written: Any) -> None:
    log.info("signed in", password="hunter2", form={"api_key": "hunter2"}, process={"token": "hunter2"})
    assert "hunter2" not in written.stream.getvalue()


@pytest.mark.parametrize("wrapper", [BoundLogger, structlog.make_filtering_bound_logger(logging.DEBUG)])
async def test_the_methods_for_coroutines_know_request_and_caller(written: Any, wrapper: type[BoundLogger]) -> None:
    structlog.configure(wrapper_class=wrapper)
    log = structlog.get_logger("shop.async")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await log.ainfo("inside", item=3)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def receive() -> Message:
        raise AssertionError  # pragma: no cover - the application reads no body

    async def discard(message: Message) -> None: ...

    await CorrelationIdMiddleware(app)(http_scope("/", headers=[(b"x-correlation-id", b"c-7")]), receive, discard)
    (line,) = (line for line in written.lines if line["component"] == "shop.async")
    assert (line["correlation_id"], line["item"]) == ("c-7", 3)
    (record,) = (record for record in written.records if record.name == "shop.async")
    assert record.funcName == "app"


async def test_a_coroutine_may_log_its_exception(log: BoundLogger, written: Any) -> None:
    try:
        raise LookupError("gone")
    except LookupError:
        await log.aexception("failed")
    assert written.line["error"]["message"] == "gone"


def test_processors_of_your_own_run_before(written: Any) -> None:
    def rename(_logger: Any, _method: str, event: Any) -> Any:
        event["item"] = event.pop("thing")
        return event

    configure_structlog(rename)
    structlog.get_logger("shop.renamed").info("sold", thing="book")
    assert written.line["item"] == "book"


def test_as_the_last_of_a_chain_of_your_own_it_takes_the_loggers_of_structlogs_factory(written: Any) -> None:
    loggers = logging.getLoggerClass()
    try:
        structlog.configure(
            processors=[structlog.stdlib.filter_by_level, to_logging],
            wrapper_class=structlog.stdlib.BoundLogger,
            logger_factory=structlog.stdlib.LoggerFactory(),
        )
        structlog.get_logger("shop.theirs").error("sold", name="book")
    finally:
        logging.setLoggerClass(loggers)
    assert (written.line["component"], written.line["context"]) == ("shop.theirs", {"name": "book"})
    assert written.record.funcName.startswith("test_as_the_last")


def test_a_method_of_a_wrapper_of_somebody_else_is_info(written: Any) -> None:
    with pytest.raises(structlog.DropEvent):
        to_logging(logging.getLogger("shop.odd"), "msg", {"event": "hello"})
    assert (written.line["level"], written.line["message"]) == ("INFO", "hello")


def test_an_error_in_logging_is_reported_and_not_raised(
    log: BoundLogger, written: Any, reported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "_last_logged", {})

    def broken(record: logging.LogRecord) -> bool:
        raise OSError

    logger = logging.getLogger("shop.orders")
    logger.addFilter(broken)
    log.info("sold")
    logger.removeFilter(broken)
    assert reported == ["structlog.to_logging"]
    assert written.line["component"] == "asgi_obs"


@given(
    event=st.text() | st.none() | st.integers(),
    fields=st.dictionaries(
        st.text(min_size=1).filter(lambda name: name not in {"event", "self", "exc_info", "stack_info", "stacklevel"}),
        st.one_of(st.text(), st.binary(), st.integers(), st.floats(), st.builds(Unprintable), st.none()),
    ),
)
def test_whatever_is_logged_is_one_record_and_nothing_is_raised(event: Any, fields: dict[str, Any]) -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(StructuredLogFormatter("shop"))
    logger = logging.getLogger("test.structlog.any")
    logger.handlers, logger.propagate = [handler], False
    structlog.get_logger("test.structlog.any").error(event, **fields)
    (line,) = out.getvalue().splitlines()
    assert json.loads(line)["component"] == "test.structlog.any"
