"""A service that is nothing without its database; `/look` tells what runs in it."""

from __future__ import annotations

import asyncio
import os
import threading

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from asgi_obs import Observability, setup_logging
from asgi_obs.health.checks import DatabaseCheck
from asgi_obs.integrations.sqlalchemy import instrument_sqlalchemy
from asgi_obs.types import ASGIApp

PATIENCE = 0.5
"""Seconds to wait for a connection from the pool, for one to the server, and for each of its answers."""

CHECK_TIMEOUT = 1.0
"""Seconds that the check of the database may take."""

_ITEM = text("SELECT 'item' FROM pg_sleep(0.005)")


def service() -> ASGIApp:
    setup_logging()
    engine = create_async_engine(
        os.environ["DATABASE_URL"],
        pool_size=2,
        max_overflow=1,
        pool_timeout=PATIENCE,
        connect_args={"timeout": PATIENCE, "command_timeout": PATIENCE},
    )
    instrument_sqlalchemy(engine)

    async def item(_request: Request) -> Response:
        async with engine.connect() as connection:
            return PlainTextResponse((await connection.execute(_ITEM)).scalar_one())

    async def look(_request: Request) -> Response:
        return JSONResponse({"tasks": len(asyncio.all_tasks()), "threads": threading.active_count()})

    observability = Observability()
    check = DatabaseCheck(engine, checkout_timeout=PATIENCE)
    observability.health.add("database", check, timeout=CHECK_TIMEOUT, ttl=0)
    return observability.install(Starlette(routes=[Route("/item", item), Route("/look", look)]))
