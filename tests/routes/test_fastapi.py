"""The templates of FastAPI: included routers, sub-applications, and what it brings along."""

from __future__ import annotations

import sys

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route

from asgi_obs.routes.fastapi import expand_included


async def shared():
    return "shared"


async def one():
    return "one"


async def chunks():
    yield "chunk"


def leaf():
    """A router with one of everything, to be included."""
    router = APIRouter(prefix="/leaf")

    @router.get("/items/{item_id}")
    async def item(item_id: int):
        return item_id

    @router.get("/stream/{n}", dependencies=[Depends(one)])
    def stream(n: int):
        return StreamingResponse(chunks())

    @router.get("/fails/{n}")
    async def fails(n: int):
        raise LookupError

    @router.websocket("/talk/{room}")
    async def talk(websocket: WebSocket):
        await websocket.accept()
        await websocket.close()

    router.add_api_route("/shared/{x}", shared)
    router.routes.append(Mount("/mount/{level}", routes=[Route("/in/{y}", plain)]))
    router.routes.append(Route("/starlette/{z}", plain))
    router.get("/slash/")(one)
    return router


async def plain(request):
    return PlainTextResponse("plain")


def nested():
    middle = APIRouter(prefix="/middle/{m}")
    middle.include_router(leaf(), prefix="/more")
    middle.get("/own")(one)
    return middle


def sub_app():
    sub = FastAPI()
    sub.include_router(leaf())
    sub.get("/items/{item_id:int}")(shared)
    sub.mount("/starlette", Starlette(routes=[Route("/x/{x}", plain)]))
    return sub


@pytest.fixture
def main():
    app = FastAPI()
    once = leaf()
    app.include_router(once, prefix="/v1")
    app.include_router(once, prefix="/v2/{tenant}")
    app.include_router(nested(), prefix="/api")
    app.include_router(APIRouter(routes=[Mount("/included-mount", sub_app())]))
    app.get("/items/{item_id}")(one)
    app.get("/files/{path:path}")(one)
    app.add_api_route("/shared/{a}", shared)
    app.get("/slash/")(one)
    app.mount("/sub", sub_app())
    app.mount("/t/{tenant}", sub_app())
    app.mount("/starlette", Starlette(routes=[Mount("/fastapi", sub_app()), Route("/own/{x}", plain)]))
    app.router.routes.append(Host("api.example.org", sub_app()))

    @app.exception_handler(LookupError)
    async def handle(request, error):
        return PlainTextResponse("handled", status_code=418)

    return app


TABLE = [
    ("/items/1", 200, "/items/{item_id}"),
    ("/files/a/b", 200, "/files/{path}"),
    ("/shared/1", 200, "/shared/{a}"),
    ("/slash/", 200, "/slash/"),
    ("/slash", 307, None),
    ("/nowhere", 404, None),
    ("/docs", 200, "/docs"),
    ("/openapi.json", 200, "/openapi.json"),
    ("/v1/leaf/items/1", 200, "/v1/leaf/items/{item_id}"),
    ("/v1/leaf/items/x", 422, "/v1/leaf/items/{item_id}"),
    ("/v1/leaf/stream/1", 200, "/v1/leaf/stream/{n}"),
    ("/v1/leaf/fails/1", 418, "/v1/leaf/fails/{n}"),
    ("/v1/leaf/shared/1", 200, "/v1/leaf/shared/{x}"),
    ("/v1/leaf/slash", 307, None),
    ("/v1/leaf/nowhere", 404, None),
    ("/v2/acme/leaf/items/1", 200, "/v2/{tenant}/leaf/items/{item_id}"),
    ("/v2/acme/leaf/shared/1", 200, "/v2/{tenant}/leaf/shared/{x}"),
    ("/api/middle/7/own", 200, "/api/middle/{m}/own"),
    ("/api/middle/7/more/leaf/items/1", 200, "/api/middle/{m}/more/leaf/items/{item_id}"),
    ("/api/middle/7/more/leaf/nowhere", 404, None),
    ("/sub/items/1", 200, "/sub/items/{item_id}"),
    ("/sub/docs", 200, "/sub/docs"),
    ("/sub/nowhere", 404, None),
    ("/sub/leaf/items/1", 200, "/sub/leaf/items/{item_id}"),
    ("/sub/leaf/slash", 307, None),
    ("/sub/leaf/shared/1", 200, "/sub/leaf/shared/{x}"),
    ("/sub/starlette/x/1", 200, "/sub/starlette/x/{x}"),
    ("/t/acme/items/1", 200, "/t/{tenant}/items/{item_id}"),
    ("/t/acme/leaf/items/1", 200, "/t/{tenant}/leaf/items/{item_id}"),
    ("/t/acme/leaf/nowhere", 404, None),
    ("/starlette/own/1", 200, "/starlette/own/{x}"),
    ("/starlette/fastapi/leaf/items/1", 200, "/starlette/fastapi/leaf/items/{item_id}"),
    ("/starlette/fastapi/nowhere", 404, None),
]


