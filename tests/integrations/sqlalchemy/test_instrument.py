from __future__ import annotations

import gc
import importlib
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import StaticPool

from asgi_obs.errors import ConfigurationError, MissingExtraError
from asgi_obs.integrations import sqlalchemy as integration
from asgi_obs.integrations.sqlalchemy import instrument_sqlalchemy, uninstrument_sqlalchemy

EVENTS = ("before_cursor_execute", "after_cursor_execute", "engine_disposed")
DIALECT_EVENTS = ("do_execute", "do_executemany", "do_execute_no_params", "handle_error")
POOL_EVENTS = ("connect", "checkout", "checkin", "invalidate", "soft_invalidate", "close", "close_detached", "detach")


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    yield engine
    engine.dispose()


def ask(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("select 1"))


def count(registry: CollectorRegistry) -> float | None:
    return registry.get_sample_value("db_queries_total", {"operation": "select", "table": "unknown"})


def listeners(engine: Engine) -> list[Any]:
    places = ((engine, EVENTS), (engine.dialect, DIALECT_EVENTS), (engine.pool, POOL_EVENTS))
    return [list(getattr(place.dispatch, name)) for place, names in places for name in names]


def test_the_statements_of_an_engine_are_counted(engine: Engine, registry: CollectorRegistry) -> None:
    assert instrument_sqlalchemy(engine, registry=registry) is engine
    ask(engine)

    assert count(registry) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("inside", [False, True])
async def test_an_async_engine_is_the_sync_one_in_it(registry: CollectorRegistry, inside: bool) -> None:
    engine = create_async_engine("sqlite+aiosqlite://")
    instrument_sqlalchemy(engine.sync_engine if inside else engine, registry=registry)
    instrument_sqlalchemy(engine if inside else engine.sync_engine, registry=registry)
    async with engine.connect() as connection:
        await connection.execute(text("select 1"))
    uninstrument_sqlalchemy(engine)
    async with engine.connect() as connection:
        await connection.execute(text("select 1"))
    await engine.dispose()

    assert count(registry) == 1


