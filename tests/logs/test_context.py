from __future__ import annotations

import asyncio
import contextvars
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from asgi_obs.exchange import Exchange, ExchangeMiddleware, current_exchange
from asgi_obs.logs import LogContext, bind
from asgi_obs.testing import drive, http_scope
from asgi_obs.types import ASGIApp, Observer, Receive, Scope, Send

pytestmark = pytest.mark.anyio


class Identify(Observer):
    """Gives every exchange the correlation ID `of-request`."""

    def on_start(self, exchange: Exchange) -> None:
        exchange.correlation_id = "of-request"


async def serve(work: Any) -> None:
    """Run `work` inside of an exchange."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await work()

    wrapped: ASGIApp = ExchangeMiddleware(app, observers=(Identify(),))  # type: ignore[abstract]
    await drive(wrapped, http_scope())


def test_fields_stand_in_every_record_of_the_block(sink: Any, logger: logging.Logger) -> None:
    with LogContext("c-1", user_id="u", workspace_id="w"):
        logger.info("inside")
    logger.info("outside")
    inside, outside = sink.lines
    assert (inside["correlation_id"], inside["user_id"], inside["context"]) == ("c-1", "u", {"workspace_id": "w"})
    assert not {"correlation_id", "user_id", "context"} & outside.keys()


def test_an_inner_context_adds_to_the_outer_one_and_wins(sink: Any, logger: logging.Logger) -> None:
    with LogContext("outer", a=1, b=1):
        with LogContext(b=2):
            logger.info("inner")
        logger.info("outer")
    inner, outer = sink.lines
    assert (inner["correlation_id"], inner["context"]) == ("outer", {"a": 1, "b": 2})
    assert outer["context"] == {"a": 1, "b": 1}


def test_an_exception_ends_the_context(sink: Any, logger: logging.Logger) -> None:
    with pytest.raises(KeyError), LogContext("c-1"):
        raise KeyError("x")
    logger.info("after")
    assert "correlation_id" not in sink.line


def test_a_context_may_be_used_again_and_within_itself(sink: Any, logger: logging.Logger) -> None:
    context = LogContext("c-1")
    with context:
        with context:
            logger.info("twice")
        logger.info("once")
    logger.info("never")
    with context:
        logger.info("again")
    assert [line.get("correlation_id") for line in sink.lines] == ["c-1", "c-1", None, "c-1"]


async def test_a_context_works_with_async_with(sink: Any, logger: logging.Logger) -> None:
    async with LogContext("c-1") as context:
        assert isinstance(context, LogContext)
        logger.info("inside")
    logger.info("outside")
    assert [line.get("correlation_id") for line in sink.lines] == ["c-1", None]


def test_a_field_may_have_any_name(sink: Any, logger: logging.Logger) -> None:
    with LogContext(self=1, fields=2, message=3, service=4, context={"x": 5}):
        logger.info("hello")
    assert sink.line["message"] == "hello"
    assert sink.line["service"] == "shop"
    assert sink.line["context"] == {"self": 1, "fields": 2, "message": 3, "service": 4, "x": 5}


async def test_concurrent_tasks_never_mix(sink: Any, logger: logging.Logger) -> None:
    shared = LogContext(kind="job")
    turns = [asyncio.Event(), asyncio.Event()]

    async def work(me: int) -> None:
        with shared, LogContext(f"task-{me}"):
            bind(step=me)
            turns[me].set()
            await turns[1 - me].wait()
            logger.info("%d", me)
        logger.info("%d", me)

    await asyncio.gather(work(0), work(1))
    assert sorted(
        (line["message"], line.get("correlation_id", "-"), line.get("context", {}).get("step", "-"))
        for line in sink.lines
    ) == [
        ("0", "-", "-"),
        ("0", "task-0", 0),
        ("1", "-", "-"),
        ("1", "task-1", 1),
    ]


def test_a_thread_with_a_copy_of_the_context_has_its_fields(sink: Any, logger: logging.Logger) -> None:
    with ThreadPoolExecutor(1) as pool, LogContext("c-1"):
        pool.submit(contextvars.copy_context().run, logger.info, "with").result()
        pool.submit(logger.info, "without").result()
    assert [line.get("correlation_id") for line in sink.lines] == ["c-1", None]


def test_a_context_left_in_another_one_than_it_was_entered_in_changes_nothing(
    sink: Any, logger: logging.Logger
) -> None:
    stranger = LogContext("stranger")
    contextvars.copy_context().run(stranger.__enter__)
    with LogContext("c-1"):
        stranger.__exit__(None, None, None)
        logger.info("inside")
    assert sink.line["correlation_id"] == "c-1"


def test_bind_outside_of_a_request_holds_to_the_end_of_the_context(sink: Any, logger: logging.Logger) -> None:
    with LogContext("c-1", a=1):
        with LogContext(b=2):
            bind(user_id="u", c=3)
            logger.info("inner")
        logger.info("outer")
    inner, outer = sink.lines
    assert (inner["user_id"], inner["context"]) == ("u", {"a": 1, "b": 2, "c": 3})
    assert ("user_id" in outer, outer["context"]) == (False, {"a": 1})


def test_bind_outside_of_everything_holds_in_the_task_or_thread(sink: Any, logger: logging.Logger) -> None:
    def work() -> None:
        bind(a=1)
        bind(b=2)
        logger.info("bound")

    contextvars.Context().run(work)
    contextvars.Context().run(logger.info, "unbound")
    bound, unbound = sink.lines
    assert bound["context"] == {"a": 1, "b": 2}
    assert "context" not in unbound


async def test_bind_in_a_request_reaches_the_exchange_from_a_thread(sink: Any, logger: logging.Logger) -> None:
    seen: list[Any] = []

    async def work() -> None:
        await asyncio.to_thread(bind, user_id="u", workspace_id="w")
        logger.info("after")
        exchange = current_exchange()
        assert exchange is not None
        seen.append(exchange.fields)

    await serve(work)
    assert seen == [{"user_id": "u", "workspace_id": "w"}]
    assert (sink.line["user_id"], sink.line["context"]) == ("u", {"workspace_id": "w"})


async def test_a_context_within_a_request_wins_over_the_request(sink: Any, logger: logging.Logger) -> None:
    async def work() -> None:
        bind(user_id="bound", a=1, b=1)
        with LogContext("mine", b=2):
            logger.info("inside")
        logger.info("outside")

    await serve(work)
    inside, outside = sink.lines
    assert (inside["correlation_id"], inside["user_id"], inside["context"]) == ("mine", "bound", {"a": 1, "b": 2})
    assert (outside["correlation_id"], outside["context"]) == ("of-request", {"a": 1, "b": 1})


async def test_a_request_within_a_context_wins_over_the_context(sink: Any, logger: logging.Logger) -> None:
    async def work() -> None:
        bind(b=2)
        logger.info("request")
        with LogContext(c=3):
            logger.info("within")
            with LogContext(d=4):
                logger.info("deeper")

    with LogContext("job", a=1, b=1):
        await serve(work)
        logger.info("job")
    request, within, deeper, job = sink.lines
    assert (request["correlation_id"], request["context"]) == ("of-request", {"a": 1, "b": 2})
    assert (within["correlation_id"], within["context"]) == ("of-request", {"a": 1, "b": 2, "c": 3})
    assert (deeper["correlation_id"], deeper["context"]) == ("of-request", {"a": 1, "b": 2, "c": 3, "d": 4})
    assert (job["correlation_id"], job["context"]) == ("job", {"a": 1, "b": 1})
