"""The administrators' pages: a Starlette application of its own, mounted into the API."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from examples.cortex.service import Cortex


def create_admin(cortex: Cortex) -> Starlette:
    """The sub-application: `/storage` and `/streams` below wherever it is mounted."""

    @requires("authenticated")
    async def area(request: Request) -> Response:
        name = request.path_params["area"]
        if name == "storage":
            return JSONResponse(await cortex.store.sizes())
        if name == "streams":
            return JSONResponse({"listeners": cortex.broker.listeners})
        raise HTTPException(404, "no such area")

    return Starlette(routes=[Route("/{area}", area)])
