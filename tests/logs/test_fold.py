"""A storm of the same message becomes two lines, the second one with a count."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from asgi_obs import errors
from asgi_obs.correlation import CorrelationIdMiddleware
from asgi_obs.errors import ConfigurationError
from asgi_obs.logs import bind
from asgi_obs.logs.fold import MAX_KINDS, Fold
from asgi_obs.logs.records import make_record
from asgi_obs.redaction import redactor_of
from asgi_obs.testing import drive, http_scope
from tests.logs.sinks import until


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fold(sink: Any, clock: Clock) -> Iterator[Fold]:
    fold = Fold(sink, 10, clock)
    sink.addFilter(fold)
    yield fold
    fold.flush()  # stops the timer


def said(sink: Any) -> list[tuple[str, int | None]]:
    return [(line["message"], line.get("repeated")) for line in sink.lines]


def test_repeats_are_held_back_and_counted_when_their_time_is_over(
    logger: logging.Logger, sink: Any, fold: Fold, clock: Clock
) -> None:
    for number in range(5):
        logger.warning("no answer from %s", f"host-{number}")
        clock.now += 1
    assert said(sink) == [("no answer from host-0", None)]

    clock.now += 5
    logger.info("something else")

    assert said(sink)[1:] == [("no answer from host-4", 4), ("something else", None)]
    assert sink.lines[1]["repeated_seconds"] == 4
    assert (sink.lines[1]["level"], sink.lines[1]["component"]) == ("WARN", logger.name)
    assert (sink.records[1].funcName, sink.records[1].pathname) == (sink.records[0].funcName, __file__)


def test_when_the_time_is_over_the_next_one_passes_behind_the_count(
    logger: logging.Logger, sink: Any, fold: Fold, clock: Clock
) -> None:
    for seconds in (0, 1, 8, 1, 1):
        clock.now += seconds
        logger.info("again")

    assert said(sink) == [("again", None), ("again", 2), ("again", None)]
    fold.flush()
    assert said(sink)[3:] == [("again", 1)]


def test_what_is_not_repeated_is_not_counted(logger: logging.Logger, sink: Any, fold: Fold, clock: Clock) -> None:
    for _ in range(3):
        logger.info("now and then")
        clock.now += 10

    assert said(sink) == [("now and then", None)] * 3


def test_alike_are_logger_level_template_and_type_of_exception(logger: logging.Logger, sink: Any, fold: Fold) -> None:
    def log(error: Exception | None = None) -> None:
        logger.error("failed", exc_info=error)

    for _ in range(2):
        log()
        logger.warning("failed")
        logger.getChild("child").error("failed")
        logger.error("failed too")
        log(ValueError("a"))
        log(ValueError("b"))
        log(KeyError("a"))

    assert len(sink.lines) == 6
    fold.flush()
    counted = sink.lines[6:]
    assert sorted(line["repeated"] for line in counted) == [1, 1, 1, 1, 1, 3]
    assert sorted(line["error"]["type"] for line in counted if "error" in line) == ["KeyError", "ValueError"]


def test_exc_info_without_an_exception_is_none(logger: logging.Logger, sink: Any, fold: Fold) -> None:
    logger.error("failed", exc_info=(None, None, None))
    logger.error("failed")

    assert said(sink) == [("failed", None)]


def test_objects_as_messages_are_alike_if_their_text_is(logger: logging.Logger, sink: Any, fold: Fold) -> None:
    logger.error(ValueError("a"))
    logger.error(ValueError("a"))
    logger.error(ValueError("b"))

    assert [message for message, _ in said(sink)] == ["a", "b"]


@pytest.mark.parametrize("template", ["%s", "%r"])
def test_a_template_without_words_does_not_make_messages_alike(
    logger: logging.Logger, sink: Any, fold: Fold, template: str
) -> None:
    for argument in (1, 2, 1, 3):
        logger.info(template, argument)

    assert [message for message, _ in said(sink)] == ["1", "2", "3"]


def test_the_count_comes_though_nothing_more_is_logged(logger: logging.Logger, sink: Any) -> None:
    fold = Fold(sink, 0.05)
    sink.addFilter(fold)
    for number in range(3):
        logger.info("%d", number)
        logger.info("other %d", number)

    until(lambda: len(sink.records) == 4)

    assert sorted(said(sink)[2:]) == [("2", 2), ("other 2", 2)]


def test_the_timer_goes_on_while_something_is_held_back(logger: logging.Logger, sink: Any) -> None:
    clock = Clock()
    fold = Fold(sink, 0.02, clock)
    sink.addFilter(fold)
    logger.info("first")
    clock.now += 0.015
    logger.info("second")
    logger.info("second")

    clock.now += 0.005  # the first one is over
    until(lambda: not any(window.ends <= clock.now for window in list(fold._windows.values())))
    assert said(sink) == [("first", None), ("second", None)]
    clock.now += 1

    until(lambda: len(sink.records) == 3)
    assert said(sink)[2:] == [("second", 1)]


def test_there_is_one_timer_thread_at_most(logger: logging.Logger, sink: Any, fold: Fold) -> None:
    for _ in range(2):
        for number in range(50):
            logger.info(f"message {number}")

    timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    assert sum(timer.function.__self__ is fold for timer in timers) == 1  # type: ignore[attr-defined]
    fold.flush()
    assert len(sink.records) == 100


def test_the_count_belongs_to_no_request(logger: logging.Logger, sink: Any, fold: Fold) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        bind(user_id="ann")
        logger.info("in a request")
        logger.info("in a request")
        fold.flush()

    asyncio.run(drive(CorrelationIdMiddleware(app), http_scope("/x")))

    passed, counted = sink.lines
    assert (passed["user_id"], counted["repeated"]) == ("ann", 1)
    assert not {"user_id", "correlation_id"} & counted.keys()


def test_arguments_are_read_when_they_are_logged_and_not_kept(sink: Any, fold: Fold) -> None:
    class Big(list):  # type: ignore[type-arg]
        pass

    items = Big([1])
    gone = weakref.ref(items)
    for argument in ([], items):
        sink.handle(logging.LogRecord("shop", 20, __file__, 1, "items %s", (argument,), None))
    items.append(2)
    del items, argument
    gc.collect()
    fold.flush()

    assert gone() is None
    assert said(sink)[-1] == ("items [1]", 1)


def test_the_count_is_redacted_like_any_record(logger: logging.Logger, sink: Any, fold: Fold) -> None:
    for _ in range(2):
        logger.info("see %s", "http://u:p@h/%s")
    fold.flush()

    assert said(sink)[1] == ("see http://******@h/%s", 1)


@pytest.mark.parametrize("name", ["audit", "audit.login"])
def test_the_audit_log_is_never_folded(sink: Any, fold: Fold, name: str) -> None:
    for _ in range(3):
        sink.handle(logging.makeLogRecord({"name": name, "msg": "login", "levelno": 20}))

    assert len(sink.records) == 3


@pytest.mark.parametrize("factory", [logging.LogRecord, type("Record", (logging.LogRecord,), {})])
def test_the_lines_of_requests_are_never_folded(logger: logging.Logger, sink: Any, fold: Fold, factory: Any) -> None:
    usual = logging.getLogRecordFactory()
    logging.setLogRecordFactory(factory)
    try:
        for _ in range(3):
            logger.handle(make_record(logger, 20, "GET / 200", {"path": "/"}, redactor=redactor_of()))
    finally:
        logging.setLogRecordFactory(usual)

    assert len(sink.records) == 3


def test_more_kinds_than_are_told_apart_pass(logger: logging.Logger, sink: Any, fold: Fold, clock: Clock) -> None:
    for number in range(MAX_KINDS):
        logger.info(f"message {number}")
    for _ in range(3):
        logger.info("one too many")
    assert len(sink.records) == MAX_KINDS + 3

    clock.now += 10
    for _ in range(3):
        logger.info("no more too many")

    assert len(sink.records) == MAX_KINDS + 4


def test_from_several_threads_every_record_is_written_or_counted(logger: logging.Logger, sink: Any) -> None:
    fold = Fold(sink, 0.002)
    sink.addFilter(fold)
    each, threads = 500, 6

    def log(seed: int) -> None:
        for number in range(each):
            logger.info(f"message {number * (seed + 1) % 5}")

    workers = [threading.Thread(target=log, args=(seed,)) for seed in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    fold.flush()
    until(lambda: sum(count or 1 for _, count in said(sink)) == each * threads)

    assert sum(count or 1 for _, count in said(sink)) == each * threads


def test_what_is_held_back_is_counted_at_exit() -> None:
    program = """
