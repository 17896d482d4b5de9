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

__all__ = ["expand_included", "fastapi_route"]


def fastapi_route(scope: Scope) -> str | None:
    """The template of a route of an included router, where no mount was crossed."""
    context = scope.get("fastapi", {}).get("effective_route_context")
    if context is None or "app_root_path" in scope:
        return None
    effective = getattr(context, "starlette_route", None) or context
    # A context stays in the scope when the request went on from a mount: then it is not that of the endpoint.
    if effective.endpoint is not scope.get("endpoint"):
        return None
    template = effective.path_format
    return template if isinstance(template, str) else None


def expand_included(routes: Iterable[Any]) -> Iterable[Any]:
    """The routes with every included router replaced by its effective routes."""
    routing = sys.modules.get("fastapi.routing")
    expand = getattr(routing, "iter_route_contexts", None)
    return routes if expand is None else expand(routes)
