"""The templates of Starlette's routes, mounts and hosts."""

from __future__ import annotations

import asyncio
import functools

import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, requires
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Host, Match, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles

from asgi_obs.exchange import ExchangeMiddleware
from asgi_obs.routes import starlette as starlette_routes
from asgi_obs.testing import drive, http_scope


async def one(request):
    return PlainTextResponse("one")


async def two(request):
    return PlainTextResponse("two")


async def shared(request):
    return PlainTextResponse("shared")


async def partly(request, extra):
    return PlainTextResponse(extra)


class Class(HTTPEndpoint):
    async def get(self, request):
        return PlainTextResponse("class")


async def talk(websocket):
    await websocket.accept()
    await websocket.close()


class Talk(WebSocketEndpoint):
    async def on_connect(self, websocket):
        await websocket.close()


async def opaque(scope, receive, send):
    """An application that cannot be looked into."""
    await PlainTextResponse("opaque")(scope, receive, send)


def hidden(app):
    """A middleware that cannot be looked into, and what is behind it neither."""

    async def pass_on(scope, receive, send):
        await app(scope, receive, send)

    return pass_on


class Wrapper:
    """One that can: it keeps its application under `app`, as they all do."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)


class Copying(Wrapper):
    async def __call__(self, scope, receive, send):
        await self.app(dict(scope), receive, send)


def items(endpoint=one):
    return [Route("/items/{item_id:int}", endpoint)]


def sub_app():
    return Starlette(
        routes=[
            Route("/", one),
            Route("/items/{item_id:int}", two),
            Route("/slash/", one),
            WebSocketRoute("/talk/{room}", talk),
            Mount("/deep/{level}", routes=[Route("/files/{path:path}", one)]),
        ]
    )


def main_app(directory):
    twice = Starlette(routes=items(two))
    return Starlette(
        routes=[
            Route("/", one),
            Route("/items/{item_id:int}", one, methods=["GET"]),
            Route("/files/{path:path}", one),
            Route("/class/{name}", Class),
            Route("/partial/{name}", functools.partial(partly, extra="x")),
            Route("/wrapped/{name}", one, middleware=[Middleware(GZipMiddleware)]),
            Route("/slash/", one),
            Route("/shared/a/{x}", shared),
            Route("/shared/b/{y}", shared),
            WebSocketRoute("/talk/{room}", talk),
            WebSocketRoute("/class-talk", Talk),
            Mount("/sub", sub_app()),
            Mount("/t/{tenant}", sub_app()),
            Mount("/first", twice),
            Mount("/second/{n}", twice),
            Mount("/routes", routes=[Route("/shared/{z}", shared), Route("/also/{z}", shared)]),
            Mount("/outer", routes=[Mount("/inner/{id:int}", routes=items())]),
            Mount("/wrapped-app", Wrapper(GZipMiddleware(sub_app()))),
            Mount("/with-middleware", routes=items(), middleware=[Middleware(GZipMiddleware)]),
            Mount("/bare-router", Router(routes=items())),
            Mount("/static", StaticFiles(directory=directory)),
            Mount("/opaque/{id}", opaque),
            Host("{name}.example.org", Router(routes=[Route("/host/{x}", two), Mount("/m", routes=items())])),
            Route("/after-the-host/{x}", one),
        ]
    )


TABLE = [
    ("/", 200, "/"),
    ("/items/1", 200, "/items/{item_id}"),
    ("/files/a/b/c", 200, "/files/{path}"),
    ("/files/", 200, "/files/{path}"),
    ("/class/a", 200, "/class/{name}"),
    ("/partial/a", 200, "/partial/{name}"),
    ("/wrapped/a", 200, "/wrapped/{name}"),
    ("/shared/a/1", 200, "/shared/a/{x}"),
    ("/shared/b/1", 200, "/shared/b/{y}"),
    ("/slash/", 200, "/slash/"),
    ("/slash", 307, None),
    ("/nowhere", 404, None),
    ("/items/not-a-number", 404, None),
    ("/sub/", 200, "/sub/"),
    ("/sub/items/1", 200, "/sub/items/{item_id}"),
    ("/sub/slash", 307, None),
    ("/sub/nowhere", 404, None),
    ("/sub/items/not-a-number", 404, None),
    ("/sub/deep/3/files/a/b", 200, "/sub/deep/{level}/files/{path}"),
    ("/sub/deep/3/nowhere", 404, None),
    ("/t/acme/items/1", 200, "/t/{tenant}/items/{item_id}"),
    ("/t/items/items/1", 200, "/t/{tenant}/items/{item_id}"),
    ("/t/acme/nowhere", 404, None),
    ("/t/acme/deep/3/files/x", 200, "/t/{tenant}/deep/{level}/files/{path}"),
    ("/first/items/1", 200, "/first/items/{item_id}"),
    ("/second/1/items/1", 200, "/second/{n}/items/{item_id}"),
    ("/second/1/nowhere", 404, None),
    ("/routes/shared/1", 200, "/routes/shared/{z}"),
    ("/routes/also/1", 200, "/routes/also/{z}"),
    ("/outer/inner/5/items/1", 200, "/outer/inner/{id}/items/{item_id}"),
    ("/outer/inner/5/nowhere", 404, None),
    ("/wrapped-app/items/1", 200, "/wrapped-app/items/{item_id}"),
    ("/wrapped-app/nowhere", 404, None),
    ("/with-middleware/items/1", 200, "/with-middleware/items/{item_id}"),
    ("/bare-router/items/1", 200, "/bare-router/items/{item_id}"),
    ("/static/file.txt", 200, "/static/{path}"),
    ("/opaque/7/what/ever", 200, "/opaque/{id}/{path}"),
    ("/after-the-host/1", 200, "/after-the-host/{x}"),
]


@pytest.fixture
def main(tmp_path):
    (tmp_path / "file.txt").write_text("x")
    return main_app(tmp_path)


@pytest.mark.parametrize(("path", "status", "template"), TABLE)
def test_the_template_of_a_path(routed, main, reports, path, status, template):
    assert routed(main)(path) == (status, template)
    assert reports == []


@pytest.mark.parametrize(("path", "status", "template"), TABLE)
def test_a_proxy_prefix_that_the_path_includes_is_no_part_of_the_template(routed, main, path, status, template):
    """As uvicorn has it: `--root-path /proxy` puts the prefix in front of the path."""
    assert routed(main)("/proxy" + path, root_path="/proxy") == (status, template)


@pytest.mark.parametrize(("path", "status", "template"), TABLE[:13])
def test_a_proxy_prefix_that_was_stripped_is_no_part_of_the_template(routed, main, path, status, template):
    """Starlette itself cannot route into mounts then: only the paths before the first mount are asked for."""
    assert routed(main)(path, root_path="/proxy") == (status, template)


@pytest.mark.parametrize(("path", "status", "template"), TABLE)
def test_a_middleware_that_copies_the_scope_changes_no_template(routed, main, path, status, template):
    assert routed(Copying(main))(path) == (status, template)


@pytest.mark.parametrize(("path", "status", "template"), TABLE)
def test_a_copied_scope_changes_no_template_when_it_is_joined_below(routed, main, path, status, template):
    async def copying(scope, receive, send):
        await joined(dict(scope), receive, send)

    joined = ExchangeMiddleware(main)

    assert routed(copying)(path) == (status, template)


@pytest.mark.parametrize("wrap", [hidden, Wrapper, GZipMiddleware], ids=lambda wrap: wrap.__name__)
def test_middlewares_in_between_change_no_template(routed, main, wrap):
    assert routed(wrap(main))("/t/acme/items/1") == (200, "/t/{tenant}/items/{item_id}")


def test_a_method_that_is_not_allowed_keeps_the_template(routed, main):
    serve = routed(main)

    assert serve("/items/1", "DELETE") == (405, "/items/{item_id}")
    assert serve("/sub/items/1", "DELETE") == (405, "/sub/items/{item_id}")
    assert serve("/class/a", "DELETE") == (405, "/class/{name}")


def test_head_and_unknown_methods_are_routed_as_any_other(routed, main):
    serve = routed(main)

    assert serve("/items/1", "HEAD") == (200, "/items/{item_id}")
    assert serve("/items/1", "BREW") == (405, "/items/{item_id}")


@pytest.mark.parametrize(
    ("path", "status", "template"),
    [
        ("/talk/lobby", 101, "/talk/{room}"),
        ("/class-talk", 403, "/class-talk"),
        ("/sub/talk/lobby", 101, "/sub/talk/{room}"),
        ("/t/acme/talk/lobby", 101, "/t/{tenant}/talk/{room}"),
        ("/nowhere", 403, None),
        ("/sub/nowhere", 403, None),
    ],
)
def test_the_template_of_a_websocket(routed, main, reports, path, status, template):
    assert routed(main).websocket(path) == (status, template)
    assert reports == []


def test_hosts_are_no_part_of_the_template(routed, main, reports):
    serve = routed(main)
    host = [(b"host", b"acme.example.org")]

    assert serve("/host/1", headers=host) == (200, "/host/{x}")
    assert serve("/m/items/1", headers=host) == (200, "/m/items/{item_id}")
    assert serve("/nowhere", headers=host) == (404, None)
    assert reports == []


@pytest.mark.parametrize("wrap", [Wrapper, Copying], ids=lambda wrap: wrap.__name__)
def test_a_mount_without_a_prefix_adds_nothing_to_the_template(routed, wrap):
    serve = routed(wrap(Starlette(routes=[Route("/a/{x}", one), Mount("", routes=[Route("/b/{x}", two)])])))

    assert serve("/a/1") == (200, "/a/{x}")
    assert serve("/b/1") == (200, "/b/{x}")
    assert serve("/c/1") == (404, None)


def test_a_router_without_an_application_has_templates(routed):
    assert routed(Router(routes=[*items(), Mount("/sub", sub_app())]))("/sub/items/1") == (
        200,
        "/sub/items/{item_id}",
    )


def test_a_middleware_between_mount_and_application_sees_the_whole_template(routed):
    sub = routed(sub_app())
    app = Starlette(routes=[Mount("/t/{tenant}", sub.stack)])

    assert routed(app)("/t/acme/items/1") == (200, "/t/{tenant}/items/{item_id}")


def test_a_middleware_inside_a_mount_alone_sees_the_whole_template(routed):
    sub = routed(sub_app())
    asyncio.run(drive(Starlette(routes=[Mount("/t/{tenant}", sub.stack)]), http_scope("/t/acme/items/1")))

    assert sub.ends.exchange.route == "/t/{tenant}/items/{item_id}"


# Routes that change


def test_routes_that_are_added_at_run_time_are_found(routed):
    mounted = Starlette(routes=items())
    app = Starlette(routes=[Mount("/sub", mounted)])
    serve = routed(app)
    assert serve("/sub/items/1") == (200, "/sub/items/{item_id}")
    assert serve("/sub/new/1") == (404, None)

    mounted.router.routes.append(Route("/new/{x}", two))
    app.router.routes.append(Mount("/late/{y}", sub_app()))

    assert serve("/sub/new/1") == (200, "/sub/new/{x}")
    assert serve("/late/1/items/1") == (200, "/late/{y}/items/{item_id}")


def test_a_second_path_that_is_added_to_a_known_endpoint_at_run_time_is_found(routed):
    mounted = Starlette(routes=[Route("/old/{x}", shared)])
    serve = routed(Starlette(routes=[Mount("/sub", mounted)]))
    assert serve("/sub/old/1") == (200, "/sub/old/{x}")

    mounted.router.routes.append(Route("/new/{x}", shared))

    assert serve("/sub/new/1") == (200, "/sub/new/{x}")
    assert serve("/sub/old/1") == (200, "/sub/old/{x}")


def test_a_mount_that_is_added_twice_at_run_time_is_found_twice(routed):
    mounted = Starlette(routes=items())
    app = Starlette(routes=[Mount("/one", mounted)])
    serve = routed(app)
    assert serve("/one/items/1") == (200, "/one/items/{item_id}")

    app.router.routes.append(Mount("/two", mounted))

    assert serve("/two/items/1") == (200, "/two/items/{item_id}")


# Endpoints with several paths


def test_one_endpoint_under_two_paths_is_told_apart_by_its_method(routed):
    routes = [Route("/items/{id}", shared, methods=["GET"]), Route("/items/special", shared, methods=["POST"])]
    serve = routed(Starlette(routes=[Mount("/sub", routes=routes)]))

    assert serve("/sub/items/special", "POST") == (200, "/sub/items/special")
    assert serve("/sub/items/special", "GET") == (200, "/sub/items/{id}")


def test_a_copied_scope_is_matched_by_its_method(routed):
    app = Starlette(routes=[Route("/items/{id}", one), Route("/items/special", two, methods=["POST"])])

    assert routed(Copying(app))("/items/special", "POST") == (200, "/items/special")


def test_a_copied_scope_is_matched_by_its_protocol(routed):
    app = Starlette(routes=[Route("/{anything}", one), WebSocketRoute("/talk", talk)])

    assert routed(Copying(app)).websocket("/talk") == (101, "/talk")


def test_a_copied_scope_is_matched_by_its_host(routed):
    hosts = [
        Host("a.example", Router(routes=[Route("/{a}", one)])),
        Host("b.example", Router(routes=[Route("/x", two)])),
    ]

    assert routed(Copying(Starlette(routes=hosts)))("/x", headers=[(b"host", b"b.example")]) == (200, "/x")


@pytest.mark.parametrize("wrap", [Wrapper, Copying], ids=lambda wrap: wrap.__name__)
def test_a_404_inside_a_mount_has_no_template_whatever_comes_after_the_mount(routed, wrap):
    app = Starlette(routes=[Mount("/sub", routes=items()), Route("/{rest:path}", two)])

    assert routed(wrap(app))("/sub/nowhere") == (404, None)


def test_a_prefix_is_a_prefix_of_whole_segments(routed):
    """A proxy's `/api` has nothing to do with the application's own `/apiary`."""
    app = Starlette(routes=[Route("/apiary/{bee}", shared), Route("/hive/{bee}", shared)])

    assert routed(app)("/apiary/1", root_path="/api") == (200, "/apiary/{bee}")
    assert routed(Copying(app))("/apiary/1", root_path="/api") == (200, "/apiary/{bee}")


class Never(BaseRoute):
    """A route of the user's own kind: it has neither an endpoint nor an application."""

    def matches(self, scope):
        return Match.NONE, {}


