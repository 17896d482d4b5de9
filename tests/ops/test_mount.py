"""The ops paths in front of other applications."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import Exchange, ExchangeMiddleware
from asgi_obs.ops import OpsApp, OpsMount, mount_ops
from asgi_obs.settings import Settings
from asgi_obs.testing import drive, http_scope, websocket_scope
from asgi_obs.types import Message, Observer, Receive, Scope, Send

pytestmark = pytest.mark.anyio

PATHS = ("/metrics", "/health", "/health/ready", "/health/live")
ANSWERED = object()


class Inner:
    """An application that remembers what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Scope, Receive, Send]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> object:
        self.calls.append((scope, receive, send))
        return ANSWERED


def make_ops() -> OpsApp:
    return OpsApp(registry=CollectorRegistry())


async def receive() -> Message:
    raise AssertionError  # pragma: no cover - nobody reads


async def send(message: Message) -> None:
    raise AssertionError  # pragma: no cover - nobody sends


class Watch(Observer):
    def __init__(self) -> None:
        self.seen: list[tuple[str | None, bool]] = []

    def on_end(self, exchange: Exchange) -> None:
        self.seen.append((exchange.route, exchange.operational))


@pytest.mark.parametrize("prefix", ["", "/internal", "/a/b"])
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("path", PATHS)
async def test_the_ops_paths_are_served_in_front(prefix: str, path: str, slash: str) -> None:
    inner = Inner()
    sent = await drive(mount_ops(inner, make_ops(), prefix), http_scope(prefix + path + slash))
    assert sent[0]["status"] == 200
    assert inner.calls == []


@pytest.mark.parametrize(
    "path",
    ["/", "/metric", "/metrics//", "/health/other", "/internal", "/internal/", "/internal/other", "/items/1", ""],
)
@pytest.mark.parametrize("prefix", ["", "/internal"])
async def test_every_other_path_passes_through_untouched(prefix: str, path: str) -> None:
    inner = Inner()
    scope = http_scope(path)
    before = dict(scope)
    assert await mount_ops(inner, make_ops(), prefix)(scope, receive, send) is ANSWERED
    assert inner.calls == [(scope, receive, send)]
    assert inner.calls[0][0] is scope
    assert scope == before


async def test_with_a_prefix_the_bare_paths_belong_to_the_application() -> None:
    inner = Inner()
    await mount_ops(inner, make_ops(), "/internal")(http_scope("/metrics"), receive, send)
    assert len(inner.calls) == 1


@pytest.mark.parametrize(
    "scope",
    [websocket_scope("/health"), {"type": "unknown"}],
    ids=lambda s: s["type"],
)
async def test_websockets_and_the_unknown_pass_through(scope: Scope) -> None:
    inner = Inner()
    assert await mount_ops(inner, make_ops())(scope, receive, send) is ANSWERED
    assert inner.calls == [(scope, receive, send)]


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_other_methods_on_the_ops_paths_do_not_reach_the_application(method: str) -> None:
    inner = Inner()
    sent = await drive(mount_ops(inner, make_ops()), http_scope("/health", method))
    assert sent[0]["status"] == 405
    assert inner.calls == []


@pytest.mark.parametrize("path", ["/api/internal/health", "/internal/health"])
async def test_a_prefix_of_the_proxy_may_be_in_the_path_or_not(path: str) -> None:
    sent = await drive(mount_ops(Inner(), make_ops(), "/internal"), http_scope(path, root_path="/api"))
    assert sent[0]["status"] == 200


async def test_the_route_is_the_path_without_slash_and_proxy() -> None:
    watch = Watch()
    app = ExchangeMiddleware(mount_ops(FastAPI(), make_ops(), "/internal"), observers=[watch])
    await drive(app, http_scope("/api/internal/health/ready/", root_path="/api"))
    await drive(app, http_scope("/internal/metrics"))
    await drive(app, http_scope("/internal/unknown"))
    assert watch.seen == [("/internal/health/ready", True), ("/internal/metrics", True), (None, False)]


