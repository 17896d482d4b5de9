"""Statistics of the whole service: a Starlette application of its own, mounted into the API.

They are numbers, and every user who is logged in may see them. What only some may see needs a scope of its own, given
by `BearerTokens`: `@requires("admin")`.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from examples.cortex.api.events import EventBus
from examples.cortex.api.store import Store


def create_admin(store: Store, bus: EventBus) -> Starlette:
    """The sub-application: `/storage` and `/streams` below wherever it is mounted."""

    @requires("authenticated")
    async def area(request: Request) -> Response:
        name = request.path_params["area"]
        if name == "storage":
            return JSONResponse(await store.sizes())
        if name == "streams":
            return JSONResponse({"subscribers": bus.subscribers})
        raise HTTPException(404, "no such area")

    return Starlette(routes=[Route("/{area}", area)])