def test_routes_of_another_kind_are_passed_over(routed, reports):
    serve = routed(Starlette(routes=[Never(), Mount("/sub", routes=[Never(), *items()])]))

    assert serve("/sub/items/1") == (200, "/sub/items/{item_id}")
    assert reports == []


# Applications that cannot be looked into


def test_a_mounted_application_behind_an_opaque_middleware_has_a_bounded_template(routed, reports):
    serve = routed(Starlette(routes=[Mount("/t/{tenant}", hidden(sub_app()))]))

    templates = {serve(f"/t/{n}/items/{n}") for n in range(5)}

    assert templates <= {(200, "/t/{tenant}/items/{item_id}"), (200, "/t/{tenant}/{path}"), (200, None)}
    assert len(templates) == 1
    assert reports == []


def test_no_template_is_told_that_leaves_out_a_mount_behind_an_opaque_middleware(routed):
    serve = routed(Starlette(routes=[Mount("/x", hidden(sub_app()))]))

    assert serve("/x/deep/3/files/a")[1] in {"/x/deep/{level}/files/{path}", "/x/{path}", None}


def test_an_endpoint_that_is_also_found_elsewhere_does_not_lend_its_template(routed):
    """The same health check at the top and in an application that cannot be looked into."""
    app = Starlette(routes=[Route("/health", one), Mount("/x", hidden(Starlette(routes=[Route("/ping", one)])))])

    assert routed(app)("/x/ping")[1] in {"/x/ping", "/x/{path}", None}


