"""What the probes answer, in which format, and to whom they tell how much."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from asgi_obs.health import CheckResult, HealthRegistry
from asgi_obs.ops.answer import Answer
from asgi_obs.ops.probes import Probes
from asgi_obs.ops.request import Caller, OpsRequest
from asgi_obs.settings import Settings
from asgi_obs.testing import http_scope
from asgi_obs.types import Message

pytestmark = pytest.mark.anyio

NOBODY = Caller(admitted=False)
ADMITTED = Caller(admitted=True)
AUTHORISED = Caller(admitted=True, authorised=True, actor="token")
ENVIRONMENTS = ("development", "testing", "staging", "production")


class Raising:
    """A check of this process that fails."""

    local = True

    def __call__(self) -> CheckResult:
        raise OSError("postgresql://app:hunter2@db")


def make_probes(environment: str = "testing", **checks: Any) -> Probes:
    health = HealthRegistry()
    for name, result in checks.items():
        health.add(name, result if callable(result) else (lambda result=result: result))
    return Probes(health, Settings(service_name="shop", version="1.2.3", environment=environment))


async def never() -> Message:
    raise AssertionError  # pragma: no cover - probes read no body


def request(caller: Caller = ADMITTED, *, accept: bytes = b"*/*", query: bytes = b"", argument: str = "") -> OpsRequest:
    scope = {**http_scope("/health"), "headers": [(b"accept", accept)], "query_string": query}
    return OpsRequest(scope, never, argument, caller)


def content(answer: Answer) -> Any:
    return json.loads(answer.body)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("caller", [ADMITTED, AUTHORISED])
async def test_messages_are_for_the_authorised_and_outside_production_for_everybody(
    environment: str, caller: Caller
) -> None:
    probes = make_probes(environment, own=CheckResult.degraded("slow", "why"), database=Raising())

    checks = content(await probes.health(request(caller)))["checks"]

    messages = {name: check["message"] for name, check in checks.items()}
    if environment != "production":
        assert messages == {"own": "slow: why", "database": "OSError: postgresql://******@db"}
    elif caller.authorised:
        assert messages == {"own": "slow", "database": "OSError"}
    else:
        assert messages == {"own": "", "database": ""}
    assert [check["status"] for check in checks.values()] == ["degraded", "unhealthy"]
    assert all(isinstance(check["duration_ms"], float) for check in checks.values())


async def test_who_is_not_admitted_reads_a_bare_status() -> None:
    probes = make_probes(database=False)
    probes._health.set_not_ready("moving house")

    for made in (
        request(NOBODY),
        request(NOBODY, accept=b"application/health+json"),
        request(NOBODY, query=b"verbose"),
    ):
        ready, live = await probes.ready(made), await probes.live(made)
        assert (ready.status, live.status) == (503, 200)
        assert ready.body in {b'{"status":"not_ready"}', b'{"status":"fail","checks":{}}', b"not_ready\n"}
        assert live.body in {b'{"status":"alive"}', b'{"status":"pass","checks":{}}', b"alive\n"}


async def test_a_group_has_only_its_checks() -> None:
    probes = make_probes(database=True, cache=False)
    probes._health.group("storage", ["database"])

    answer = await probes.health(request(argument="storage"))

    assert (answer.status, content(answer)["status"], list(content(answer)["checks"])) == (200, "healthy", ["database"])


async def test_health_json_follows_the_draft_when_it_is_accepted() -> None:
    probes = make_probes(database=CheckResult.unhealthy("gone"), cache=CheckResult.degraded("slow"), disk=True)

    answer = await probes.health(request(accept=b"text/html, application/health+json;q=0.9"))

    assert (answer.status, dict(answer.headers)[b"content-type"]) == (503, b"application/health+json")
    body = content(answer)
    assert {key: body[key] for key in ("status", "serviceId", "releaseId")} == {
        "status": "fail",
        "serviceId": "shop",
        "releaseId": "1.2.3",
    }
    assert {name: (check["status"], check["output"]) for name, [check] in body["checks"].items()} == {
        "database": ("fail", "gone"),
        "cache": ("warn", "slow"),
        "disk": ("pass", "ok"),
    }
    assert {check["observedUnit"] for [check] in body["checks"].values()} == {"ms"}


@pytest.mark.parametrize(
    ("accept", "accepted"),
    [
        (b"Application/Health+JSON", True),
        (b"application/health+json;version=1", True),
        (b"application/health+json;q=0", False),
        (b"application/json", False),
    ],
)
async def test_health_json_is_for_those_who_accept_it(accept: bytes, *, accepted: bool) -> None:
    answer = await make_probes().health(request(accept=accept))

    assert (dict(answer.headers)[b"content-type"] == b"application/health+json") is accepted


async def test_verbose_is_for_people() -> None:
    probes = make_probes(database=CheckResult.unhealthy("gone"), cache=CheckResult.degraded("slow"), disk=True)

    answer = await probes.health(request(query=b"verbose"))

    assert dict(answer.headers)[b"content-type"] == b"text/plain; charset=utf-8"
    assert re.sub(r"[\d.]+ ms", "N ms", answer.body.decode()) == (
        "[-] database N ms gone\n[~] cache N ms slow\n[+] disk N ms ok\nunhealthy\n"
    )


async def test_readiness_shows_its_checks_in_the_other_formats_too() -> None:
    probes = make_probes(database=True)

    verbose = await probes.ready(request(query=b"verbose=1"))
    draft = await probes.ready(request(accept=b"application/health+json"))

    assert re.fullmatch(r"\[\+\] database [\d.]+ ms ok\nready\n", verbose.body.decode())
    assert list(content(draft)["checks"]) == ["database"]
    assert (await probes.ready(request())).body == b'{"status":"ready"}'


async def test_a_check_of_the_process_may_fail_liveness() -> None:
    probes = make_probes()
    probes._health.add("worker", Raising(), liveness=True, readiness=False)

    answer = await probes.live(request())

    assert (answer.status, content(answer)["status"]) == (503, "not_alive")
    assert content(answer)["checks"]["worker"]["message"] == "OSError: postgresql://******@db"
    assert dict(answer.headers)[b"retry-after"] == b"5"


@pytest.mark.parametrize("caller", [NOBODY, ADMITTED, AUTHORISED])
@pytest.mark.parametrize("accept", [b"application/json", b"application/health+json"])
async def test_no_format_shows_the_credentials_in_an_exception(caller: Caller, accept: bytes) -> None:
    for environment in ENVIRONMENTS:
        probes = make_probes(environment, database=Raising())
        for made in (request(caller, accept=accept), request(caller, accept=accept, query=b"verbose")):
            for answer in (await probes.health(made), await probes.ready(made)):
                assert b"hunter2" not in answer.body
