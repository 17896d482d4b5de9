from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once
from prometheus_client import CollectorRegistry
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import StaticPool

from asgi_obs.exchange import ExchangeMiddleware
from asgi_obs.integrations.sqlalchemy import instrument_sqlalchemy, uninstrument_sqlalchemy
from asgi_obs.testing import drive, http_scope
from asgi_obs.tracing import setup as tracing_setup
from asgi_obs.tracing import setup_tracing


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    if SQLAlchemyInstrumentor().is_instrumented_by_opentelemetry:
        SQLAlchemyInstrumentor().uninstrument()
    EngineTracer.remove_all_event_listeners()


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry as it is before anybody has set anything up."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(tracing_setup._InForce, "provider", None)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    yield engine
    engine.dispose()


@pytest.fixture
def executed(engine: Engine) -> list[str]:
    """The statements as the driver gets them."""
    statements: list[str] = []
    event.listen(engine, "do_execute", lambda _cursor, statement, *_: statements.append(statement))
    return statements


def instrument(engine: Any, **options: Any) -> Any:
    return instrument_sqlalchemy(engine, registry=CollectorRegistry(), **options)


def ask(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("select 1"))


def names(exporter: InMemorySpanExporter) -> list[str]:
    return [span.name for span in exporter.get_finished_spans() if span.name != "connect"]


def test_a_statement_has_a_span_where_a_provider_is_given(
    engine: Engine, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    ask(instrument(engine, tracer_provider=provider))

    assert names(exporter) == ["select"]


def test_a_statement_has_a_span_where_the_global_provider_is_set(
    engine: Engine, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    trace.set_tracer_provider(provider)
    ask(instrument(engine))

    assert names(exporter) == ["select"]


@pytest.mark.parametrize("disabled", [False, True])
def test_an_engine_is_not_traced_where_tracing_is_not_set_up(
    engine: Engine, provider: TracerProvider, exporter: InMemorySpanExporter, disabled: bool
) -> None:
    instrument(engine, tracer_provider=trace.NoOpTracerProvider() if disabled else None)
    trace.set_tracer_provider(provider)
    ask(engine)

    assert names(exporter) == []
    assert list(engine.dispatch.before_cursor_execute) == []


@pytest.mark.parametrize("instrumented_first", [False, True])
@pytest.mark.parametrize("with_options", [False, True])
def test_a_statement_has_one_span_in_whichever_order_it_is_asked_for(
    engine: Engine,
    provider: TracerProvider,
    exporter: InMemorySpanExporter,
    instrumented_first: bool,
    with_options: bool,
) -> None:
    trace.set_tracer_provider(provider)
    given = engine.execution_options(a=1) if with_options else engine
    if instrumented_first:
        instrument(engine)
    setup_tracing(db_engine=given)
    instrument(given)
    ask(engine)
    ask(given)

    assert names(exporter) == ["select", "select"]


@pytest.mark.anyio
async def test_an_async_engine_is_traced(provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    engine = instrument(create_async_engine("sqlite+aiosqlite://"), tracer_provider=provider)
    async with engine.connect() as connection:
        await connection.execute(text("select 1"))
    await engine.dispose()

    assert names(exporter) == ["select"]


def test_spans_are_taken_back_with_the_rest(
    engine: Engine, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    instrument(engine, tracer_provider=provider)
    uninstrument_sqlalchemy(engine)
    ask(engine)

    assert names(exporter) == []


def test_spans_of_somebody_else_stay(engine: Engine, provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    trace.set_tracer_provider(provider)
    setup_tracing(db_engine=engine)
    instrument(engine)
    uninstrument_sqlalchemy(engine)
    ask(engine)

    assert names(exporter) == ["select"]


@pytest.mark.parametrize("enable_commenter", [False, True])
def test_a_comment_names_the_trace_to_the_database_if_it_is_wanted(
    engine: Engine,
    executed: list[str],
    provider: TracerProvider,
    exporter: InMemorySpanExporter,
    enable_commenter: bool,
) -> None:
    ask(instrument(engine, tracer_provider=provider, enable_commenter=enable_commenter))

    (span,) = exporter.get_finished_spans()
    assert (f"{span.context.trace_id:032x}" in executed[0]) is enable_commenter
    assert span.attributes is not None
    assert span.attributes["db.statement"] == "select 1"


@pytest.mark.parametrize("traced_first", [False, True])
def test_comments_are_off_whoever_traces_the_engine(
    engine: Engine, executed: list[str], provider: TracerProvider, exporter: InMemorySpanExporter, traced_first: bool
) -> None:
    if traced_first:
        trace.set_tracer_provider(provider)
        setup_tracing(db_engine=engine)
    instrument(engine, enable_commenter=False)
    if not traced_first:
        trace.set_tracer_provider(provider)
        setup_tracing(db_engine=engine)
    ask(engine)
    uninstrument_sqlalchemy(engine)
    ask(engine)

    assert names(exporter) == ["select", "select"]
    assert (executed[0], executed[1].startswith("select 1 /*")) == ("select 1", traced_first)


@pytest.mark.anyio
@pytest.mark.parametrize("traced_first", [False, True])
async def test_a_comment_makes_no_other_statement(
    engine: Engine, executed: list[str], provider: TracerProvider, traced_first: bool, written: Any
) -> None:
    if traced_first:
        trace.set_tracer_provider(provider)
        setup_tracing(db_engine=engine)
    instrument(engine, tracer_provider=provider, max_repeats=2, slow_seconds=1e-9)

    async def app(*_: Any) -> None:
        for _number in range(3):
            ask(engine)

    await drive(ExchangeMiddleware(app), http_scope("/x"))

    assert len(set(executed)) == 3
    assert {line["statement"] for line in written.lines if "statement" in line} == {"select ?"}
    assert [line["times"] for line in written.lines if "times" in line] == [3]


def test_without_the_instrumentation_nothing_is_said_where_tracing_is_not_set_up(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.sqlalchemy.engine", None)
    caplog.set_level(logging.INFO, "asgi_obs")
    instrument(engine)

    assert caplog.messages == []


def test_without_the_instrumentation_it_is_said_and_all_else_works(
    engine: Engine, provider: TracerProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.sqlalchemy.engine", None)
    caplog.set_level(logging.INFO, "asgi_obs")
    registry = CollectorRegistry()
    ask(instrument_sqlalchemy(engine, registry=registry, tracer_provider=provider))
    uninstrument_sqlalchemy(engine)

    assert caplog.messages == ["Statements have no spans without opentelemetry-instrumentation-sqlalchemy"]
    labels = {"operation": "select", "table": "unknown"}
    assert registry.get_sample_value("db_queries_total", labels) == 1
