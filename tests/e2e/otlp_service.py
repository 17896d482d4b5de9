"""A service that is traced: `python -m tests.e2e.otlp_service <fd of its listener>`."""

from __future__ import annotations

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from asgi_obs import Observability, setup_logging
from asgi_obs.tracing.setup import setup_tracing


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


def main(fd: str) -> None:
    setup_logging()
    app = Starlette(routes=[Route("/hello/{name}", hello)])
    setup_tracing(app)
    uvicorn.run(Observability().install(app), fd=int(fd))


if __name__ == "__main__":
    main(*sys.argv[1:])
