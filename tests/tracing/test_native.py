"""Frameworks that make spans themselves, told not to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from asgi_obs import Observability, Settings
from asgi_obs.testing import drive, http_scope
from asgi_obs.tracing.application import trace_requests
from asgi_obs.tracing.native import turn_off_tracing
from tests.tracing.spans import TRACE_ID, TRACEPARENT, Spans, attributes_of

pytestmark = pytest.mark.skipif(
    find_spec("fastapi.telemetry") is None, reason="this FastAPI has no telemetry of its own (0.165 has)"
)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """Those of the global provider, which FastAPI looks for."""
    spans = Spans()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", spans.provider)
    return spans


def install(app: FastAPI, settings: Settings) -> None:
    Observability(settings, registry=CollectorRegistry()).install(app)


def set_up(app: FastAPI, settings: Settings) -> None:
    trace_requests(app, trace.get_tracer_provider(), settings)


WAYS = pytest.mark.parametrize("way", [install, set_up], ids=lambda way: way.__name__)
Way = Callable[[FastAPI, Settings], None]


def shop(**options: Any) -> FastAPI:
    app = FastAPI(**options)

    @app.get("/items/{item_id}")
    async def item(item_id: int) -> int:
        return item_id

    @app.get("/fails")
    async def fails() -> None:
        raise LookupError("none left")

    return app


def ask(app: Any, path: str = "/items/7", **more: Any) -> None:
    asyncio.run(drive(app, http_scope(path, headers=[TRACEPARENT], **more)))


@WAYS
def test_the_only_span_is_ours_with_our_rules(spans: Spans, way: Way) -> None:
    app = shop()
    way(app, Settings(trust_incoming=False, log_level="WARN"))

    ask(app, query_string=b"token=s3cret")

    [span] = spans()
    assert (span.name, span.kind, span.parent) == ("GET /items/{item_id}", SpanKind.SERVER, None)
    assert [f"{link.context.trace_id:032x}" for link in span.links] == [TRACE_ID]
    assert attributes_of(span)["url.query"] == "token=******"


@WAYS
def test_an_exception_is_on_it(spans: Spans, way: Way) -> None:
    app = shop()
    way(app, Settings(log_level="WARN"))

    with pytest.raises(LookupError):
        ask(app, "/fails")

    [span] = spans()
    assert (span.status.status_code, [event.name for event in span.events]) == (StatusCode.ERROR, ["exception"])


@WAYS
def test_a_request_to_an_excluded_url_has_none(spans: Spans, way: Way) -> None:
    app = shop()
    way(app, Settings(excluded_urls="/items/", log_level="WARN"))

    ask(app)

    assert spans() == []


def test_a_request_to_an_excluded_url_has_none_in_an_application_that_is_wrapped(spans: Spans) -> None:
    settings = Settings(excluded_urls="/items/", log_level="WARN")

    ask(Observability(settings, registry=CollectorRegistry()).wrap(shop()))

    assert spans() == []


@WAYS
def test_one_that_was_given_a_provider_of_its_own_keeps_its_spans(spans: Spans, way: Way) -> None:
    theirs = Spans()
    app = shop(telemetry={"tracer_provider": theirs.provider, "operation_spans": False})
    way(app, Settings(log_level="WARN"))

    ask(app)

    assert [span.name for span in theirs()] == ["GET /items/{item_id}"]
    assert spans() == []


def test_its_metrics_and_logs_stay() -> None:
    app: Any = FastAPI()
    before = dict(app._telemetry)
    turn_off_tracing(app)

    assert app._telemetry == {**before, "tracing": False}


@pytest.mark.parametrize("telemetry", [None, {}, "on"])
def test_what_is_not_known_is_left_alone(telemetry: object) -> None:
    app: Any = Starlette()
    app._telemetry = telemetry
    turn_off_tracing(app)

    assert app._telemetry == telemetry