def test_a_middleware_inside_a_mount_that_copies_the_scope_hides_no_template(routed):
    app = Starlette(routes=[Mount("/t/{tenant}", Copying(sub_app()))])

    assert routed(app)("/t/acme/items/1") == (200, "/t/{tenant}/items/{item_id}")


def test_endpoints_made_for_one_request_only_stay_bounded(routed, monkeypatch):
    monkeypatch.setattr(starlette_routes, "MAX_STRANGERS", 3)

    async def sub(scope, receive, send):
        async def endpoint(request):
            return PlainTextResponse("x")

        await Starlette(routes=[Route("/items/{id}", endpoint)])(scope, receive, send)

    serve = routed(Starlette(routes=[Mount("/x/{y}", sub)]))
    templates = {serve(f"/x/{n}/items/{n}")[1] for n in range(10)}

    assert len(templates) == 1


def test_looking_for_strangers_comes_to_an_end(routed, monkeypatch):
    """Past the number that is remembered, a request for one more does not walk through all routes again."""
    monkeypatch.setattr(starlette_routes, "MAX_STRANGERS", 3)
    walks = []
    walk = starlette_routes._walk
    monkeypatch.setattr(starlette_routes, "_walk", lambda *args: walks.append(args) or walk(*args))

    async def sub(scope, receive, send):
        scope["endpoint"] = object()
        await opaque(scope, receive, send)

    serve = routed(Starlette(routes=[Mount("/x", sub)]))
    for n in range(20):
        serve(f"/x/{n}")

    assert len(walks) < 10


