"""The cognition service of the example, asked over MCP, with the real memory service behind it."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from examples.cortex.cognition.app import create_app
from examples.cortex.memory.app import create_app as create_memory
from tests.e2e.server import serve
from tests.integrations import mcp_sdk as sdk

NOBODY = "http://127.0.0.1:1"

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """Servers that end while a client is still connected say so."""
    logger = logging.getLogger("mcp")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(create_memory(f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('memory') / 'memory.db'}")) as address:
        yield f"http://{address}"


@pytest.fixture(scope="module")
def cognition(memory: str) -> Iterator[str]:
    with serve(create_app(memory), timeout_graceful_shutdown=1) as address:
        yield f"http://{address}"


def told(memory: str, *texts: str, user: str = "") -> str:
    """Somebody who has said these things; by default somebody new."""
    user = user or secrets.token_hex(4)
    for text in texts:
        said = {"user_id": user, "conversation_id": "c-1", "text": text}
        httpx.post(f"{memory}/inputs", json=said, trust_env=False).raise_for_status()
    return user


async def call(cognition: str, **arguments: Any) -> Any:
    async with sdk.connected_over_http(f"{cognition}/mcp") as session:
        return await session.call_tool("get_context", arguments)


def failed(result: Any) -> bool:
    """Whether it is an error, as either version of the SDK says it."""
    return bool(getattr(result, "is_error", False) or getattr(result, "isError", False))


async def ask(cognition: str, **arguments: Any) -> Any:
    return json.loads(sdk.text_of(await call(cognition, **arguments)))


async def test_what_shares_most_words_with_the_query_comes_first(memory: str, cognition: str) -> None:
    user = told(memory, "Patterns of the engine.", "An engine.", "Lunch is at noon.", "The engine again.")
    answer = await ask(cognition, user_id=user, query="Which patterns does the engine weave?")
    assert answer == {
        "query": "Which patterns does the engine weave?",
        "context": ["Patterns of the engine.", "The engine again.", "An engine."],
        "summary": "3 of the last 4 things you said are about it.",
    }


async def test_the_context_is_no_longer_than_asked_for_and_without_the_query_itself(
    memory: str, cognition: str
) -> None:
    user = told(memory, "one engine", "two engine", "my engine")
    assert (await ask(cognition, user_id=user, query="my engine", limit=1))["context"] == ["two engine"]


async def test_somebody_who_has_said_nothing_has_no_context(cognition: str) -> None:
    answer = await ask(cognition, user_id="nobody", query="engine")
    assert (answer["context"], answer["summary"]) == ([], "0 of the last 0 things you said are about it.")


@pytest.mark.parametrize("user", ["../inputs", "a/b", ""])
async def test_a_name_that_is_none_leads_to_no_other_route_of_the_memory(cognition: str, user: str) -> None:
    assert failed(await call(cognition, user_id=user, query="engine"))


async def test_a_name_is_a_name_whatever_it_looks_like(memory: str, cognition: str) -> None:
    user = f"{told(memory)}?limit=1#é"
    told(memory, "one engine", "two engine", user=user)
    assert (await ask(cognition, user_id=user, query="engine"))["context"] == ["two engine", "one engine"]


@pytest.mark.parametrize("limit", [0, -1, 101])
async def test_a_limit_that_makes_no_sense_is_refused(cognition: str, limit: int) -> None:
    assert failed(await call(cognition, user_id="ada", query="engine", limit=limit))


async def test_the_operation_is_counted_and_timed(cognition: str) -> None:
    def counts() -> list[float]:
        names = ("operations_total", "operation_duration_seconds_count")
        labels = {"operation": "get_context"}
        return [REGISTRY.get_sample_value(f"cognition_service_{name}", labels) or 0.0 for name in names]

    before = counts()
    await ask(cognition, user_id="nobody", query="engine")
    assert [now - then for now, then in zip(counts(), before, strict=True)] == [1, 1]


async def test_a_memory_that_does_not_answer_is_an_error_of_the_tool_and_degrades_nothing_else() -> None:
    labels = {"operation": "get_context", "exception": "httpx.ConnectError"}

    def errors() -> float:
        return REGISTRY.get_sample_value("cognition_service_operation_errors_total", labels) or 0.0

    before = errors()
    with serve(create_app(NOBODY), timeout_graceful_shutdown=1) as address:
        result = await call(f"http://{address}", user_id="ada", query="engine")
        async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as client:
            health, alive = await client.get("/health"), await client.get("/health/live")
    assert failed(result)
    assert errors() - before == 1
    assert (health.status_code, health.json()["checks"]["memory_service"]["status"]) == (503, "unhealthy")
    assert alive.status_code == 200


def test_the_memory_is_part_of_the_health_answer(cognition: str) -> None:
    answer = httpx.get(f"{cognition}/health", trust_env=False)
    assert (answer.status_code, list(answer.json()["checks"])) == (200, ["memory_service"])


async def test_the_environment_tells_where_the_memory_is(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_SERVICE_URL", memory)
    user = told(memory, "An engine.")
    with serve(create_app(), timeout_graceful_shutdown=1) as address:
        assert (await ask(f"http://{address}", user_id=user, query="engine"))["context"] == ["An engine."]
