import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from asgi_obs.exchange import current_exchange
from asgi_obs.metrics import MetricsMiddleware
from asgi_obs.testing import drive, websocket_scope
from asgi_obs.types import ASGIApp, Message, Receive, Scope, Send

Samples = Callable[..., dict[str, float]]

CONNECT: Message = {"type": "websocket.connect"}


def text(value: str) -> Message:
    return {"type": "websocket.receive", "text": value}


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for message in websocket.iter_text():
        await websocket.send_text(message)
        await websocket.send_text(message)


async def fail(websocket: WebSocket) -> None:
    await websocket.accept()
    raise KeyError("x")


async def deny(websocket: WebSocket) -> None:
    await websocket.close()


def an_app(registry: CollectorRegistry) -> ASGIApp:
    routes = [WebSocketRoute("/rooms/{room}", echo), WebSocketRoute("/fail", fail), WebSocketRoute("/deny", deny)]
    return MetricsMiddleware(Starlette(routes=routes), registry=registry)


def connect(app: ASGIApp, path: str, *incoming: Message) -> None:
    asyncio.run(drive(app, websocket_scope(path), [CONNECT, *incoming]))


def test_a_session_is_counted_by_route_and_close_code(registry: CollectorRegistry, samples: Samples) -> None:
    app = an_app(registry)
    connect(app, "/rooms/a", text("hello"), {"type": "websocket.disconnect", "code": 1000})
    connect(app, "/rooms/b", {"type": "websocket.disconnect", "code": 1001})
    connect(app, "/deny")
    connect(app, "/nowhere")
    with pytest.raises(KeyError):
        connect(app, "/fail")
    assert samples("websocket_connections", "websocket_session_duration_seconds_count") == {
        'websocket_connections_total{close_code="1000",endpoint="/rooms/{room}"}': 1.0,
        'websocket_connections_total{close_code="1001",endpoint="/rooms/{room}"}': 1.0,
        'websocket_connections_total{close_code="denied",endpoint="/deny"}': 1.0,
        'websocket_connections_total{close_code="denied",endpoint="__unmatched__"}': 1.0,
        'websocket_connections_total{close_code="1011",endpoint="/fail"}': 1.0,
        'websocket_session_duration_seconds_count{endpoint="/rooms/{room}"}': 2.0,
        'websocket_session_duration_seconds_count{endpoint="/fail"}': 1.0,
        "websocket_connections_active": 0.0,
    }


def test_a_session_moves_no_http_metric(registry: CollectorRegistry, samples: Samples) -> None:
    connect(an_app(registry), "/rooms/a", {"type": "websocket.disconnect", "code": 1000})
    assert samples("http_") == {"http_requests_active": 0.0}


def test_messages_are_counted_by_route_and_direction(registry: CollectorRegistry, samples: Samples) -> None:
    connect(an_app(registry), "/rooms/a", text("a"), text("b"), {"type": "websocket.disconnect", "code": 1000})
    assert samples("websocket_messages") == {
        'websocket_messages_total{direction="in",endpoint="/rooms/{room}"}': 2.0,
        'websocket_messages_total{direction="out",endpoint="/rooms/{room}"}': 4.0,
    }


def test_messages_and_the_active_session_show_while_it_is_open(registry: CollectorRegistry, samples: Samples) -> None:
    seen: list[dict[str, float]] = []

    def look() -> None:
        seen.append(samples("websocket_messages", "websocket_connections_active"))

    async def talk(websocket: WebSocket) -> None:
        look()
        await websocket.accept()
        look()
        await websocket.receive_text()
        look()
        await websocket.close()

    app = MetricsMiddleware(Starlette(routes=[WebSocketRoute("/talk", talk)]), registry=registry)
    connect(app, "/talk", text("a"))
    look()
    message = 'websocket_messages_total{direction="in",endpoint="/talk"}'
    assert seen == [
        {"websocket_connections_active": 0.0},
        {"websocket_connections_active": 1.0},
        {"websocket_connections_active": 1.0, message: 1.0},
        {"websocket_connections_active": 0.0, message: 1.0},
    ]


def test_interleaved_sessions_do_not_mix(registry: CollectorRegistry, samples: Samples) -> None:
    async def main() -> None:
        first_waits, second_is_done = asyncio.Event(), asyncio.Event()

        async def first(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_text("1")
            first_waits.set()
            await second_is_done.wait()
            await websocket.send_text("2")
            await websocket.close(4001)

        async def second(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_text("3")
            await websocket.close(4002)

        app = MetricsMiddleware(
            Starlette(routes=[WebSocketRoute("/first", first), WebSocketRoute("/second", second)]), registry=registry
        )
        task = asyncio.create_task(drive(app, websocket_scope("/first")))
        await first_waits.wait()
        await drive(app, websocket_scope("/second"))
        assert samples("websocket_connections_active") == {"websocket_connections_active": 1.0}
        second_is_done.set()
        await task

    asyncio.run(main())
    assert samples("websocket_messages", "websocket_connections") == {
        'websocket_messages_total{direction="out",endpoint="/first"}': 2.0,
        'websocket_messages_total{direction="out",endpoint="/second"}': 1.0,
        'websocket_connections_total{close_code="4001",endpoint="/first"}': 1.0,
        'websocket_connections_total{close_code="4002",endpoint="/second"}': 1.0,
        "websocket_connections_active": 0.0,
    }


def test_an_accept_that_comes_twice_opens_one_session(registry: CollectorRegistry, samples: Samples) -> None:
    async def twice(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})

    connect(MetricsMiddleware(twice, registry=registry), "/")
    assert samples("websocket_connections_active") == {"websocket_connections_active": 0.0}


def test_an_accept_that_cannot_be_sent_leaves_no_session_open(registry: CollectorRegistry, samples: Samples) -> None:
    async def accepts(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    async def gone(*message: Any) -> Any:
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - it has no message
        asyncio.run(MetricsMiddleware(accepts, registry=registry)(websocket_scope("/"), gone, gone))
    assert samples("websocket_connections_active") == {"websocket_connections_active": 0.0}


def test_messages_without_a_session_are_not_counted(registry: CollectorRegistry, samples: Samples) -> None:
    async def talks_too_soon(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.send", "text": "a"})

    connect(MetricsMiddleware(talks_too_soon, registry=registry), "/")
    assert samples("websocket_messages") == {}


def test_an_operational_session_is_balanced_and_moves_nothing_else(
    registry: CollectorRegistry, samples: Samples
) -> None:
    async def ops(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = current_exchange()
        assert exchange is not None
        exchange.operational = True
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})

    connect(MetricsMiddleware(ops, registry=registry), "/")
    assert samples("websocket_") == {"websocket_connections_active": 0.0}


def test_a_denial_response_opens_no_session(registry: CollectorRegistry, samples: Samples) -> None:
    async def denies(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    connect(MetricsMiddleware(denies, registry=registry), "/")
    assert samples("websocket_") == {
        'websocket_connections_total{close_code="denied",endpoint="__unmatched__"}': 1.0,
        "websocket_connections_active": 0.0,
    }
