"""FastAPI: included routers.

FastAPI 0.137 and later keep an included router as a node of its own. The route in the scope is then the one of
the router, whose path lacks the prefixes it was included with; the full template is that of the effective
route context. https://fastapi.tiangolo.com/release-notes/
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from asgi_obs.types import Scope

__all__ = ["expand_included", "included_route"]


def included_route(scope: Scope, endpoint: Any) -> Any:
    """The effective route that an endpoint of an included router belongs to, None if it is not of one."""
    context = scope["fastapi"].get("effective_route_context")
    effective = getattr(context, "starlette_route", None) or context
    # A context stays in the scope when the request went on through a mount: it is then not the endpoint's.
    return effective if getattr(effective, "endpoint", None) is endpoint else None


def expand_included(routes: Iterable[Any]) -> Iterable[Any]:
    """The routes with every included router replaced by its effective routes."""
    routing = sys.modules.get("fastapi.routing")
    expand = getattr(routing, "iter_route_contexts", None)
    return routes if expand is None else expand(routes)
