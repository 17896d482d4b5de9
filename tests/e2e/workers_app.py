"""What the servers of `test_workers` serve.

`/metrics` and `/look` (for siblings) are outside of what is counted and logged. Every answer ends in the PID.
"""

from __future__ import annotations

import os

import anyio.to_thread
from prometheus_client import REGISTRY, generate_latest

from asgi_obs import MetricsMiddleware, RequestLoggingMiddleware, current_exchange, setup_logging
from asgi_obs.metrics.multiprocess import view_of, warn_of_siblings
from asgi_obs.types import Receive, Scope, Send

setup_logging("shop", "INFO")


async def answer(send: Send, body: bytes) -> None:
    body += b"# %d\n" % os.getpid()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def shop(scope: Scope, receive: Receive, send: Send) -> None:
    exchange = current_exchange()
    assert exchange is not None
    exchange.route = "/items"
    await answer(send, b"")


counted = RequestLoggingMiddleware(MetricsMiddleware(shop))


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/metrics":
        await answer(send, await anyio.to_thread.run_sync(generate_latest, view_of(REGISTRY)))
    elif scope["path"] == "/look":
        await anyio.to_thread.run_sync(warn_of_siblings)
        await answer(send, b"")
    else:
        await counted(scope, receive, send)
