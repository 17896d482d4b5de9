"""Another service, by what its own health endpoint says: real ones on loopback."""

from __future__ import annotations

import base64
import gzip
import socket
import ssl
import sys
import threading
from collections.abc import Iterator

import httpx
import pytest
import trustme

from asgi_obs.errors import ConfigurationError, MissingExtraError
from asgi_obs.health import CheckResult, HealthRegistry
from asgi_obs.health.checks import HttpCheck
from asgi_obs.health.checks.http import MAX_BODY
from asgi_obs.types import Receive, Scope, Send
from tests.e2e.server import serve

pytestmark = pytest.mark.anyio

JSON = (b"content-type", b"application/json")

ANSWERS = {
    "/healthy": (200, [JSON], b'{"status": "healthy"}'),
    "/pass": (200, [(b"content-type", b"application/health+json")], b'{"status": "pass"}'),
    "/UP": (200, [JSON], b'{"status": "UP"}'),
    "/degraded": (200, [JSON], b'{"status": "degraded", "checks": {}}'),
    "/warn": (207, [JSON], b'{"status": "warn"}'),
    "/unhealthy": (200, [JSON], b'{"status": "unhealthy"}'),
    "/fail": (503, [JSON], b'{"status": "fail"}'),
    "/down": (200, [JSON], b'{"status": "down"}'),
    "/failed-but-warn": (503, [JSON], b'{"status": "warn"}'),
    "/text": (200, [], b"all is well"),
    "/nothing": (204, [], b""),
    "/garbage": (200, [JSON], b'{"status": "degra\xff'),
    "/list": (200, [JSON], b"[1, 2]"),
    "/number": (200, [JSON], b'{"status": 200}'),
    "/unknown": (200, [JSON], b'{"status": "purple"}'),
    "/nested": (200, [JSON], b"[" * 60_000),
    "/full": (200, [JSON], b'{"status": "warn"}'.ljust(MAX_BODY)),
    "/huge": (200, [JSON], b'{"status": "warn"}'.ljust(MAX_BODY + 1)),
    "/compressed": (200, [JSON, (b"content-encoding", b"gzip")], gzip.compress(b'{"status": "warn"}'.ljust(10**7))),
    "/redirect": (302, [(b"location", b"/healthy")], b""),
    "/missing": (404, [], b""),
    "/broken": (500, [], b"oops"),
}


