"""A service that is traced: `python -m tests.e2e.otlp_service <fd of its listener>`.

Behind it `plain` is for an application that is none of a framework's; `uvicorn --factory` can make that too.
"""

from __future__ import annotations

import logging
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from asgi_obs import Observability, observe, setup_logging
from asgi_obs.tracing.setup import setup_tracing
from asgi_obs.types import ASGIApp, Receive, Scope, Send

_log = logging.getLogger("shop")


async def hello(request: Request) -> Response:
    async for chunk in request.stream():
        if chunk:
            _log.info("reading")
    return PlainTextResponse("hello")


async def hello_plain(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    while (await receive()).get("more_body"):
        _log.info("reading")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def routed() -> ASGIApp:
    setup_logging()
    app = Starlette(routes=[Route("/hello/{name}", hello, methods=["GET", "POST"])])
    setup_tracing(app)
    return Observability().install(app)


def plain() -> ASGIApp:
    setup_logging()
    setup_tracing()
    return observe(hello_plain)


def main(fd: str, kind: str = "routed") -> None:
    uvicorn.run({"routed": routed, "plain": plain}[kind](), fd=int(fd))


if __name__ == "__main__":
    main(*sys.argv[1:])
