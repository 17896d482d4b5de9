"""One of three services in a row: `python -m tests.e2e.chain front|middle|back <fd of its listener> <URL of the next>`.

The front asks the middle by httpx, the middle asks the back by aiohttp, and calls one of its MCP tools.
"""

from __future__ import annotations

import logging
import sys

import aiohttp
import httpx
import httpx2
import uvicorn
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from asgi_obs import observe, setup_logging, setup_tracing
from asgi_obs.integrations.aiohttp import trace_config
from asgi_obs.integrations.httpx import instrument_httpx
from asgi_obs.integrations.mcp import observe_mcp_client, observe_mcp_server
from asgi_obs.types import ASGIApp
from tests.integrations import mcp_sdk as sdk

log = logging.getLogger("shop")


def front(following: str) -> ASGIApp:
    async def buy(request: Request) -> Response:
        log.info("buying")
        async with instrument_httpx(httpx.AsyncClient(base_url=following)) as client:
            response = await client.get("/orders/7")
        return PlainTextResponse(response.text)

    return Starlette(routes=[Route("/buy/{item}", buy)])


def middle(following: str) -> ASGIApp:
    async def order(request: Request) -> Response:
        log.info("ordering")
        async with aiohttp.ClientSession(trace_configs=[trace_config()]) as session:
            async with session.get(f"{following}/price") as response:
                price = await response.text()
        # What the SDK posts is a request like any other; the newest one uses httpx2.
        library = httpx2 if sdk.NATIVE else httpx
        async with instrument_httpx(library.AsyncClient()) as http_client:
            async with streamable_http_client(f"{following}/mcp", http_client=http_client) as (read, write, *_):
                async with ClientSession(read, write) as session:
                    await session.initialize()
                    client = observe_mcp_client(session, service="stock")
                    taken = sdk.text_of(await client.call_tool("take", {"item": "book", "api_key": "hunter2"}))
        return PlainTextResponse(f"{taken} for {price}")

    return Starlette(routes=[Route("/orders/{order_id}", order)])


def back(_following: str) -> ASGIApp:
    server = observe_mcp_server(sdk.MCPServer("stock"))

    @server.tool()
    async def take(item: str, api_key: str) -> str:
        log.info("taking")
        return f"a {item}"

    @server.custom_route("/price", methods=["GET"])
    async def price(request: Request) -> Response:
        log.info("telling the price")
        return PlainTextResponse("7")

    return server.streamable_http_app()


def main(name: str, fd: str, following: str) -> None:
    setup_logging()
    setup_tracing()
    uvicorn.run(observe(globals()[name](following)), fd=int(fd), log_config=None)


if __name__ == "__main__":
    main(*sys.argv[1:])
