"""The resolvers one after the other."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_obs.exchange import current_exchange
from asgi_obs.routes import Routes
from asgi_obs.testing import http_scope


async def endpoint(request):
    return PlainTextResponse("ok")


async def choosing(request):
    current_exchange().route = "/chosen/{id}"
    return PlainTextResponse("ok")


@pytest.fixture
def app():
    return Starlette(routes=[Route("/built-in/{x}", endpoint), Route("/choosing/{x}", choosing)])


def test_the_users_resolver_is_asked_first(routed, app):
    serve = routed(app, route_resolver=lambda scope: "/own")

    assert serve("/built-in/1") == (200, "/own")


def test_a_resolver_that_does_not_know_leaves_it_to_the_others(routed, app):
    serve = routed(app, route_resolver=lambda scope: None)

    assert serve("/built-in/1") == (200, "/built-in/{x}")


def test_a_resolver_that_raises_is_reported_and_leaves_it_to_the_others(routed, app, reports):
    def resolver(scope):
        raise KeyError("route")

    assert routed(app, route_resolver=resolver)("/built-in/1") == (200, "/built-in/{x}")
    assert reports == ["Routes.resolve"]


def test_the_resolver_sees_the_scope_after_the_framework_has_routed(routed, app):
    seen = []
    routed(app, route_resolver=lambda scope: seen.append(scope["path_params"]))("/built-in/1")

    assert seen == [{"x": "1"}]


def test_what_the_handler_sets_wins_over_every_resolver(routed, app):
    asked = []
    serve = routed(app, route_resolver=asked.append)

    assert serve("/choosing/1") == (200, "/chosen/{id}")
    assert asked == []


def test_a_scope_that_was_not_routed_has_no_template():
    async def app(scope, receive, send): ...

    assert Routes(app).resolve(http_scope()) is None