def test_routers_made_at_run_time_stay_bounded(routed, monkeypatch):
    monkeypatch.setattr(starlette_routes, "MAX_INDEXES", 2)

    async def app(scope, receive, send):
        await Starlette(routes=[Mount("/x", routes=items())])(scope, receive, send)

    serve = routed(app)

    assert {serve("/x/items/1") for _ in range(5)} == {(200, "/x/items/{item_id}")}
    resolver = serve.stack._routes._resolvers[-1]
    assert len(resolver._indexes) <= 2


def test_mounts_without_an_end_are_looked_through_to_a_depth(routed):
    app = Starlette()
    app.router.routes.extend([Mount("/again", app), *items()])
    serve = routed(app)

    assert serve("/again/again/items/1") == (200, "/again/again/items/{item_id}")
    assert serve("/again" * 40 + "/items/1") == (200, None)


@pytest.mark.parametrize("mounted", [GZipMiddleware, Wrapper])
def test_middlewares_without_an_end_are_unwrapped_to_a_depth(routed, mounted):
    class Loop:
        @property
        def app(self):
            return self

        async def __call__(self, scope, receive, send):
            await opaque(scope, receive, send)

    assert routed(Starlette(routes=[Mount("/x", mounted(Loop()))]))("/x/1") == (200, "/x/{path}")