@pytest.mark.parametrize(("path", "status", "template"), TABLE)
def test_the_template_of_a_path(routed, main, reports, path, status, template):
    assert routed(main)(path) == (status, template)
    assert reports == []


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/included-mount/items/1", "/included-mount/items/{item_id}"),
        ("/included-mount/leaf/items/1", "/included-mount/leaf/items/{item_id}"),
        ("/v1/leaf/mount/3/in/4", "/v1/leaf/mount/{level}/in/{y}"),
        ("/v2/acme/leaf/mount/3/in/4", "/v2/{tenant}/leaf/mount/{level}/in/{y}"),
        ("/v2/acme/leaf/starlette/3", "/v2/{tenant}/leaf/starlette/{z}"),
        ("/sub/leaf/mount/3/in/4", "/sub/leaf/mount/{level}/in/{y}"),
        ("/v1/leaf/mount/3/nowhere", None),
    ],
)
def test_the_template_of_a_mount_in_an_included_router(routed, main, reports, path, template):
    """FastAPI before 0.137 leaves such mounts out: it answers 404."""
    status, found = routed(main)(path)

    assert found == {200: template, 404: None}[status]
    assert reports == []


@pytest.mark.parametrize(("path", "status", "template"), TABLE)
def test_a_proxy_prefix_is_no_part_of_the_template(routed, main, path, status, template):
    assert routed(main)("/proxy" + path, root_path="/proxy") == (status, template)


@pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")
@pytest.mark.parametrize("path", ["/items/1", "/proxy/items/1"])
def test_the_root_path_of_the_application_is_no_part_of_the_template(routed, path):
    app = FastAPI(root_path="/proxy")
    app.get("/items/{item_id}")(one)
    app.mount("/sub", sub_app())

    assert routed(app)(path) == (200, "/items/{item_id}")
    assert routed(app)("/proxy/sub/leaf/items/1") == (200, "/sub/leaf/items/{item_id}")


@pytest.mark.parametrize(("path", "status", "template"), TABLE)
def test_a_middleware_that_copies_the_scope_changes_no_template(routed, main, path, status, template):
    class Copying:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            await self.app(dict(scope), receive, send)

    assert routed(Copying(main))(path) == (status, template)


def behind_base_http_middleware(app):
    async def dispatch(request, call_next):
        return await call_next(request)

    return BaseHTTPMiddleware(app, dispatch=dispatch)


@pytest.mark.parametrize(("path", "status", "template"), TABLE)
def test_base_http_middleware_in_between_changes_no_template(routed, main, path, status, template):
    assert routed(behind_base_http_middleware(main))(path) == (status, template)


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/items/1", "/items/{item_id}"),
        ("/v1/leaf/items/1", "/v1/leaf/items/{item_id}"),
        ("/api/middle/7/own", "/api/middle/{m}/own"),
        ("/sub/leaf/items/1", "/sub/leaf/items/{item_id}"),
    ],
)
def test_a_method_that_is_not_allowed_keeps_the_template(routed, main, path, template):
    assert routed(main)(path, "DELETE") == (405, template)


@pytest.mark.parametrize(
    ("path", "status", "template"),
    [
        ("/v1/leaf/talk/lobby", 101, "/v1/leaf/talk/{room}"),
        ("/v2/acme/leaf/talk/lobby", 101, "/v2/{tenant}/leaf/talk/{room}"),
        ("/sub/leaf/talk/lobby", 101, "/sub/leaf/talk/{room}"),
        ("/t/acme/leaf/talk/lobby", 101, "/t/{tenant}/leaf/talk/{room}"),
        ("/nowhere", 403, None),
    ],
)
def test_the_template_of_a_websocket(routed, main, reports, path, status, template):
    assert routed(main).websocket(path) == (status, template)
    assert reports == []


def test_hosts_are_no_part_of_the_template(routed, main):
    serve = routed(main)
    host = [(b"host", b"api.example.org")]

    assert serve("/leaf/items/1", headers=host) == (200, "/leaf/items/{item_id}")
    assert serve("/starlette/own/1", headers=host) == (200, "/starlette/own/{x}")
    assert serve("/leaf/nowhere", headers=host) == (404, None)


def test_a_preflight_that_never_reaches_the_router_has_at_most_its_template(routed, main):
    headers = [(b"origin", b"https://example.org"), (b"access-control-request-method", b"GET")]
    app = CORSMiddleware(main, allow_origins=["*"])

    status, template = routed(app)("/items/1", "OPTIONS", headers=headers)

    assert status == 200
    assert template in {"/items/{item_id}", None}


def test_routes_that_are_added_at_run_time_are_found(routed, main):
    serve = routed(main)
    assert serve("/late/leaf/items/1") == (404, None)
    assert serve("/sub/late/leaf/items/1") == (404, None)

    main.include_router(leaf(), prefix="/late")
    sub = next(route.app for route in main.routes if getattr(route, "path", "") == "/sub")
    sub.include_router(leaf(), prefix="/late")

    assert serve("/late/leaf/items/1") == (200, "/late/leaf/items/{item_id}")
    assert serve("/sub/late/leaf/items/1") == (200, "/sub/late/leaf/items/{item_id}")


def test_a_router_that_is_included_twice_at_run_time_is_found_twice(routed):
    router, sub = leaf(), FastAPI()
    sub.include_router(router, prefix="/a")
    app = FastAPI()
    app.mount("/sub", sub)
    serve = routed(app)
    assert serve("/sub/a/leaf/items/1") == (200, "/sub/a/leaf/items/{item_id}")

    sub.include_router(router, prefix="/b")

    assert serve("/sub/b/leaf/items/1") == (200, "/sub/b/leaf/items/{item_id}")


def test_without_fastapi_routes_stay_as_they_are(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi.routing", None)
    routes = [Route("/a", plain)]

    assert list(expand_included(routes)) == routes
