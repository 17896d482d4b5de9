from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import create_async_engine

from asgi_obs.errors import ConfigurationError, MissingExtraError
from asgi_obs.tracing.databases import trace_engine, traceable_engine


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    yield exporter
    SQLAlchemyInstrumentor().uninstrument()


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
    import sqlalchemy

    after = sqlalchemy.create_engine("sqlite://")
    trace_engine(after, provider)
    for each in (before, after):
        ask(each)
        each.dispose()

    assert statements(exporter) == ["select 1", "select 1"]
    assert caplog.records == []


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
