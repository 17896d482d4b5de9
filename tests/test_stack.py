from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from asgi_obs import (
    HealthRegistry,
    Observability,
    Settings,
    StructuredLogFormatter,
    current_exchange,
    get_correlation_id,
    observe,
)
from asgi_obs.errors import ConfigurationError
from asgi_obs.testing import drive, http_scope
from asgi_obs.types import ASGIApp, Message, Receive, Scope, Send


async def hello(request: Request) -> Response:
    return PlainTextResponse(get_correlation_id() or "no ID")


async def fails(request: Request) -> Response:
    raise ValueError("it broke")


def starlette() -> Starlette:
    return Starlette(routes=[Route("/hello/{name}", hello), Route("/fails", fails)])


def get(app: ASGIApp, *paths: str, **options: Any) -> list[httpx.Response]:
    async def main() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return [await client.get(path, **options) for path in paths]

    return asyncio.run(main())


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(StructuredLogFormatter("stack"))
    logger = logging.getLogger("asgi_obs")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_wrap_answers_the_ops_paths_and_passes_on_the_rest(registry: CollectorRegistry) -> None:
    app = Observability(registry=registry).wrap(starlette())

    metrics, health, ready, live, hello = get(app, "/metrics", "/health", "/health/ready", "/health/live", "/hello/bob")

    assert "process_memory_usage_bytes" in metrics.text
    assert health.json()["status"] == "healthy"
    assert (ready.json(), live.json()) == ({"status": "ready"}, {"status": "alive"})
    assert hello.text == hello.headers["x-correlation-id"]


def test_every_response_carries_the_correlation_id(registry: CollectorRegistry) -> None:
    app = Observability(registry=registry).wrap(starlette())
    headers = {"X-Correlation-ID": "from-the-caller"}

    responses = get(app, "/hello/bob", "/fails", "/nowhere", "/hello/bob/", "/health/live", headers=headers)

    assert [response.status_code for response in responses] == [200, 500, 404, 307, 200]
    assert {response.headers["x-correlation-id"] for response in responses} == {"from-the-caller"}


def test_install_returns_the_same_application_with_the_stack_around_its_error_handling(
    registry: CollectorRegistry,
) -> None:
    app = FastAPI()
    app.add_api_route("/fails", fails)

    assert Observability(registry=registry).install(app) is app

    [response] = get(app, "/fails")
    assert response.status_code == 500
    assert "x-correlation-id" in response.headers
    labels = {"method": "GET", "endpoint": "/fails", "exception": "ValueError"}
    assert registry.get_sample_value("http_exceptions_total", labels) == 1


def test_install_after_the_first_request_takes_effect(registry: CollectorRegistry) -> None:
    app = starlette()
    get(app, "/hello/bob")

    Observability(registry=registry).install(app)

    [response] = get(app, "/hello/bob")
    assert response.text == response.headers["x-correlation-id"]


def test_middlewares_added_after_install_go_inside(registry: CollectorRegistry) -> None:
    class Refuses:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await PlainTextResponse("no", 401)(scope, receive, send)

    app = Observability(registry=registry).install(starlette())
    app.add_middleware(Refuses)

    [response] = get(app, "/hello/bob")

    assert response.status_code == 401
    assert "x-correlation-id" in response.headers


def test_install_refuses_what_it_has_no_place_in(registry: CollectorRegistry) -> None:
    with pytest.raises(ConfigurationError, match=r"wrap\(\) takes any ASGI app"):
        Observability(registry=registry).install(hello)


def test_observing_twice_counts_once(registry: CollectorRegistry) -> None:
    app = observe(observe(starlette(), registry=registry), registry=registry)

    [response] = get(app, "/hello/bob")

    assert len(response.headers.get_list("x-correlation-id")) == 1
    labels = {"method": "GET", "endpoint": "/hello/{name}", "status_code": "200"}
    assert registry.get_sample_value("http_requests_total", labels) == 1


def test_hundreds_of_stacks_fit_in_one_process(registry: CollectorRegistry) -> None:
    apps = [observe(starlette(), registry=registry) for _ in range(300)]

    [response] = get(apps[-1], "/hello/bob")

    assert response.status_code == 200


def test_its_parts_are_those_that_were_given(registry: CollectorRegistry) -> None:
    settings = Settings(service_name="shop", version="1.2.3")
    health = HealthRegistry()

    obs = Observability(settings, registry=registry, health=health)

    assert (obs.settings, obs.registry, obs.health) == (settings, registry, health)
    assert obs.ops.match("/health") is not None
    info = {"name": "shop", "version": "1.2.3", "environment": settings.environment}
    assert registry.get_sample_value("service_info", info) == 1


def test_a_route_resolver_names_the_routes_of_an_unknown_framework(registry: CollectorRegistry) -> None:
    app = observe(PlainTextResponse("hello"), registry=registry, route_resolver=lambda scope: "/any")

    get(app, "/some/path")

    labels = {"method": "GET", "endpoint": "/any", "status_code": "200"}
    assert registry.get_sample_value("http_requests_total", labels) == 1


def test_ops_paths_are_not_logged_but_what_they_find_is(registry: CollectorRegistry, lines: io.StringIO) -> None:
    obs = Observability(registry=registry)
    obs.health.add("database", lambda: False)

    get(obs.wrap(starlette()), "/health/live", "/metrics", "/health/ready")

    logged = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [(line["component"], line["level"], line["message"]) for line in logged] == [
        ("asgi_obs", "WARN", "health check database is unhealthy, was healthy: check failed"),
        ("asgi_obs", "WARN", "readiness is not_ready, was ready: unhealthy: database"),
    ]