# Other applications, and scopes that are not what they seem


def test_an_application_that_is_not_starlettes_has_no_template(routed, reports):
    assert routed(opaque)("/a") == (200, None)
    assert routed(Wrapper(opaque))("/a") == (200, None)
    assert reports == []


class Hostile:
    """Raises whatever is asked of it."""

    @property
    def endpoint(self):
        raise RuntimeError("endpoint")

    get = routes = endpoint


class Route5:
    endpoint = "endpoint"
    path_format = 5


class RouteNone:
    endpoint = "endpoint"
    path_format = None


@pytest.mark.parametrize("key", ["route", "fastapi", "endpoint", "router", "root_path", "app_root_path", "app"])
@pytest.mark.parametrize(
    "garbage", [None, 5, "text", {}, [], {"effective_route_context": 5}, Hostile(), Route5, RouteNone]
)
@pytest.mark.parametrize("more", [{}, {"endpoint": "endpoint"}, {"endpoint": "endpoint", "router": Starlette()}])
def test_garbage_in_the_scope_is_no_template_and_no_exception(routed, key, garbage, more):
    async def app(scope, receive, send):
        scope.update(more)
        scope[key] = garbage
        await opaque({"type": "http", "method": "GET", "headers": []}, receive, send)

    assert routed(app)("/a") == (200, None)


@requires("never")
async def guarded(request):
    """Not reached: its decorator answers."""


def test_a_decorated_endpoint_has_its_template(routed):
    async def app(scope, receive, send):
        scope["auth"] = AuthCredentials()
        await inner(scope, receive, send)

    inner = Starlette(routes=[Route("/guarded/{x}", guarded)])

    assert routed(app)("/guarded/1") == (403, "/guarded/{x}")


def test_a_copied_scope_is_followed_to_a_depth(routed, monkeypatch):
    monkeypatch.setattr(starlette_routes, "MAX_DEPTH", 2)
    deep = Mount("/a", routes=[Mount("/b", routes=[Mount("/c", routes=items())])])

    assert routed(Copying(Starlette(routes=[deep])))("/a/b/c/items/1") == (200, None)
