"""The route template of a request, read from the scope after the framework has routed.

Every resolver tells the templates of one framework and answers None for the requests of others; none of them
imports its framework. A template is the framework's path format without converters (`/files/{path}`), with the
templates of the mounts around it, without host and without the proxy's prefix.
"""

from __future__ import annotations

from asgi_obs.errors import report
from asgi_obs.routes.starlette import StarletteRoutes
from asgi_obs.types import ASGIApp, RouteResolver, Scope

__all__ = ["Routes"]


class Routes:
    """Asks one resolver after the other; what a resolver raises is counted and never reaches the request.

    Args:
        app: The wrapped application, for what can only be found out from its routes.
        route_resolver: The user's own resolver, asked first.

    Attributes:
        custom: Whether there is one of the user's own.
    """

    def __init__(self, app: ASGIApp, route_resolver: RouteResolver | None = None) -> None:
        self.custom = route_resolver is not None
        built_in = (StarletteRoutes(app),)
        self._resolvers: tuple[RouteResolver, ...] = built_in if route_resolver is None else (route_resolver, *built_in)

    def resolve(self, scope: Scope) -> str | None:
        """The template of the route that this request was routed to; None if there is none."""
        for resolver in self._resolvers:
            try:
                template = resolver(scope)
            except Exception as error:  # noqa: BLE001 - a framework's internals may change: never a 500
                report("Routes.resolve", error)
            else:
                if isinstance(template, str):
                    return template
        return None