def test_an_engine_that_is_instrumented_twice_counts_once(
    engine: Engine, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        instrument_sqlalchemy(engine, registry=registry, slow_seconds=1)
    instrument_sqlalchemy(engine)
    ask(engine)

    assert count(registry) == 1
    assert caplog.messages == []


def test_other_options_of_a_second_call_are_said_to_change_nothing(
    engine: Engine, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    instrument_sqlalchemy(engine, registry=registry)
    instrument_sqlalchemy(engine, registry=CollectorRegistry())
    ask(engine)

    assert count(registry) == 1
    assert caplog.messages == ["This engine is instrumented already, and its options stay: Engine(sqlite://)"]


def test_engines_with_other_options_share_the_listeners_of_their_engine(
    engine: Engine, registry: CollectorRegistry
) -> None:
    before = engine.execution_options(a=1)
    instrument_sqlalchemy(before.execution_options(b=2), registry=registry)
    instrument_sqlalchemy(engine, registry=registry)
    for each in (engine, before, engine.execution_options(c=3)):
        ask(each)
    assert count(registry) == 3

    uninstrument_sqlalchemy(before)
    ask(engine)
    ask(before)
    assert count(registry) == 3


def test_several_engines_add_up(registry: CollectorRegistry) -> None:
    engines = [instrument_sqlalchemy(create_engine("sqlite://"), registry=registry) for _ in range(3)]
    for engine in engines:
        ask(engine)
        engine.dispose()

    assert count(registry) == 3


def test_what_was_put_on_an_engine_is_taken_back(engine: Engine, registry: CollectorRegistry) -> None:
    event.listen(engine, "do_execute", print)
    event.listen(engine, "after_cursor_execute", lambda *_: None)
    before, attributes = listeners(engine), vars(engine).keys() | set()
    for _ in range(2):
        instrument_sqlalchemy(engine, registry=registry)
        assert listeners(engine) != before
        uninstrument_sqlalchemy(engine)
        uninstrument_sqlalchemy(engine)

    assert listeners(engine) == before
    assert vars(engine).keys() == attributes
    event.remove(engine, "do_execute", print)
    ask(engine)
    assert count(registry) is None


@pytest.mark.parametrize("others", [False, True])
def test_the_events_of_connections_are_called_for_others_only(
    engine: Engine, registry: CollectorRegistry, others: bool
) -> None:
    calls: list[tuple[Any, ...]] = []
    if others:
        event.listen(engine, "after_execute", lambda *arguments: calls.append(arguments))
    instrument_sqlalchemy(engine, registry=registry)
    ask(engine)

    assert engine._has_events is others
    assert len(calls) == others


@pytest.mark.parametrize("other", [instrument_sqlalchemy, uninstrument_sqlalchemy])
def test_one_thread_waits_until_another_has_instrumented_an_engine(
    engine: Engine, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, other: Callable[[Any], Any]
) -> None:
    started, go_on, asked, ended = (threading.Event() for _ in range(4))
    watch = integration.watch_pool

    def slow(*arguments: Any) -> Any:
        started.set()
        assert go_on.wait(10)
        return watch(*arguments)

    def ask_for_the_other() -> None:
        asked.set()
        other(engine)
        ended.set()

    monkeypatch.setattr(integration, "watch_pool", slow)
    before = listeners(engine)
    first = threading.Thread(target=instrument_sqlalchemy, args=[engine], kwargs={"registry": registry})
    second = threading.Thread(target=ask_for_the_other)
    first.start()
    assert started.wait(10)
    second.start()
    assert asked.wait(10)
    assert not ended.wait(0.05)
    go_on.set()
    first.join()
    second.join()

    assert ended.is_set()
    assert (listeners(engine) == before) is (other is uninstrument_sqlalchemy)


def test_an_engine_that_is_not_instrumented_stays_as_it_is(engine: Engine) -> None:
    before = listeners(engine)
    uninstrument_sqlalchemy(engine)

    assert listeners(engine) == before


def test_an_engine_is_let_go(registry: CollectorRegistry) -> None:
    alive: weakref.WeakSet[Engine] = weakref.WeakSet()

    def use() -> None:
        engine = instrument_sqlalchemy(create_engine("sqlite://"), registry=registry)
        alive.add(engine)
        with engine.connect() as connection:
            connection.exec_driver_sql("select 1")
        engine.dispose()

    def objects_after(times: int) -> int:
        for _ in range(times):
            use()
        gc.collect()
        return len(gc.get_objects())

    before = objects_after(20)
    grown = objects_after(500) - before

    assert len(alive) == 0
    assert grown < 500  # some tables of SQLAlchemy's are tidied up now and then


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("slow_seconds", -1),
        ("slow_seconds", True),
        ("slow_seconds", "1"),
        ("slow_seconds", float("nan")),
        ("slow_seconds", float("inf")),
        ("max_repeats", -1),
        ("max_repeats", True),
        ("max_repeats", 1.5),
        ("enable_commenter", 1),
        ("tracer_provider", object()),
        ("settings", {}),
    ],
)
def test_a_wrong_option_is_said_and_nothing_is_done(
    engine: Engine, registry: CollectorRegistry, option: str, value: Any
) -> None:
    options: dict[str, Any] = {"registry": registry, option: value}
    with pytest.raises(ConfigurationError, match=f"^{option}=.* is not valid: expected "):
        instrument_sqlalchemy(engine, **options)

    ask(engine)
    assert count(registry) is None


@pytest.mark.parametrize("function", [instrument_sqlalchemy, uninstrument_sqlalchemy])
def test_what_is_no_engine_is_said(function: Callable[[Any], Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"^engine='sqlite://' is not valid: expected an engine"):
        function("sqlite://")


@pytest.mark.parametrize("name", ["db_queries_total", "db_pool_size"])
def test_metrics_of_another_library_are_said_and_nothing_is_done(
    engine: Engine, registry: CollectorRegistry, name: str
) -> None:
    Counter(name, "Somebody else's.", registry=registry)
    before = listeners(engine)

    with pytest.raises(ConfigurationError):
        instrument_sqlalchemy(engine, registry=registry)

    assert listeners(engine) == before
    instrument_sqlalchemy(engine, registry=CollectorRegistry())
    assert listeners(engine) != before


@pytest.mark.parametrize("missing", ["sqlalchemy", "sqlglot"])
def test_a_library_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    name = integration.__name__
    for module in [module for module in sys.modules if module.startswith(name)]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(MissingExtraError, match=r"pip install 'asgi-obs\[sqlalchemy\]'"):
        importlib.import_module(name)


def test_the_loggers_stay_as_they_were(engine: Engine, registry: CollectorRegistry) -> None:
    level = logging.getLogger("sqlalchemy.engine").level
    instrument_sqlalchemy(engine, registry=registry)

    assert logging.getLogger("sqlalchemy.engine").level == level
    assert not engine.echo