import logging
from asgi_obs.logs.fold import Fold
handler = logging.StreamHandler()
handler.addFilter(Fold(handler, 1000))
handler.setFormatter(logging.Formatter("%(message)s %(repeated)s", defaults={"repeated": "-"}))
logging.getLogger().addHandler(handler)
for number in range(4):
    logging.warning("number %d", number)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stderr.splitlines() == ["number 0 -", "number 3 3"]


def test_at_exit_it_is_asked_for_its_counts_while_it_is_there(
    logger: logging.Logger, sink: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_exit: list[Callable[[], object]] = []
    monkeypatch.setattr("atexit.register", lambda function, *args: at_exit.append(lambda: function(*args)))
    sink.addFilter(Fold(sink, 10))
    logger.info("x")
    logger.info("x")

    at_exit[0]()
    sink.filters.clear()
    gc.collect()
    at_exit[0]()

    assert said(sink) == [("x", None), ("x", 1)]


def test_a_fold_that_is_no_longer_used_does_not_live_on(sink: Any) -> None:
    gone = weakref.ref(Fold(sink, 10))
    gc.collect()

    assert gone() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")
def test_a_forked_child_counts_only_its_own() -> None:
    program = """
import logging, os, sys
from asgi_obs.logs.fold import Fold
handler = logging.StreamHandler(sys.stdout)
fold = Fold(handler, 1000)
handler.addFilter(fold)
handler.setFormatter(logging.Formatter("%(who)s %(message)s %(repeated)s", defaults={"who": "", "repeated": "-"}))
log = logging.getLogger()
log.addHandler(handler)
log.warning("x")
log.warning("x")
sys.stdout.flush()
fold._lock.acquire()
child = os.fork()
if child == 0:
    log.warning("x", extra={"who": "child"})
    log.warning("x")
    log.warning("x")
else:
    fold._lock.release()
    os.waitpid(child, 0)
"""
    ignore = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(ignore, capture_output=True, text=True, check=True, timeout=30)

    assert done.stdout.splitlines() == [" x -", "child x -", " x 2", " x 1"]


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [seen.append])
    monkeypatch.setattr(errors, "_last_logged", {})
    return seen


