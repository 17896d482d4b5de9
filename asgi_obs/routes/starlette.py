"""Starlette, and what is built on its router.

Where no mount was crossed, Starlette 1.10 and FastAPI say it all: `scope["route"].path_format`. Older Starlettes
name only the endpoint, and of a mount the scope has but the concrete text it matched (`/t/acme` for
`Mount("/t/{tenant}")`). For both an index is built once from the tree of routes: endpoint -> full template. What
the index cannot tell for certain (an endpoint with several paths, a scope that was copied on the way, an
application that cannot be looked into) is found by asking the routes once more which of them matches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from starlette.convertors import CONVERTOR_TYPES
from starlette.routing import PARAM_REGEX, Match

from asgi_obs.routes.fastapi import expand_included, included_route
from asgi_obs.routes.path import below
from asgi_obs.types import ASGIApp, Scope

__all__ = ["StarletteRoutes"]

MAX_INDEXES: Final = 64
"""Routers to keep an index of; one is usual. An application that makes routers as it runs starts over here."""

MAX_STRANGERS: Final = 1_000
"""Endpoints to remember that the index did not have when it was built for them; past it, it is built no more."""

MAX_DEPTH: Final = 32
"""Levels of mounts, or of middlewares around an application, to look through."""

_REST: Final = "/{path}"
"""What `Mount` adds to its own path."""


class StarletteRoutes:
    """The resolver for Starlette and FastAPI.

    Args:
        app: The wrapped application, whose routes are asked if a middleware in between handed on a copy of the
            scope, so that nothing the router wrote can be seen.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._indexes: dict[int, _RouteIndex] = {}

    def __call__(self, scope: Scope) -> str | None:
        """The template of the route that the endpoint in the scope belongs to."""
        endpoint = scope.get("endpoint")
        if endpoint is None:
            if "router" in scope:
                return None  # the router saw it, and no route of it matched
            owner = _owner_of_routes(self._app)
            return None if owner is None else _retrace(owner, scope)
        if "app_root_path" not in scope:  # written by the first mount
            route = scope.get("route")
            if "fastapi" in scope:
                route = included_route(scope, endpoint) or route
            if getattr(route, "endpoint", None) is endpoint:
                template = route.path_format  # type: ignore[union-attr]
                return template if isinstance(template, str) else None
        return self._index(scope["router"]).find(endpoint, scope)

    def _index(self, router: Any) -> _RouteIndex:
        index = self._indexes.get(id(router))
        if index is None:
            if len(self._indexes) >= MAX_INDEXES:
                self._indexes.clear()
            index = self._indexes[id(router)] = _RouteIndex(router)
        return index


class _Way:
    """One way to an endpoint: the template, and the pattern of the whole path.

    Attributes:
        template: None for a mounted router: what ends there was matched by no route of it.
        certain: Whether nothing can hide what went on behind the endpoint.
    """

    __slots__ = ("_pattern", "_raw", "certain", "endpoint", "template")

    def __init__(self, endpoint: Any, template: str | None, raw: str, *, certain: bool = True) -> None:
        self.endpoint = endpoint
        self.template = template
        self.certain = certain
        self._raw = raw
        self._pattern: re.Pattern[str] | None = None

    def leads(self, path: str) -> bool:
        if self._pattern is None:
            self._pattern = _compile(self._raw)
        return self._pattern.fullmatch(path) is not None


class _RouteIndex:
    """Endpoint -> the ways to it, through all mounts below one router."""

    def __init__(self, router: Any) -> None:
        self._router = router
        self._strangers: dict[int, Any] = {}
        self._build()

    def _build(self) -> None:
        self._ways: dict[int, list[_Way]] = {}
        for way in _walk(self._router.routes, "", "", 0):
            self._ways.setdefault(id(way.endpoint), []).append(way)

    def find(self, endpoint: Any, scope: Scope) -> str | None:
        path = below(scope["path"], _prefix(scope))
        possible = self._possible(endpoint, path)
        if not possible and id(endpoint) not in self._strangers and len(self._strangers) < MAX_STRANGERS:
            self._strangers[id(endpoint)] = endpoint
            self._build()
            possible = self._possible(endpoint, path)
        if len(possible) == 1 and possible[0].certain:
            return possible[0].template
        return _retrace(self._router, scope)

    def _possible(self, endpoint: Any, path: str) -> list[_Way]:
        return [way for way in self._ways.get(id(endpoint), ()) if way.leads(path)]


def _walk(routes: Sequence[Any], prefix: str, raw_prefix: str, depth: int) -> Iterator[_Way]:
    for route in expand_included(routes):
        path_format = getattr(route, "path_format", None) or ""
        raw = raw_prefix + (getattr(route, "path", None) or "")
        endpoint = getattr(route, "endpoint", None)
        app = getattr(route, "app", None)
        if endpoint is not None:
            yield _Way(endpoint, prefix + path_format, raw)
        elif app is not None:
            owner = _owner_of_routes(app) if depth < MAX_DEPTH else None
            rest = raw + "/{path:path}"
            if owner is None:
                yield _Way(app, prefix + path_format if path_format else None, rest)
            else:
                yield from _walk(owner.routes, prefix + path_format.removesuffix(_REST), raw, depth + 1)
                yield _Way(app, None, rest, certain=owner is app)


def _retrace(owner: Any, scope: Scope) -> str | None:
    """Ask the routes, from the outermost router inwards, which of them the request matches."""
    trial = {**scope, "root_path": _prefix(scope), "path_params": {}}
    for written in ("app_root_path", "endpoint", "fastapi", "route"):
        trial.pop(written, None)
    prefix = ""
    for _ in range(MAX_DEPTH):
        route, child = _matching(owner.routes, trial)
        if route is None:
            return None
        path_format = getattr(route, "path_format", None) or ""
        if getattr(route, "endpoint", None) is not None:
            return prefix + path_format
        owner = _owner_of_routes(route.app)
        if owner is None:
            return prefix + path_format if path_format else None
        prefix += path_format.removesuffix(_REST)
        trial.update(child)
    return None


def _matching(routes: Sequence[Any], scope: Scope) -> tuple[Any, Scope]:
    """The first route that matches in full, else the first that does but for the method."""
    partial: tuple[Any, Scope] = (None, {})
    for route in expand_included(routes):
        match, child = route.matches(scope)
        if match is Match.FULL:
            return route, child
        if match is Match.PARTIAL and partial[0] is None:
            partial = route, child
    return partial


def _owner_of_routes(app: Any) -> Any:
    """The router or application inside of middlewares that has the routes; None if it cannot be seen."""
    for _ in range(MAX_DEPTH):
        if isinstance(getattr(app, "routes", None), list):
            return app
        app = getattr(app, "app", None)
    return None


def _prefix(scope: Scope) -> str:
    """What the path began with before the first mount: the proxy's prefix."""
    prefix: str = scope.get("app_root_path", scope.get("root_path", ""))
    return prefix


def _compile(raw: str) -> re.Pattern[str]:
    """The pattern of a path through several mounts; unlike `compile_path` it allows a name to come twice."""
    parts = PARAM_REGEX.split(raw)
    pattern = re.escape(parts[0])
    for convertor, text in zip(parts[2::3], parts[3::3], strict=True):
        pattern += f"(?:{CONVERTOR_TYPES[(convertor or ':str')[1:]].regex})" + re.escape(text)
    return re.compile(pattern)
