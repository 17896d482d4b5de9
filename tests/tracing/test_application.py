from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from asgi_obs import Observability, RequestLoggingMiddleware, Settings, TracingMiddleware
from asgi_obs.errors import ConfigurationError
from asgi_obs.tracing.application import require_traceable, trace_requests


class Provider(TracerProvider):
    """Keeps its spans, and notes when it is flushed."""

    def __init__(self) -> None:
        super().__init__(shutdown_on_exit=False)
        self._exporter = InMemorySpanExporter()
        self.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.flushed = 0

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        self.flushed += 1
        return True

    @property
    def names(self) -> list[str]:
        return [span.name for span in self._exporter.get_finished_spans()]


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


@pytest.fixture
def app() -> Starlette:
    return Starlette(routes=[Route("/hello", hello)])


@pytest.fixture
def provider() -> Provider:
    return Provider()


def install(app: Starlette, provider: Provider, settings: Settings) -> None:
    Observability(settings, registry=CollectorRegistry(), tracer_provider=provider).install(app)


def add(app: Starlette, provider: Provider, settings: Settings) -> None:
    app.add_middleware(TracingMiddleware, tracer_provider=provider, settings=settings)


def log(app: Starlette, provider: Provider, settings: Settings) -> None:
    app.add_middleware(RequestLoggingMiddleware, settings=settings)


Step = Callable[[Starlette, Provider, Settings], None]


@pytest.mark.parametrize(
    "steps",
    [
        [trace_requests],
        [trace_requests, trace_requests],
        [trace_requests, install],
        [install, trace_requests],
        [trace_requests, add],
        [add, trace_requests],
        [trace_requests, log],
        [log, trace_requests],
    ],
    ids=lambda steps: " then ".join(step.__name__ for step in steps),
)
def test_a_request_has_one_span_whoever_else_observes_it(
    app: Starlette, provider: Provider, caplog: pytest.LogCaptureFixture, steps: list[Callable[..., None]]
) -> None:
    caplog.set_level(logging.WARNING)
    settings = Settings(service_name="shop")
    for step in steps:
        if step is trace_requests:
            trace_requests(app, provider, settings)
        else:
            step(app, provider, settings)

    with TestClient(app) as client:
        assert client.get("/hello").text == "hello"

    assert provider.names == ["GET /hello"]
    assert caplog.messages == []


def test_the_spans_are_flushed_when_the_lifespan_ends(app: Starlette, provider: Provider) -> None:
    trace_requests(app, provider, Settings(service_name="shop"))

    for times in (1, 2):
        with TestClient(app):
            assert provider.flushed == times - 1
        assert provider.flushed == times


def test_an_application_that_has_started_is_taken_only_if_it_is_traced_already(
    app: Starlette, provider: Provider
) -> None:
    with TestClient(app):
        pass
    with pytest.raises(ConfigurationError, match="an application that has not started"):
        require_traceable(app)

    traced = FastAPI()
    trace_requests(traced, provider, Settings(service_name="shop"))
    with TestClient(traced):
        pass
    assert require_traceable(traced) is traced


def test_an_application_of_another_kind_is_told_what_to_do_instead() -> None:
    with pytest.raises(ConfigurationError, match=r"TracingMiddleware\(app\) takes any"):
        require_traceable(hello)
