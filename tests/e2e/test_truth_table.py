"""The truth table: on a real server every label, duration, size and count is right, and all signals agree."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from time import perf_counter
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Host, Mount, Route, Router
from websockets.sync.client import connect

from tests.e2e.server import serve
from tests.e2e.witness import Witness

WAIT = 0.6
"""Seconds that the background task and the stream take."""


async def rest(seconds: float) -> None:
    """No less than that: uvloop counts from the beginning of its round, some milliseconds ago."""
    end = perf_counter() + seconds
    while (left := end - perf_counter()) > 0:  # noqa: ASYNC110 - it is time that is waited for
        await asyncio.sleep(left)


async def text(request: Request) -> Response:
    return PlainTextResponse("text")


async def chunks() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b"x" * 100
        await rest(WAIT / 3)


def build() -> FastAPI:
    things = APIRouter()

    @things.get("/things/{thing_id}")
    def thing(thing_id: int) -> int:
        return thing_id

    inner = APIRouter(prefix="/in")
    inner.include_router(things)
    outer = APIRouter(prefix="/out/{org}")
    outer.include_router(inner, prefix="/mid")

    child = FastAPI()
    child.include_router(inner)
    tenant = Starlette(
        routes=[Route("/items/{item_id:int}", text), Mount("/deep/{level}", routes=[Route("/{rest:path}", text)])]
    )

    app = FastAPI()
    app.include_router(outer, prefix="/v1")
    app.mount("/child", child)
    app.mount("/t/{tenant}", tenant)
    app.router.routes.append(Host("api.example", app=Router([Route("/hosted/{name}", text)])))

    @app.get("/plain/{word}")
    async def plain(word: str) -> Response:
        return PlainTextResponse(word)

    @app.get("/unsized")
    async def unsized() -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"12345"

        return StreamingResponse(body())

    @app.post("/upload")
    async def upload(request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    @app.get("/background")
    async def background(tasks: BackgroundTasks) -> Response:
        tasks.add_task(rest, WAIT)
        return PlainTextResponse("accepted", background=tasks)

    @app.get("/stream")
    async def stream() -> Response:
        return StreamingResponse(chunks())

    @app.get("/fails")
    async def fails() -> Response:
        raise LookupError("no such thing")

    @app.websocket("/echo/{room}")
    async def echo(socket: WebSocket, room: str) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close(4001)

    return app


@pytest.fixture
def seen() -> Iterator[Witness]:
    with Witness() as witness:
        yield witness


@pytest.fixture
def address(seen: Witness) -> Iterator[str]:
    with serve(seen.wrap(build())) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{address}", trust_env=False) as client:
        yield client


class Case(NamedTuple):
    method: str
    path: str
    status: int
    endpoint: str
    bytes_out: int
    host: str | None = None


NESTED = "/v1/out/{org}/mid/in/things/{thing_id}"

CASES = {
    "nested included routers": Case("GET", "/v1/out/acme/mid/in/things/7", 200, NESTED, 1),
    "mounted FastAPI": Case("GET", "/child/in/things/12", 200, "/child/in/things/{thing_id}", 2),
    "Mount with a parameter": Case("GET", "/t/acme/items/3", 200, "/t/{tenant}/items/{item_id}", 4),
    "mount in mount": Case("GET", "/t/acme/deep/9/a/b", 200, "/t/{tenant}/deep/{level}/{rest}", 4),
    "Host route": Case("GET", "/hosted/bob", 200, "/hosted/{name}", 4, host="api.example"),
    "plain": Case("GET", "/plain/hello", 200, "/plain/{word}", 5),
    "no content-length": Case("GET", "/unsized", 200, "/unsized", 5),
    "slash redirect": Case("GET", "/plain/hello/", 307, "__redirect__", 0),
    "404": Case("GET", "/wp-login.php", 404, "__unmatched__", 22),
    "404 in a mount": Case("GET", "/t/acme/nowhere", 404, "__unmatched__", 9),
    "405": Case("DELETE", "/plain/hello", 405, "/plain/{word}", 31),
    "an exception": Case("GET", "/fails", 500, "/fails", 21),
}


def agree(seen: Witness, case: Case, method: str) -> dict[str, Any]:
    """Log line, span and metrics tell the same of the one exchange there was; returns the log line."""
    exchange = seen.ended()
    [line] = [line for line in seen.lines() if line["component"] == "asgi_obs.request"]
    [span] = seen.spans()
    route = None if case.endpoint.startswith("__") else case.endpoint
    labels = {"method": method, "endpoint": case.endpoint}

    assert (line["status_code"], line["path"], line.get("route")) == (case.status, case.path, route)
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == case.status
    assert span.attributes.get("http.route") == route
    assert seen.value("http_requests_total", **labels, status_code=str(case.status)) == 1
    assert seen.value("http_request_duration_seconds_count", **labels) == 1

    assert line["duration_ms"] == pytest.approx(exchange.duration * 1000, abs=0.01)
    assert seen.value("http_request_duration_seconds_sum", **labels) == pytest.approx(exchange.duration)
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time == pytest.approx(exchange.duration * 1e9, abs=1000)

    assert line["bytes_out"] == case.bytes_out
    assert (seen.value("http_response_body_bytes_total", **labels) or 0) == case.bytes_out
    assert line["trace_id"] == f"{span.context.trace_id:032x}"
    assert line["span_id"] == f"{span.context.span_id:016x}"
    assert span.attributes["correlation_id"] == line["correlation_id"]
    return line


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_all_signals_tell_the_same_true_story_of(case: Case, seen: Witness, client: httpx.Client) -> None:
    headers = {} if case.host is None else {"host": case.host}

    response = client.request(case.method, case.path, headers=headers)

    line = agree(seen, case, case.method)
    assert (response.status_code, len(response.content)) == (case.status, case.bytes_out)
    assert response.headers["x-correlation-id"] == line["correlation_id"]


def test_an_unknown_method_is_one_label_whatever_it_is_called(seen: Witness) -> None:
    with serve(seen.wrap(build()), http="h11") as address:  # httptools refuses methods it does not know
        httpx.request("BREW", f"http://{address}/plain/tea", trust_env=False)

    line = agree(seen, Case("BREW", "/plain/tea", 405, "/plain/{word}", 31), "_OTHER")

    assert line["method"] == "BREW"


def test_an_exception_is_told_in_full_and_only_once(seen: Witness, client: httpx.Client) -> None:
    client.get("/fails")
    seen.ended()

    [line] = [line for line in seen.lines() if line["level"] == "ERROR"]
    assert (line["outcome"], line["error"]["type"]) == ("error", "LookupError")
    assert line["error"]["message"] == "no such thing"
    [span] = seen.spans()
    assert span.attributes is not None
    assert span.attributes["error.type"] == "LookupError"
    assert seen.value("http_exceptions_total", method="GET", endpoint="/fails", exception="LookupError") == 1


def test_a_background_task_is_no_latency(seen: Witness, client: httpx.Client) -> None:
    client.get("/background")

    line = agree(seen, Case("GET", "/background", 200, "/background", 8), "GET")
    exchange = seen.returned()

    assert exchange.returned_at is not None
    total_ms = (exchange.returned_at - exchange.started_at) * 1000
    assert line["duration_ms"] <= total_ms - WAIT * 1000
    assert (seen.value("http_background_duration_seconds_sum", endpoint="/background") or 0) >= WAIT


def test_a_stream_lasts_until_its_last_chunk(seen: Witness, client: httpx.Client) -> None:
    client.get("/stream")

    line = agree(seen, Case("GET", "/stream", 200, "/stream", 300), "GET")

    assert line["duration_ms"] >= WAIT * 1000
    assert line["ttfb_ms"] <= line["duration_ms"] - WAIT * 1000


def test_uploaded_bytes_are_counted(seen: Witness, client: httpx.Client) -> None:
    client.post("/upload", content=b"x" * 1000)

    line = agree(seen, Case("POST", "/upload", 200, "/upload", 4), "POST")

    assert line["bytes_in"] == 1000
    assert seen.value("http_request_body_bytes_total", method="POST", endpoint="/upload") == 1000


def test_a_websocket_session_is_told_by_all_signals(address: str, seen: Witness) -> None:
    with connect(f"ws://{address}/echo/lobby") as socket:
        socket.send("héllo")
        socket.recv()
        assert socket.response is not None
        echoed = socket.response.headers["x-correlation-id"]
    seen.ended()

    [line] = [line for line in seen.lines() if line["component"] == "asgi_obs.request"]
    [span] = seen.spans()
    assert span.name == "GET /echo/{room}"
    assert (line["route"], line["status_code"], line["close_code"]) == ("/echo/{room}", 101, "4001")
    assert (line["bytes_in"], line["bytes_out"]) == (6, 6)
    assert line["correlation_id"] == echoed
    assert seen.value("websocket_connections_total", endpoint="/echo/{room}", close_code="4001") == 1
    assert seen.value("websocket_messages_total", endpoint="/echo/{room}", direction="in") == 1
    assert seen.value("websocket_messages_total", endpoint="/echo/{room}", direction="out") == 1
    assert seen.value("websocket_connections_active") == 0
    assert seen.value("http_requests_total", method="GET", endpoint="/echo/{room}", status_code="101") is None


def test_a_proxy_prefix_is_no_part_of_the_route() -> None:
    with Witness("proxied") as witness, serve(witness.wrap(build()), root_path="/api") as address:
        with httpx.Client(base_url=f"http://{address}", trust_env=False) as client:
            response = client.get("/t/acme/items/3")

        assert response.status_code == 200
        case = Case("GET", "/api/t/acme/items/3", 200, "/t/{tenant}/items/{item_id}", 4)
        assert agree(witness, case, "GET")["route"] == "/t/{tenant}/items/{item_id}"


def test_nothing_is_left_active(seen: Witness, client: httpx.Client) -> None:
    client.get("/plain/last")
    seen.ended()

    assert seen.value("http_requests_active") == 0
