from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy
from opentelemetry import trace
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import create_async_engine

from asgi_obs.errors import ConfigurationError, MissingExtraError
from asgi_obs.tracing.databases import trace_engine, trace_single_engine, traceable_engine


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    yield exporter
    if SQLAlchemyInstrumentor().is_instrumented_by_opentelemetry:
        SQLAlchemyInstrumentor().uninstrument()
    EngineTracer.remove_all_event_listeners()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://")
    yield engine
    engine.dispose()


def statements(exporter: InMemorySpanExporter) -> list[Any]:
    return [span.attributes["db.statement"] for span in exporter.get_finished_spans() if span.name != "connect"]


def ask(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("select 1"))


def test_a_statement_has_one_span_however_often_it_is_asked_for(
    provider: TracerProvider, exporter: InMemorySpanExporter, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    trace_engine(engine, provider)
    trace_engine(engine, provider)
    ask(engine)

    assert statements(exporter) == ["select 1"]
    assert caplog.records == []


def test_a_second_engine_is_traced_too_whenever_it_was_made(
    provider: TracerProvider, exporter: InMemorySpanExporter, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    before = create_engine("sqlite://")
    trace_engine(engine, provider)
    trace_engine(before, provider)
    after = sqlalchemy.create_engine("sqlite://")
    trace_engine(after, provider)
    for each in (before, after):
        ask(each)
        each.dispose()

    assert statements(exporter) == ["select 1", "select 1"]
    assert caplog.records == []


def test_a_single_engine_is_traced_alone(
    provider: TracerProvider, exporter: InMemorySpanExporter, engine: Engine
) -> None:
    trace_single_engine(engine, provider)
    trace_single_engine(engine, provider)
    after = sqlalchemy.create_engine("sqlite://")
    ask(engine)
    ask(after)
    after.dispose()

    assert [span.name for span in exporter.get_finished_spans()] == ["select"]


def test_an_engine_that_is_traced_already_stays_so(
    provider: TracerProvider, exporter: InMemorySpanExporter, engine: Engine
) -> None:
    trace_engine(engine, provider)
    take_back = trace_single_engine(engine, provider)
    take_back()
    ask(engine)

    assert statements(exporter) == ["select 1"]


def test_an_engine_with_other_options_shares_the_spans_of_its_root(
    provider: TracerProvider, exporter: InMemorySpanExporter, engine: Engine
) -> None:
    trace_engine(traceable_engine(engine.execution_options(a=1).execution_options(b=2)), provider)
    trace_engine(traceable_engine(engine), provider)
    ask(engine.execution_options(c=3))

    assert statements(exporter) == ["select 1"]


def test_what_was_put_in_place_can_be_taken_back(
    provider: TracerProvider, exporter: InMemorySpanExporter, engine: Engine
) -> None:
    other = create_engine("sqlite://")
    take_back = trace_single_engine(engine, provider)
    trace_single_engine(other, provider)
    ask(engine)
    engine.dispose()
    take_back()
    take_back()
    for each in (engine, other):
        ask(each)
        each.dispose()

    assert statements(exporter) == ["select 1", "select 1"]
    assert [list(getattr(engine.dispatch, name)) for name in ("before_cursor_execute", "after_cursor_execute")] == [
        [],
        [],
    ]
    assert [list(getattr(engine.pool.dispatch, name)) for name in ("checkout", "checkin", "close")] == [[], [], []]


def test_statements_go_without_a_comment_where_none_is_wanted(
    provider: TracerProvider, exporter: InMemorySpanExporter, engine: Engine
) -> None:
    executed: list[str] = []
    trace_single_engine(engine, provider, enable_commenter=False)
    event.listen(engine, "before_cursor_execute", lambda *arguments: executed.append(arguments[2]))

    ask(engine)

    assert executed == statements(exporter) == ["select 1"]


@pytest.mark.parametrize("made", ["before", "after"])
def test_options_hold_for_who_traces_an_engine_already_until_they_are_taken_back(
    provider: TracerProvider, exporter: InMemorySpanExporter, engine: Engine, made: str
) -> None:
    trace_engine(engine, provider)
    traced = engine if made == "before" else sqlalchemy.create_engine("sqlite://")
    executed: list[str] = []
    own = InMemorySpanExporter()
    own_provider = TracerProvider(shutdown_on_exit=False)
    own_provider.add_span_processor(SimpleSpanProcessor(own))
    take_back = trace_single_engine(traced, own_provider, enable_commenter=False)
    event.listen(traced, "before_cursor_execute", lambda *arguments: executed.append(arguments[2]))
    ask(traced)
    assert (executed, statements(exporter), statements(own)) == (["select 1"], [], ["select 1"])

    take_back()
    ask(traced)
    traced.dispose()
    assert (len(executed), statements(exporter), statements(own)) == (2, ["select 1"], ["select 1"])
    assert executed[1].startswith("select 1 /*")


def test_comments_that_somebody_has_left_off_stay_off(
    provider: TracerProvider, exporter: InMemorySpanExporter, engine: Engine
) -> None:
    executed: list[str] = []
    trace_single_engine(engine, provider, enable_commenter=False)
    trace_single_engine(engine, None)
    event.listen(engine, "before_cursor_execute", lambda *arguments: executed.append(arguments[2]))
    ask(engine)

    assert executed == statements(exporter) == ["select 1"]


@pytest.mark.parametrize("taken_back", [False, True])
def test_comments_stay_off_for_who_comes_later(
    provider: TracerProvider, exporter: InMemorySpanExporter, engine: Engine, taken_back: bool
) -> None:
    executed: list[str] = []
    take_back = trace_single_engine(engine, trace.NoOpTracerProvider(), enable_commenter=False)
    if taken_back:
        take_back()
    trace_engine(engine, provider)
    event.listen(engine, "before_cursor_execute", lambda *arguments: executed.append(arguments[2]))
    ask(engine)

    assert statements(exporter) == ["select 1"]
    assert (executed[0] == "select 1") is not taken_back


def test_the_database_is_told_the_trace_in_a_comment(
    provider: TracerProvider, exporter: InMemorySpanExporter, engine: Engine
) -> None:
    executed: list[str] = []
    trace_engine(create_engine("sqlite://"), provider)
    trace_engine(engine, provider)
    event.listen(engine, "before_cursor_execute", lambda *arguments: executed.append(arguments[2]))

    ask(engine)

    (span,) = [span for span in exporter.get_finished_spans() if span.name != "connect"]
    assert executed[0].startswith("select 1 /*")
    assert f"{span.context.trace_id:032x}-{span.context.span_id:016x}" in executed[0]


def test_an_async_engine_is_traced(provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    engine = create_async_engine("sqlite+aiosqlite://")

    async def ask_it() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("select 1"))
        await engine.dispose()

    trace_engine(traceable_engine(engine), provider)
    asyncio.run(ask_it())

    assert statements(exporter) == ["select 1"]


def test_what_is_no_engine_is_said() -> None:
    with pytest.raises(ConfigurationError, match=r"db_engine='sqlite://' is not valid: expected an engine"):
        traceable_engine("sqlite://")


def test_an_instrumentation_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.sqlalchemy", None)

    with pytest.raises(MissingExtraError, match=r"asgi-obs\[otel,sqlalchemy\]"):
        traceable_engine(engine)