def test_what_cannot_be_judged_passes(logger: logging.Logger, sink: Any, reported: list[str]) -> None:
    def broken() -> float:
        raise OSError("no clock")

    sink.addFilter(Fold(sink, 10, broken))
    logger.info("one")
    logger.info("one")

    assert said(sink) == [("one", None)] * 2
    assert reported == ["Fold.filter"] * 2


def test_a_timer_that_cannot_be_started_holds_nothing_back(
    logger: logging.Logger, sink: Any, fold: Fold, reported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(timer: threading.Timer) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Timer, "start", refuse)
    logger.info("one")
    logger.info("one")
    fold.flush()

    assert said(sink) == [("one", None)] * 2
    assert reported == ["Fold.filter"]


def test_a_handler_that_raises_is_reported(reported: list[str]) -> None:
    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            if self.filter(record):
                raise OSError("full")
            return False

    handler = Broken()
    fold = Fold(handler, 10, Clock())
    handler.addFilter(fold)
    record = logging.makeLogRecord({"name": "a", "msg": "x", "levelno": 20})
    with pytest.raises(OSError, match="full"):
        handler.handle(record)
    handler.handle(record)
    fold.flush()

    assert reported == ["Fold.write"]


def test_a_line_of_json_has_the_count_as_a_number(logger: logging.Logger, sink: Any, fold: Fold) -> None:
    for _ in range(3):
        logger.info("x")
    fold.flush()

    line = sink.lines[1]
    assert (line["repeated"], line["repeated_seconds"]) == (2, 0.0)


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan, True, "10", None])
def test_a_wrong_option_is_refused(sink: Any, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="seconds"):
        Fold(sink, value)