async def service(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers as the table says; `/slow` never, `/drip` never to the end, `/private` with the right password only."""
    headers = dict(scope["headers"])
    path = scope["path"]
    if path == "/slow":
        await until_disconnected(receive)
        return
    if path == "/private":
        is_allowed = headers.get(b"authorization") == b"Basic " + base64.b64encode(b"probe:hunter2")
        path = "/healthy" if is_allowed else "/missing"
    status, answer_headers, body = ANSWERS.get(path, (200, [JSON], b"{"))
    await send({"type": "http.response.start", "status": status, "headers": answer_headers})
    await send({"type": "http.response.body", "body": body, "more_body": path == "/drip"})
    if path == "/drip":
        await until_disconnected(receive)


async def until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(service, lifespan="off") as address:
        yield f"http://{address}"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/healthy", CheckResult.healthy("HTTP 200, healthy")),
        ("/pass", CheckResult.healthy("HTTP 200, healthy")),
        ("/UP", CheckResult.healthy("HTTP 200, healthy")),
        ("/degraded", CheckResult.degraded("HTTP 200, degraded")),
        ("/warn", CheckResult.degraded("HTTP 207, degraded")),
        ("/unhealthy", CheckResult.unhealthy("HTTP 200, unhealthy")),
        ("/down", CheckResult.unhealthy("HTTP 200, unhealthy")),
        ("/fail", CheckResult.unhealthy("HTTP 503")),
        ("/failed-but-warn", CheckResult.unhealthy("HTTP 503")),
        ("/text", CheckResult.healthy("HTTP 200")),
        ("/nothing", CheckResult.healthy("HTTP 204")),
        ("/garbage", CheckResult.healthy("HTTP 200")),
        ("/list", CheckResult.healthy("HTTP 200")),
        ("/number", CheckResult.healthy("HTTP 200")),
        ("/unknown", CheckResult.healthy("HTTP 200")),
        ("/nested", CheckResult.healthy("HTTP 200")),
        ("/full", CheckResult.degraded("HTTP 200, degraded")),
        ("/huge", CheckResult.degraded("HTTP 200, with more than 65536 bytes: not read")),
        ("/compressed", CheckResult.healthy("HTTP 200")),
        ("/redirect", CheckResult.unhealthy("HTTP 302")),
        ("/missing", CheckResult.unhealthy("HTTP 404")),
        ("/broken", CheckResult.unhealthy("HTTP 500")),
    ],
)
async def test_it_is_as_healthy_as_the_answer_says(url, path, expected) -> None:
    assert await HttpCheck(url + path, timeout=20)() == expected


@pytest.mark.parametrize("path", ["/slow", "/drip"])
async def test_who_does_not_answer_in_time_is_unhealthy(url, path) -> None:
    assert await HttpCheck(url + path, timeout=0.05)() == CheckResult.unhealthy("no answer within 0.05 s")


async def test_who_refuses_is_unhealthy() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        result = await HttpCheck("http://probe:hunter2@{}:{}/".format(*bound.getsockname()), timeout=20)()
    assert (result.status, result.message) == ("unhealthy", "no answer: ConnectError")
    assert "hunter2" not in str(result)


async def test_who_does_not_speak_http_is_unhealthy() -> None:
    def greet() -> None:
        with listener.accept()[0] as connection:
            connection.recv(1000)
            connection.sendall(b"220 mail.example ESMTP\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet)
        thread.start()
        result = await HttpCheck("http://{}:{}/".format(*listener.getsockname()), timeout=20)()
        thread.join(20)
    assert (result.status, result.message) == ("unhealthy", "no answer: RemoteProtocolError")


async def test_a_registry_runs_it(url) -> None:
    health = HealthRegistry()
    health.add("memory", HttpCheck(f"{url}/degraded", timeout=20), timeout=30)
    result = (await health.run()).checks["memory"]
    assert (result.status, result.message) == ("degraded", "HTTP 200, degraded")


async def test_the_userinfo_of_the_url_is_sent(url) -> None:
    check = HttpCheck(url.replace("//", "//probe:hunter2@") + "/private", timeout=20)
    assert await check() == CheckResult.healthy("HTTP 200, healthy")


async def test_headers_are_sent(url) -> None:
    headers = {"authorization": "Basic cHJvYmU6aHVudGVyMg=="}
    check = HttpCheck(f"{url}/private", headers=headers, timeout=20)
    assert await check() == CheckResult.healthy("HTTP 200, healthy")


async def test_the_environment_gives_it_no_proxy_and_no_credentials(url, tmp_path, monkeypatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login probe password hunter2")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert await HttpCheck(f"{url}/private", timeout=20)() == CheckResult.unhealthy("HTTP 404")


async def test_a_client_that_is_given_is_used_and_left_open(url) -> None:
    async with httpx.AsyncClient(auth=("probe", "hunter2"), follow_redirects=True, trust_env=False) as client:
        assert await HttpCheck(f"{url}/private", client=client, timeout=20)() == CheckResult.healthy(
            "HTTP 200, healthy"
        )
        assert await HttpCheck(f"{url}/redirect", client=client, timeout=20)() == CheckResult.unhealthy("HTTP 302")
        assert not client.is_closed


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def https(authority, tmp_path_factory) -> Iterator[str]:
    files = tmp_path_factory.mktemp("https")
    leaf = authority.issue_cert("127.0.0.1")
    leaf.private_key_pem.write_to_path(files / "key.pem")
    leaf.cert_chain_pems[0].write_to_path(files / "cert.pem")
    options = {"ssl_keyfile": str(files / "key.pem"), "ssl_certfile": str(files / "cert.pem")}
    with serve(service, lifespan="off", **options) as address:
        yield f"https://{address}/healthy"


async def test_who_is_not_trusted_is_unhealthy(https) -> None:
    result = await HttpCheck(https, timeout=20)()
    assert (result.status, result.message) == ("unhealthy", "no answer: ConnectError")


async def test_a_client_may_trust_an_authority_of_its_own(https, authority) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with httpx.AsyncClient(verify=context, trust_env=False) as client:
        assert await HttpCheck(https, client=client, timeout=20)() == CheckResult.healthy("HTTP 200, healthy")


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"url": "/health"}, "url"),
        ({"url": "ftp://memory/health"}, "url"),
        ({"url": "http://"}, "url"),
        ({"url": "http://memory:port/"}, "url"),
        ({"url": None}, "url"),
        ({"timeout": 0}, "timeout"),
        ({"client": httpx.Client}, "client"),
        ({"headers": 1}, "headers"),
        ({"headers": {"X-Name": "\u20ac"}}, "headers"),
        ({"headers": {"X-Name": 1}}, "headers"),
        ({"headers": {"X-Name": "a\r\nX-Other: b"}}, "headers"),
    ],
)
def test_wrong_options_are_refused(options, wrong) -> None:
    with pytest.raises(ConfigurationError) as raised:
        HttpCheck(**{"url": "http://memory:8000/health", **options})
    assert raised.value.option == wrong


@pytest.mark.parametrize(
    "options",
    [
        {"url": "ftp://probe:hunter2@memory/health"},
        {"url": "probe:hunter2@memory/health"},
        {"url": "ftp://memory/health?token=hunter2"},
        {"headers": {"Authorization": "Bearer hunter2\n"}},
    ],
)
def test_what_is_refused_shows_no_credential(options) -> None:
    with pytest.raises(ConfigurationError) as raised:
        HttpCheck(**{"url": "http://memory:8000/health", **options})
    assert "hunter2" not in str(raised.value)


def test_without_httpx_it_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingExtraError, match=r"asgi-obs\[httpx\]"):
        HttpCheck("http://memory:8000/health")