async def test_the_routes_of_the_application_behind_it_are_found() -> None:
    watch = Watch()
    api = FastAPI()

    @api.get("/items/{item_id}")
    async def item(item_id: int) -> int:
        return item_id

    sent = await drive(ExchangeMiddleware(mount_ops(api, make_ops()), observers=[watch]), http_scope("/items/3"))
    assert sent[0]["status"] == 200
    assert watch.seen == [("/items/{item_id}", False)]


def test_the_application_behind_it_can_be_seen() -> None:
    inner = Inner()
    assert mount_ops(inner, make_ops()).app is inner


@pytest.mark.parametrize("prefix", ["internal", "/", "/internal/", "/{tenant}", "//a", "/a b", "/a?b", None, "/a\n"])
def test_a_prefix_that_is_no_path_is_refused(prefix: Any) -> None:
    with pytest.raises(ConfigurationError, match="prefix="):
        mount_ops(Inner(), make_ops(), prefix)


def test_an_application_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="app="):
        mount_ops("app", make_ops())  # type: ignore[arg-type]


def test_only_an_ops_app_can_be_mounted() -> None:
    with pytest.raises(ConfigurationError, match="ops="):
        OpsMount(Inner(), Inner())  # type: ignore[arg-type]


async def test_a_group_is_served_below_health_and_nothing_else_is() -> None:
    watch, inner = Watch(), Inner()
    ops = make_ops()
    ops.health.add("database", lambda: True)
    ops.health.group("storage", ["database"])
    app = ExchangeMiddleware(mount_ops(inner, ops, "/internal"), observers=[watch])

    assert (await drive(app, http_scope("/internal/health/storage")))[0]["status"] == 200
    await drive(app, http_scope("/internal/health/other"))

    assert watch.seen == [("/internal/health/{group}", True), (None, False)]
    assert len(inner.calls) == 1


@pytest.mark.parametrize("aliases", [True, False])
@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_the_aliases_of_the_probes_are_an_option(path: str, *, aliases: bool) -> None:
    inner = Inner()
    ops = OpsApp(registry=CollectorRegistry(), settings=Settings(probe_aliases=aliases))

    await drive(mount_ops(inner, ops), http_scope(path))

    assert len(inner.calls) == (0 if aliases else 1)


@pytest.mark.parametrize("endpoint", ["metrics", "health", "ready", "live"])
async def test_every_endpoint_has_its_switch(endpoint: str) -> None:
    paths = {"metrics": "/metrics", "health": "/health", "ready": "/health/ready", "live": "/health/live"}
    others = [name for name in paths if name != endpoint]
    inner = Inner()
    mounted = mount_ops(inner, OpsApp(registry=CollectorRegistry(), settings=Settings(ops_endpoints=others)))

    for name in others:
        assert (await drive(mounted, http_scope(paths[name])))[0]["status"] == 200
    assert inner.calls == []
    await drive(mounted, http_scope(paths[endpoint]))
    assert len(inner.calls) == 1


@pytest.mark.parametrize("path", ["/info", "/loggers", "/loggers/root", "/tasks"])
async def test_without_a_credential_there_is_no_control(path: str) -> None:
    inner = Inner()

    await drive(mount_ops(inner, make_ops()), http_scope(path))

    assert len(inner.calls) == 1


async def test_the_prefix_is_that_of_the_settings_unless_it_is_given() -> None:
    ops = OpsApp(registry=CollectorRegistry(), settings=Settings(ops_prefix="/internal"))

    for mounted, path in (
        (mount_ops(Inner(), ops), "/internal/health"),
        (mount_ops(Inner(), ops, "/own"), "/own/health"),
    ):
        assert (await drive(mounted, http_scope(path)))[0]["status"] == 200


async def test_with_a_credential_which_groups_there_are_is_told_to_nobody_else() -> None:
    inner = Inner()
    mounted = mount_ops(inner, OpsApp(registry=CollectorRegistry(), settings=Settings(ops_token="t0p")))

    assert (await drive(mounted, http_scope("/health/other")))[0]["status"] == 401
    assert inner.calls == []