def test_ops_paths_move_no_request_metrics(registry: CollectorRegistry) -> None:
    get(observe(starlette(), registry=registry), "/health/live", "/metrics")

    families = {family.name: family.samples for family in registry.collect()}
    assert families["http_requests"] == []
    assert registry.get_sample_value("http_requests_active") == 0


def test_the_line_of_a_failure_that_the_server_logs_has_the_correlation_id(
    registry: CollectorRegistry, lines: io.StringIO
) -> None:
    async def server() -> None:
        try:
            await drive(
                observe(starlette(), registry=registry), http_scope("/fails", headers=[(b"x-correlation-id", b"abc")])
            )
        except ValueError:
            logging.getLogger("asgi_obs.server").exception("Exception in ASGI application")

    asyncio.run(server())

    line = json.loads(lines.getvalue().splitlines()[-1])
    assert (line["message"], line["correlation_id"]) == ("Exception in ASGI application", "abc")


def test_an_applications_logging_is_left_alone(registry: CollectorRegistry) -> None:
    root = logging.getLogger()
    before = (root.level, root.handlers[:], logging.getLogger("asgi_obs").handlers[:])

    observe(starlette(), registry=registry)

    assert (root.level, root.handlers, logging.getLogger("asgi_obs").handlers) == before


def test_interleaved_requests_never_mix(registry: CollectorRegistry, lines: io.StringIO) -> None:
    arrived: list[str] = []

    async def main() -> None:
        everybody = asyncio.Event()

        async def handler(request: Request) -> Response:
            arrived.append(request.path_params["name"])
            if len(arrived) == 10:
                everybody.set()
            await everybody.wait()
            exchange = current_exchange()
            assert exchange is not None
            exchange.bind(name=request.path_params["name"])
            return PlainTextResponse(get_correlation_id())

        app = observe(Starlette(routes=[Route("/{name}", handler)]), registry=registry)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            responses = await asyncio.gather(
                *(client.get(f"/{name}", headers={"x-correlation-id": f"id-{name}"}) for name in range(10))
            )
        assert [response.text for response in responses] == [f"id-{name}" for name in range(10)]

    asyncio.run(main())

    ends = [json.loads(line) for line in lines.getvalue().splitlines() if '"status_code":200' in line]
    assert len(ends) == 10
    assert all(f"id-{line['context']['name']}" == line["correlation_id"] for line in ends)


KINDS = st.sampled_from(
    [
        "http.response.start",
        "http.response.body",
        "http.response.trailers",
        "http.response.early_hint",
        "http.response.zerocopysend",
        "websocket.accept",
        "made.up",
    ]
)
ODD = st.one_of(st.none(), st.integers(), st.binary(max_size=8), st.text(max_size=8), st.booleans())
HEADERS = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=5)
MESSAGES: st.SearchStrategy[Any] = st.one_of(
    ODD,
    st.dictionaries(st.sampled_from(["type", "status", "body", "more_body", "headers"]), ODD, max_size=4),
    st.fixed_dictionaries(
        {"type": KINDS},
        optional={
            "status": st.one_of(st.integers(100, 599), ODD),
            "headers": st.one_of(HEADERS, ODD),
            "body": st.one_of(st.binary(max_size=50), ODD),
            "more_body": st.one_of(st.booleans(), ODD),
            "trailers": st.booleans(),
        },
    ),
)
ENDS = st.sampled_from([None, ValueError("broken"), OSError("gone"), KeyboardInterrupt()])


class Refused(Exception):
    """What the strict server below raises."""


async def strictly(app: ASGIApp, scope: Scope) -> tuple[list[Any], Any]:
    """Run the application on a server that refuses what is illegal; what it got, and how it ended."""
    got: list[Any] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        try:
            expected = "http.response.body" if got else "http.response.start"
            legal = message["type"] == expected and (bool(got) or isinstance(message["status"], int))
        except Exception as error:
            raise Refused(type(error).__name__) from error
        if not legal:
            raise Refused(message["type"])
        got.append({key: value for key, value in message.items() if key != "headers"})

    try:
        return got, await app(scope, receive, send)
    except BaseException as error:  # the server sees them all
        return got, (type(error), str(error))


@given(st.lists(MESSAGES, max_size=6), ENDS, HEADERS, st.text(max_size=20), st.binary(max_size=20))
@example([None, {"type": "made.up"}, {"type": "http.response.body"}], None, [], "/", b"")
@example(
    [{"type": "http.response.start", "status": 200}, {"type": "http.response.body"}], OSError("gone"), [], "/", b""
)
def test_whatever_an_application_does_it_does_so_observed_and_every_log_line_is_json(
    messages: list[Any],
    end: BaseException | None,
    headers: list[tuple[bytes, bytes]],
    path: str,
    query: bytes,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> str:
        await receive()
        for message in messages:
            try:
                await send(message)
            except Refused:
                continue
        if end is not None:
            raise end
        return "returned"

    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(StructuredLogFormatter("property"))
    logger = logging.getLogger("asgi_obs")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    scope = http_scope(
        path, headers=[(name.lower(), value) for name, value in headers], query_string=query, raw_path=b"/"
    )
    try:
        bare = asyncio.run(strictly(app, dict(scope)))
        observed = asyncio.run(strictly(observe(app, registry=CollectorRegistry()), dict(scope)))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)

    assert observed == bare
    logged = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len([line for line in logged if "outcome" in line]) == 1


def test_the_settings_say_what_the_endpoint_of_an_unmatched_request_is(registry: CollectorRegistry) -> None:
    app = observe(starlette(), settings=Settings(metrics_unmatched="path"), registry=registry)
    get(app, "/nowhere")
    labels = {"method": "GET", "endpoint": "/nowhere", "status_code": "404"}
    assert registry.get_sample_value("http_requests_total", labels) == 1
