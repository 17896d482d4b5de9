from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.util._once import Once
from prometheus_client import REGISTRY
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool
from starlette.applications import Starlette
from starlette.testclient import TestClient

from asgi_obs.errors import ConfigurationError, MissingExtraError, SettingsError
from asgi_obs.metrics.catalogue import process_wide
from asgi_obs.settings import Settings
from asgi_obs.tracing import setup as module
from asgi_obs.tracing.setup import setup_tracing
from tests.tracing.receivers import VARIABLES, GrpcReceiver, HttpReceiver, free_port

NOWHERE = Settings(service_name="shop", version="1.2.3", environment="testing", otlp_endpoint="127.0.0.1:1")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """OpenTelemetry as it is before anybody has set anything up."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(module._InForce, "provider", None)
    monkeypatch.setattr(module._InForce, "relevant", ())
    yield
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()
    if SQLAlchemyInstrumentor().is_instrumented_by_opentelemetry:
        SQLAlchemyInstrumentor().uninstrument()


def provider_of(tracer: trace.Tracer) -> TracerProvider:
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    assert tracer is provider.get_tracer("shop")
    return provider


def processors() -> tuple[Any, ...]:
    provider: Any = trace.get_tracer_provider()
    processors: tuple[Any, ...] = provider._active_span_processor._span_processors
    return processors


@pytest.mark.parametrize(
    ("protocol", "receiver_class"), [("", GrpcReceiver), ("grpc", GrpcReceiver), ("http/protobuf", HttpReceiver)]
)
def test_a_span_arrives_as_it_was_recorded(
    monkeypatch: pytest.MonkeyPatch, protocol: str, receiver_class: type
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    with receiver_class(free_port()) as receiver:
        settings = Settings(
            service_name="shop", version="1.2.3", environment="testing", otlp_endpoint=receiver.endpoint
        )
        tracer = setup_tracing(settings=settings)
        with tracer.start_as_current_span("outer", kind=trace.SpanKind.SERVER) as outer:
            outer.set_attribute("a.text", "ü")
            outer.set_attribute("a.number", 7)
            with tracer.start_as_current_span("inner", kind=trace.SpanKind.CLIENT) as inner:
                inner.set_status(trace.StatusCode.ERROR)
        assert provider_of(tracer).force_flush()

        recorded = {
            span.name: (
                span.kind.value + 1,  # on the wire 0 is "unspecified"
                f"{span.context.trace_id:032x}",
                f"{span.context.span_id:016x}",
                f"{span.parent.span_id:016x}" if span.parent else "",
                span.status.status_code.value,
                dict(span.attributes),
                dict(span.resource.attributes),
                "shop",
            )
            for span in (outer, inner)
        }
        received = {
            span.name: (
                span.kind,
                span.trace_id,
                span.span_id,
                span.parent_id,
                span.status,
                span.attributes,
                span.resource,
                span.scope,
            )
            for span in receiver.inbox.spans
        }
    assert received == recorded
    assert recorded["inner"][3] == recorded["outer"][2]


def test_the_resource_is_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    attributes = provider_of(setup_tracing(settings=NOWHERE)).resource.attributes

    expected = {"service.name": "shop", "service.version": "1.2.3", "deployment.environment.name": "testing"}
    assert expected.items() <= attributes.items()
    assert attributes["telemetry.sdk.name"] == "opentelemetry"


def test_what_opentelemetry_is_told_of_the_service_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "cart")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=9,deployment.environment.name=canary,team=a")

    attributes = provider_of(setup_tracing(settings=NOWHERE)).resource.attributes

    expected = {"service.name": "cart", "service.version": "9", "deployment.environment.name": "canary", "team": "a"}
    assert expected.items() <= attributes.items()


def test_a_service_that_is_not_named_is_named_by_opentelemetry() -> None:
    setup_tracing(settings=Settings(service_name="unknown_service", version="unknown", environment="testing"))

    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    assert str(provider.resource.attributes["service.name"]).startswith("unknown_service:")
    assert "service.version" not in provider.resource.attributes


def test_a_second_call_adds_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    app = Starlette()
    first = setup_tracing(app, settings=NOWHERE)
    second = setup_tracing(app, settings=NOWHERE)

    assert second is first
    assert len(processors()) == 1
    assert len(app.user_middleware) == 1
    assert caplog.messages == []


def test_a_second_call_with_other_settings_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    setup_tracing(settings=NOWHERE)
    setup_tracing(settings=Settings(service_name="cart", otlp_endpoint="127.0.0.1:2"))

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "WARNING",
            "setup_tracing was called before; what it was told then of SERVICE_NAME, VERSION, ENVIRONMENT, "
            "OTLP_ENDPOINT, OTLP_INSECURE stays in force",
        )
    ]
    assert len(processors()) == 1


def test_a_provider_that_somebody_else_has_set_is_used_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    theirs = TracerProvider(shutdown_on_exit=False)
    trace.set_tracer_provider(theirs)

    tracer = setup_tracing(settings=NOWHERE)
    setup_tracing(settings=NOWHERE)

    assert provider_of(tracer) is theirs
    assert processors() == ()
    assert caplog.messages == ["A tracer provider is set already, and is used as it is: TracerProvider"]


def test_no_exporter_but_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")

    tracer = setup_tracing(settings=NOWHERE)

    assert processors() == ()
    assert tracer.start_span("a").is_recording()


def test_spans_go_to_more_than_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp,console")
    with GrpcReceiver(free_port()) as receiver:
        tracer = setup_tracing(settings=Settings(service_name="shop", otlp_endpoint=receiver.endpoint))
        tracer.start_span("twice").end()
        assert provider_of(tracer).force_flush()

    assert [span.name for span in receiver.inbox.spans] == ["twice"]
    assert [processor.ledger.exported for processor in processors()] == [1, 1]


def test_what_is_lost_is_to_be_scraped_without_anything_else() -> None:
    with suppress(KeyError):  # as in a process where nobody has asked for it
        REGISTRY.unregister(process_wide("trace_spans_dropped_total"))

    setup_tracing(settings=NOWHERE)

    assert REGISTRY.get_sample_value("trace_spans_dropped_total") is not None


def test_an_sdk_that_is_disabled_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    app = Starlette()

    tracer = setup_tracing(app, create_engine("sqlite://"), settings=NOWHERE)

    assert not tracer.start_span("a").is_recording()
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    assert not SQLAlchemyInstrumentor().is_instrumented_by_opentelemetry
    with TestClient(app) as client:
        assert client.get("/").status_code == 404


def test_requests_and_statements_have_spans() -> None:
    engine = create_engine("sqlite://", poolclass=NullPool)

    async def ask(request: Any) -> None:
        with engine.connect() as connection:
            connection.execute(text("select 1"))
        raise LookupError

    app = Starlette()
    app.add_route("/ask", ask)
    with GrpcReceiver(free_port()) as receiver:
        setup_tracing(app, engine, settings=Settings(service_name="shop", otlp_endpoint=receiver.endpoint))
        with TestClient(app, raise_server_exceptions=False) as client:
            assert client.get("/ask").status_code == 500

        received = receiver.inbox.wait_for(3)
    (request,) = [span for span in received if span.name == "GET /ask"]
    assert {span.parent_id for span in received} == {"", request.span_id}
    assert sorted(span.name for span in received) == ["GET /ask", "connect", "select"]


@pytest.mark.parametrize(
    ("arguments", "option"),
    [({"app": object()}, "app"), ({"db_engine": "sqlite://"}, "db_engine")],
)
def test_a_wrong_argument_is_said_and_nothing_is_changed(arguments: dict[str, Any], option: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{option}="):
        setup_tracing(**arguments, settings=NOWHERE)

    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def test_a_wrong_variable_is_said_and_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTLP_ENDPOINT", "nowhere at all")

    with pytest.raises(SettingsError, match="OTLP_ENDPOINT='nowhere at all'"):
        setup_tracing()

    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def test_an_sdk_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with pytest.raises(MissingExtraError, match=r"setup_tracing needs .* 'asgi-obs\[otel\]'"):
        setup_tracing(settings=NOWHERE)


@pytest.mark.parametrize("name", ["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT"])
def test_a_limit_that_is_wrong_is_said_before_the_sdk_stumbles_over_it(name: str) -> None:
    program = "from asgi_obs import setup_tracing; setup_tracing()"
    environment = {"PATH": os.environ["PATH"], name: "abc"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)

    last = done.stderr.splitlines()[-1]
    said = f"{name}='abc' is not valid: expected a whole number from 0 on, or unset"
    assert last == f"asgi_obs.errors.SettingsError: {said}"


def test_an_import_loads_neither_the_sdk_nor_an_exporter() -> None:
    program = "import asgi_obs.tracing.setup, sys; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    heavy = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.instrumentation", "sqlalchemy", "grpc")
    assert [name for name in done.stdout.split() if name.startswith(heavy)] == []
