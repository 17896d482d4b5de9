"""The ops app: its paths, its answers, and where it can be mounted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, CollectorRegistry, Counter
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import Exchange, ExchangeMiddleware
from asgi_obs.health import CheckResult, HealthRegistry
from asgi_obs.ops import OpsApp
from asgi_obs.settings import Settings
from asgi_obs.testing import drive, http_scope, websocket_scope
from asgi_obs.types import ASGIApp, Observer

pytestmark = pytest.mark.anyio

PATHS = ("/metrics", "/health", "/health/ready", "/health/live")


def make_ops(health: HealthRegistry | None = None, **options: Any) -> OpsApp:
    settings = Settings(service_name="shop", version="1.2.3", environment="testing", **options)
    return OpsApp(health=health, registry=CollectorRegistry(), settings=settings)


def make_health(**answers: Any) -> HealthRegistry:
    """A registry whose checks return these answers, or raise them."""
    health = HealthRegistry()
    for name, answer in answers.items():
        health.add(name, _giving(answer))
    return health


def _giving(answer: Any) -> Any:
    async def check() -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return check


async def request(app: ASGIApp, path: str, method: str = "GET", **more: Any) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://ops") as client:
        return await client.request(method, path, **more)


async def test_health_has_the_shape_of_the_guide() -> None:
    response = await request(make_ops(make_health(database=True, cache=None)), "/health")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["status", "version", "checks", "timestamp"]
    assert (body["status"], body["version"]) == ("healthy", "1.2.3")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["timestamp"])
    assert list(body["checks"]) == ["database", "cache"]
    for check in body["checks"].values():
        assert list(check) == ["status", "message", "duration_ms"]
        assert isinstance(check["duration_ms"], float)


async def test_a_service_without_checks_is_healthy_ready_and_alive() -> None:
    ops = make_ops()
    assert (await request(ops, "/health")).json()["checks"] == {}
    ready = await request(ops, "/health/ready")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    live = await request(ops, "/health/live")
    assert (live.status_code, live.json()) == (200, {"status": "alive"})


async def test_an_unhealthy_service_answers_503_with_the_details() -> None:
    ops = make_ops(make_health(database=OSError("port 5432"), cache=True))
    response = await request(ops, "/health")
    assert response.status_code == 503
    assert response.json()["status"] == "unhealthy"
    assert response.json()["checks"]["database"]["message"] == "OSError: port 5432"
    assert response.json()["checks"]["cache"]["status"] == "healthy"


async def test_a_degraded_service_answers_200() -> None:
    response = await request(make_ops(make_health(memory=CheckResult.degraded("slow"))), "/health")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert response.json()["checks"]["memory"]["message"] == "slow"


async def test_a_service_that_is_not_ready_answers_503_with_the_checks_it_depends_on() -> None:
    health = make_health(database=False)
    health.add("statistics", _giving(answer=False), readiness=False)
    response = await request(make_ops(health), "/health/ready")
    assert response.status_code == 503
    assert response.json()["status"] == "not_ready"
    assert list(response.json()["checks"]) == ["database"]


async def test_a_degraded_service_is_ready() -> None:
    response = await request(make_ops(make_health(memory=CheckResult.degraded("slow"))), "/health/ready")
    assert (response.status_code, response.json()) == (200, {"status": "ready"})


async def test_a_draining_service_is_not_ready_says_why_and_is_alive() -> None:
    health = HealthRegistry()
    ops = make_ops(health)
    health.set_not_ready("shutting down")
    response = await request(ops, "/health/ready")
    assert response.status_code == 503
    assert response.json() == {"status": "not_ready", "state": "draining", "reason": "shutting down", "checks": {}}
    assert (await request(ops, "/health/live")).status_code == 200
    health.set_ready()
    assert (await request(ops, "/health/ready")).status_code == 200


async def test_liveness_runs_no_check() -> None:
    calls: list[int] = []
    health = HealthRegistry()
    health.add("database", lambda: calls.append(1))
    await request(make_ops(health), "/health/live")
    assert calls == []


async def test_metrics_have_those_of_process_service_and_health() -> None:
    ops = make_ops(make_health(database=True))
    Counter("orders_total", "Orders.", registry=ops.registry).inc()
    await request(ops, "/health")
    response = await request(ops, "/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    for line in (
        "orders_total 1.0",
        'health_status{service="shop"} 1.0',
        'health_check_status{check="database"} 1.0',
        "process_cpu_usage_percent ",
        "process_memory_usage_bytes ",
        'service_info{environment="testing",name="shop",version="1.2.3"} 1.0',
    ):
        assert f"\n{line}" in response.text


async def test_metrics_come_as_compressed_openmetrics_when_asked_for() -> None:
    headers = {"accept": "application/openmetrics-text; version=1.0.0", "accept-encoding": "gzip"}
    response = await request(make_ops(), "/metrics", headers=headers)
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    names = [family.name for family in openmetrics.text_string_to_metric_families(response.text)]
    assert "process_memory_usage_bytes" in names


async def test_of_several_accept_headers_all_count() -> None:
    headers = [("accept", "application/json"), ("accept", "application/openmetrics-text")]
    response = await request(make_ops(), "/metrics", headers=headers)
    assert response.headers["content-type"].startswith("application/openmetrics-text")


async def test_metrics_can_be_selected_by_name() -> None:
    ops = make_ops()
    Counter("orders_total", "Orders.", registry=ops.registry)
    Counter("returns_total", "Returns.", registry=ops.registry)
    response = await request(ops, "/metrics?name[]=orders_total&name[]=service_info")
    samples = {line.partition("{")[0].split()[0] for line in response.text.splitlines() if not line.startswith("#")}
    assert samples == {"orders_total", "service_info"}


@pytest.mark.parametrize("path", PATHS)
async def test_every_path_is_served_with_and_without_a_slash_and_never_redirects(path: str) -> None:
    ops = make_ops()
    for variant in (path, path + "/"):
        assert (await request(ops, variant)).status_code == 200


@pytest.mark.parametrize("path", PATHS)
async def test_head_has_the_headers_of_get_and_no_body(path: str) -> None:
    ops = make_ops()
    get, head = await request(ops, path), await request(ops, path, "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert list(head.headers) == list(get.headers)
    assert int(head.headers["content-length"]) > 0
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize("path", PATHS)
async def test_no_answer_is_cached_or_guessed_at(path: str) -> None:
    response = await request(make_ops(), path)
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
async def test_other_methods_are_refused_with_those_allowed(method: str) -> None:
    response = await request(make_ops(), "/metrics", method)
    assert (response.status_code, response.json()) == (405, {"detail": "Method Not Allowed"})
    assert response.headers["allow"] == "HEAD, GET"


@pytest.mark.parametrize("path", ["/", "/metric", "/metrics//", "/health/unknown", "//health", "/Health"])
async def test_other_paths_are_not_found(path: str) -> None:
    response = await request(make_ops(), f"http://ops{path}")
    assert (response.status_code, response.json()) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize("prefix", ["/ops", "/a/b", "/health", "/metrics"])
@pytest.mark.parametrize("kind", ["fastapi", "starlette", "nested"])
async def test_it_can_be_mounted_at_any_prefix(kind: str, prefix: str) -> None:
    ops = make_ops()
    app: ASGIApp
    if kind == "fastapi":
        app = api = FastAPI()
        api.mount(prefix, ops)
    elif kind == "starlette":
        app = Starlette(routes=[Mount(prefix, app=ops)])
    else:
        app = Starlette(routes=[Mount("/t/{tenant}", app=Starlette(routes=[Mount(prefix, app=ops)]))])
        prefix = "/t/acme" + prefix
    for path in PATHS:
        for variant in (path, path + "/"):
            assert (await request(app, prefix + variant)).status_code == 200
    assert (await request(app, prefix + "/unknown")).json() == {"detail": "Not Found"}


@pytest.mark.parametrize(
    ("root_path", "path"),
    [
        ("/api", "/api/health"),  # the server leaves the prefix in the path
        ("/api", "/health"),  # it has taken the prefix out
        ("/api/", "/api/health"),
        ("/heal", "/health"),
    ],
)
async def test_a_prefix_of_the_proxy_is_no_part_of_the_path(root_path: str, path: str) -> None:
    sent = await drive(make_ops(), http_scope(path, root_path=root_path))
    assert sent[0]["status"] == 200


async def test_a_request_to_it_is_marked_as_operational() -> None:
    seen: list[bool] = []

    class Watch(Observer):
        def on_end(self, exchange: Exchange) -> None:
            seen.append(exchange.operational)

    api = FastAPI()
    api.mount("/ops", make_ops())
    app = ExchangeMiddleware(api, observers=[Watch()])
    await request(app, "/ops/health")
    await request(app, "/unknown")
    assert seen == [True, False]


async def test_what_cannot_be_rendered_is_a_500_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def collect(self) -> Iterator[Metric]:
            raise RuntimeError("no metrics today")

    monkeypatch.setattr("asgi_obs.errors._last_logged", {})
    ops = make_ops()
    ops.registry.register(Broken())
    response = await request(ops, "/metrics")
    assert (response.status_code, response.json()) == (500, {"detail": "Internal Server Error"})
    assert "OpsApp.metrics failed" in caplog.text
    assert (await request(ops, "/health")).status_code == 200


async def test_a_client_that_has_left_is_for_the_server_to_handle() -> None:
    async def send(message: object) -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await make_ops()(http_scope("/health/live"), _never, send)


async def _never() -> Any:
    raise AssertionError  # pragma: no cover - the ops app reads no body


async def test_interleaved_probes_get_their_own_answers() -> None:
    health = HealthRegistry()
    began, may_end = anyio.Event(), anyio.Event()

    @health.check("database", readiness=False)
    async def database() -> bool:
        began.set()
        await may_end.wait()
        return False

    ops = make_ops(health)
    answers: dict[str, int] = {}

    async def probe(path: str) -> None:
        answers[path] = (await request(ops, path)).status_code

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(probe, "/health")
        await began.wait()
        await probe("/health/ready")
        await probe("/health/live")
        await probe("/unknown")
        assert "/health" not in answers
        may_end.set()
    assert answers == {"/health": 503, "/health/ready": 200, "/health/live": 200, "/unknown": 404}


async def test_as_the_root_application_it_lives_through_the_lifespan() -> None:
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = await drive(make_ops(), {"type": "lifespan", "asgi": {"version": "3.0"}}, events)
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_websocket_is_closed() -> None:
    assert await drive(make_ops(), websocket_scope("/health")) == [{"type": "websocket.close", "code": 1000}]


async def test_an_unknown_kind_of_scope_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="'udp'"):
        await drive(make_ops(), http_scope(type="udp"))


@pytest.mark.parametrize("option", ["health", "registry", "settings"])
def test_an_argument_of_another_type_is_refused(option: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{option}=.*expected a "):
        OpsApp(**{"registry": CollectorRegistry(), option: object()})


async def test_many_ops_apps_share_one_registry() -> None:
    registry = CollectorRegistry()
    health = make_health(database=True)
    apps = [OpsApp(health=health, registry=registry, settings=Settings(service_name="shop")) for _ in range(3)]
    await request(apps[0], "/health")

    text = (await request(apps[2], "/metrics")).text

    assert text.count('health_check_duration_seconds_count{check="database"} 1.0') == 1


def test_the_defaults_are_an_empty_health_registry_and_the_default_metrics() -> None:
    ops = OpsApp()
    assert ops.registry is REGISTRY
    assert isinstance(ops.health, HealthRegistry)
    assert ops.settings == Settings()


@given(
    path=st.text(max_size=30),
    query=st.binary(max_size=60),
    headers=st.lists(
        st.tuples(st.sampled_from([b"accept", b"accept-encoding", b"x"]), st.binary(max_size=30)), max_size=4
    ),
    method=st.sampled_from(["GET", "HEAD", "POST", "\x00"]),
    to_metrics=st.booleans(),
)
def test_no_request_breaks_it(path: str, query: bytes, headers: Any, method: str, to_metrics: bool) -> None:
    scope = {**http_scope("/"), "path": "/metrics" if to_metrics else path, "method": method}
    scope |= {"query_string": query, "headers": headers}
    start, body = anyio.run(drive, _HOSTILE_OPS, scope)
    assert start["status"] in {200, 404, 405}
    length = int(dict(start["headers"])[b"content-length"])
    assert len(body["body"]) == (0 if method == "HEAD" else length)


_HOSTILE_OPS = make_ops()

TOKEN = "t0p-t0ken"
GUARDED = ("/metrics", "/health", "/health/storage")
CONTROL = ("/info", "/loggers", "/loggers/root", "/tasks")
AUTHORISED = {"authorization": f"Bearer {TOKEN}"}


def make_guarded() -> OpsApp:
    health = make_health(database=OSError("secret of the database"))
    health.group("storage", ["database"])
    return make_ops(health, ops_token=TOKEN)


@pytest.mark.parametrize("path", [*GUARDED, *CONTROL])
async def test_with_a_token_everything_but_the_bare_probes_needs_it(path: str) -> None:
    ops = make_guarded()

    refused, admitted = await request(ops, path), await request(ops, path, headers=AUTHORISED)

    assert (refused.status_code, refused.json()) == (401, {"detail": "Unauthorized"})
    assert refused.headers["www-authenticate"] == 'Bearer realm="ops"'
    assert admitted.status_code == (503 if path.startswith("/health") else 200)


async def test_the_probes_are_bare_without_the_token_and_full_with_it() -> None:
    ops = make_guarded()

    bare, full = await request(ops, "/health/ready"), await request(ops, "/health/ready", headers=AUTHORISED)

    assert (bare.status_code, bare.json()) == (503, {"status": "not_ready"})
    assert list(full.json()["checks"]) == ["database"]
    assert (await request(ops, "/health/live")).json() == {"status": "alive"}


async def test_what_was_refused_is_counted_by_endpoint() -> None:
    ops = make_guarded()
    for path in ("/metrics", "/metrics", "/tasks"):
        await request(ops, path, headers={"authorization": "Bearer wrong"})

    text = (await request(ops, "/metrics", headers=AUTHORISED)).text

    assert 'ops_requests_denied_total{endpoint="metrics"} 2.0' in text
    assert 'ops_requests_denied_total{endpoint="tasks"} 1.0' in text


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_who_is_refused_does_not_learn_which_methods_there_are(method: str) -> None:
    assert (await request(make_guarded(), "/info", method)).status_code == 401


async def test_every_use_of_control_is_in_the_audit_log(monkeypatch: pytest.MonkeyPatch) -> None:
    audited: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr("asgi_obs.ops.app.audit_log", lambda event, **fields: audited.append((event, fields)))
    ops = make_guarded()

    await request(ops, "/loggers/root", headers=AUTHORISED)
    await request(ops, "/info", headers=AUTHORISED)
    await request(ops, "/metrics", headers=AUTHORISED)
    await request(ops, "/tasks")

    assert audited == [
        ("ops.loggers", {"actor": "token", "method": "GET", "argument": "root"}),
        ("ops.info", {"actor": "token", "method": "GET"}),
    ]


async def test_a_callable_is_not_asked_for_the_bare_probes() -> None:
    async def what_is_down(scope: object) -> bool:
        raise AssertionError  # pragma: no cover - that is what is tested

    ops = OpsApp(registry=CollectorRegistry(), settings=Settings(), authorize=what_is_down)

    for path in ("/health/live", "/health/ready"):
        assert (await request(ops, path)).status_code == 200


async def test_a_callable_of_ones_own_authorises_too() -> None:
    settings = Settings(service_name="shop")
    ops = OpsApp(registry=CollectorRegistry(), settings=settings, authorize=lambda scope: "ada")

    assert (await request(ops, "/tasks")).status_code == 200


async def test_without_the_groups_name_there_is_no_group() -> None:
    assert (await request(make_guarded(), "/health/other", headers=AUTHORISED)).status_code == 404


_GUARDED_OPS = make_guarded()


@given(
    path=st.sampled_from([*PATHS, *GUARDED, *CONTROL, "/health/", "/tasks/"]) | st.text(max_size=20),
    scheme=st.sampled_from([b"Bearer ", b"Basic ", b"bearer", b"", TOKEN.encode()]),
    credential=st.binary(max_size=40),
    times=st.integers(0, 2),
    accept=st.sampled_from([b"*/*", b"application/health+json", b"application/openmetrics-text"]),
    query=st.sampled_from([b"", b"verbose", b"name[]=service_info", b"token=t0p-t0ken"]),
    method=st.sampled_from(["GET", "HEAD", "PUT", "POST", "get"]),
)
def test_without_the_credential_nobody_reads_more_than_a_bare_status(
    path: str, scheme: bytes, credential: bytes, times: int, accept: bytes, query: bytes, method: str
) -> None:
    headers = [(b"accept", accept), *[(b"authorization", scheme + credential)] * times]
    scope = {**http_scope("/"), "path": path, "method": method, "headers": headers, "query_string": query}

    start, body = anyio.run(drive, _GUARDED_OPS, scope)

    assert start["status"] in {200, 401, 404, 405, 503}
    assert body["body"] in BARE


BARE = {
    b"",
    b'{"status":"alive"}',
    b'{"status":"not_ready"}',
    b'{"status":"pass","checks":{}}',
    b'{"status":"fail","checks":{}}',
    b"alive\n",
    b"not_ready\n",
    b'{"detail":"Unauthorized"}',
    b'{"detail":"Not Found"}',
    b'{"detail":"Method Not Allowed"}',
}
