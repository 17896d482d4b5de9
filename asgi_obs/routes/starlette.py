"""Starlette, and what is built on its router.

Where no mount was crossed, Starlette 1.10 and FastAPI say it all: `scope["route"].path_format`. Older Starlettes
name only the endpoint, and of a mount the scope has but the concrete text it matched (`/t/acme` for
`Mount("/t/{tenant}")`). For both an index is built once from the tree of routes, endpoint -> full template, and
built anew when an endpoint shows up that it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from starlette.convertors import CONVERTOR_TYPES
from starlette.routing import PARAM_REGEX

from asgi_obs.routes.fastapi import expand_included, included_route
from asgi_obs.types import ASGIApp, Scope

__all__ = ["StarletteRoutes"]

MAX_INDEXES: Final = 64
"""Routers to keep an index of; one is usual. An application that makes routers as it runs starts over here."""

MAX_STRANGERS: Final = 1_000
"""Endpoints to remember that no route leads to, so that each causes one more look through the routes only."""

MAX_DEPTH: Final = 32
"""Levels of mounts, or of middlewares around an application, to look through."""

_REST: Final = "/{path}"
"""What `Mount` adds to its own path."""


class StarletteRoutes:
    """The resolver for Starlette and FastAPI.

    Args:
        app: The wrapped application. Its routes are matched if a middleware in between handed on a copy of the
            scope, so that nothing the router wrote can be seen.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._indexes: dict[int, _RouteIndex] = {}

    def __call__(self, scope: Scope) -> str | None:
        """The template of the route that the endpoint in the scope belongs to."""
        endpoint = scope.get("endpoint")
        if endpoint is None:
            return None if "router" in scope else self._match_copied(scope)
        if "app_root_path" not in scope:  # written by the first mount
            route = scope.get("route")
            if "fastapi" in scope:
                route = included_route(scope, endpoint) or route
            if getattr(route, "endpoint", None) is endpoint:
                return str(route.path_format)  # type: ignore[union-attr]
        return self._index(scope["router"]).find(endpoint, scope)

    def _match_copied(self, scope: Scope) -> str | None:
        owner = _owner_of_routes(self._app)
        return None if owner is None else self._index(owner).match(_routed_path(scope))

    def _index(self, owner: Any) -> _RouteIndex:
        index = self._indexes.get(id(owner))
        if index is None:
            if len(self._indexes) >= MAX_INDEXES:
                self._indexes.clear()
            index = self._indexes[id(owner)] = _RouteIndex(owner)
        return index


class _Template:
    """One way to an endpoint: its template, and the pattern of the whole path."""

    __slots__ = ("_pattern", "_raw", "endpoint", "text")

    def __init__(self, endpoint: Any, text: str | None, raw: str) -> None:
        self.endpoint = endpoint
        self.text = text
        self._raw = raw
        self._pattern: re.Pattern[str] | None = None

    def matches(self, path: str) -> bool:
        if self._pattern is None:
            self._pattern = _compile(self._raw)
        return self._pattern.fullmatch(path) is not None


class _RouteIndex:
    """Endpoint -> its templates, through all mounts below one router."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self._strangers: dict[int, Any] = {}
        self._build()

    def _build(self) -> None:
        self._all = list(_walk(self._owner.routes, "", "", 0))
        self._by_endpoint: dict[int, dict[str | None, _Template]] = {}
        for template in self._all:
            self._by_endpoint.setdefault(id(template.endpoint), {}).setdefault(template.text, template)

    def find(self, endpoint: Any, scope: Scope) -> str | None:
        templates = self._by_endpoint.get(id(endpoint))
        if templates is None:
            if id(endpoint) not in self._strangers:
                self._build()
                templates = self._by_endpoint.get(id(endpoint))
            if templates is None:
                return self._of_stranger(endpoint, scope)
        if len(templates) == 1:
            return next(iter(templates))
        return _first_match(templates.values(), _routed_path(scope))

    def match(self, path: str) -> str | None:
        return _first_match(self._all, path)

    def _of_stranger(self, endpoint: Any, scope: Scope) -> str | None:
        """An endpoint behind a mounted application that cannot be looked into: the mount is matched by path."""
        if len(self._strangers) < MAX_STRANGERS:
            self._strangers[id(endpoint)] = endpoint
        route = scope.get("route")
        if getattr(route, "endpoint", None) is not endpoint:
            return None
        mount = _first_match((t for t in self._all if t.text and t.text.endswith(_REST)), _routed_path(scope))
        return None if mount is None else mount.removesuffix(_REST) + str(route.path_format)  # type: ignore[union-attr]


def _walk(routes: Sequence[Any], prefix: str, raw_prefix: str, depth: int) -> Iterator[_Template]:
    for route in expand_included(routes):
        path_format = getattr(route, "path_format", None) or ""
        raw = raw_prefix + (getattr(route, "path", None) or "")
        endpoint = getattr(route, "endpoint", None)
        app = getattr(route, "app", None)
        if endpoint is not None:
            yield _Template(endpoint, prefix + path_format, raw)
        elif app is not None:
            owner = _owner_of_routes(app) if depth < MAX_DEPTH else None
            below = raw + "/{path:path}"
            if owner is None:
                yield _Template(app, prefix + path_format if path_format else None, below)
            else:
                yield from _walk(owner.routes, prefix + path_format.removesuffix(_REST), raw, depth + 1)
                yield _Template(app, None, below)


def _owner_of_routes(app: Any) -> Any:
    """The router or application inside of middlewares that has the routes; None if it cannot be seen."""
    for _ in range(MAX_DEPTH):
        if isinstance(getattr(app, "routes", None), list):
            return app
        app = getattr(app, "app", None)
    return None


def _first_match(templates: Any, path: str) -> str | None:
    return next((template.text for template in templates if template.matches(path)), None)


def _routed_path(scope: Scope) -> str:
    """The path below the proxy's prefix."""
    path: str = scope["path"]
    prefix: str = scope.get("app_root_path", scope.get("root_path", ""))
    return path[len(prefix) :] if prefix and path.startswith(prefix) else path


def _compile(raw: str) -> re.Pattern[str]:
    """The pattern of a path through several mounts; unlike `compile_path` it allows a name to come twice."""
    parts = PARAM_REGEX.split(raw)
    pattern = re.escape(parts[0])
    for convertor, text in zip(parts[2::3], parts[3::3], strict=True):
        pattern += f"(?:{CONVERTOR_TYPES[(convertor or ':str')[1:]].regex})" + re.escape(text)
    return re.compile(pattern)
