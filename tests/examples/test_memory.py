"""The memory service of the example: what it keeps, tells and forgets, and what it counts of that."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgi_lifespan import LifespanManager
from prometheus_client import REGISTRY
from sqlalchemy import event
from sqlalchemy.util import await_only

from examples.cortex.database import connect
from examples.cortex.memory.app import create_app
from examples.cortex.memory.metrics import STORAGE_SIZE
from examples.cortex.memory.store import Base, MemoryStore
from tests.postgres import Postgres

OPERATIONS = ("store_input", "get_history", "clear_history")

pytestmark = pytest.mark.anyio


def sqlite(directory: Path) -> str:
    return f"sqlite+aiosqlite:///{directory / 'memory.db'}"


@asynccontextmanager
async def client_of(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with LifespanManager(app):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://memory") as client:
            yield client


@pytest.fixture
async def client(tmp_path: Path, anyio_backend: str) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(create_app(sqlite(tmp_path))) as client:
        yield client


@pytest.fixture
def user() -> str:
    """Somebody new: the metrics are those of the process."""
    return secrets.token_hex(4)


async def tell(client: httpx.AsyncClient, user: str, text: str) -> int:
    answer = await client.post("/inputs", json={"user_id": user, "conversation_id": "c-1", "text": text})
    assert answer.status_code == 201
    return int(answer.json()["id"])


async def history(client: httpx.AsyncClient, user: str, **params: int) -> list[str]:
    answer = await client.get(f"/history/{user}", params=params)
    assert answer.status_code == 200
    return [one["text"] for one in answer.json()]


def size_of(user: str) -> float | None:
    return REGISTRY.get_sample_value("memory_service_storage_size_bytes", {"user_id": user})


def counts(name: str) -> list[float]:
    return [REGISTRY.get_sample_value(name, {"operation": operation}) or 0.0 for operation in OPERATIONS]


async def test_the_latest_inputs_of_a_user_come_first_and_no_more_than_asked_for(
    client: httpx.AsyncClient, user: str
) -> None:
    for text in ("one", "two", "three"):
        await tell(client, user, text)
    await tell(client, f"{user}-other", "mine")
    assert await history(client, user) == ["three", "two", "one"]
    assert await history(client, user, limit=2) == ["three", "two"]


async def test_an_input_is_told_with_its_conversation_and_its_time_in_utc(client: httpx.AsyncClient, user: str) -> None:
    identifier = await tell(client, user, "one")
    [told] = (await client.get(f"/history/{user}")).json()
    assert (told["id"], told["conversation_id"], told["created_at"][-1]) == (identifier, "c-1", "Z")


async def test_a_user_is_forgotten_and_others_are_not(client: httpx.AsyncClient, user: str) -> None:
    for text in ("one", "two"):
        await tell(client, user, text)
    await tell(client, f"{user}-other", "mine")
    answer = await client.delete(f"/history/{user}")
    assert (answer.status_code, answer.json()) == (200, {"deleted": 2})
    assert (await history(client, user), await history(client, f"{user}-other")) == ([], ["mine"])


@pytest.mark.parametrize("wrong", [{"text": ""}, {"user_id": ""}, {"text": None}])
async def test_an_input_without_text_or_user_is_refused(client: httpx.AsyncClient, wrong: dict[str, Any]) -> None:
    answer = await client.post("/inputs", json={"user_id": "u", "conversation_id": "c", "text": "t", **wrong})
    assert answer.status_code == 422


async def test_every_operation_is_counted_and_timed(client: httpx.AsyncClient, user: str) -> None:
    names = ("memory_service_operations_total", "memory_service_operation_duration_seconds_count")
    before = [counts(name) for name in names]
    await tell(client, user, "one")
    await tell(client, user, "two")
    await history(client, user)
    await client.delete(f"/history/{user}")
    moved = [
        [now - then for now, then in zip(counts(name), was, strict=True)]
        for name, was in zip(names, before, strict=True)
    ]
    assert moved == [[2, 1, 1]] * 2


async def test_the_size_of_what_is_kept_is_in_bytes_and_goes_with_it(client: httpx.AsyncClient, user: str) -> None:
    await tell(client, user, "né")
    assert size_of(user) == 3
    await tell(client, user, "more")
    assert size_of(user) == 7
    await client.delete(f"/history/{user}")
    assert size_of(user) == 0


async def test_a_size_that_is_measured_slowly_is_not_set_behind_a_newer_one(tmp_path: Path, user: str) -> None:
    store = MemoryStore(connect(sqlite(tmp_path)))
    await store.open()
    measuring, seconds = asyncio.Event(), iter((0.2, 0.0))

    def answer_slowly(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "sum(" in statement:
            measuring.set()
            await_only(asyncio.sleep(next(seconds)))

    event.listen(store.engine.sync_engine, "after_cursor_execute", answer_slowly)
    first = asyncio.create_task(store.store_input(user, "c-1", "one"))
    await measuring.wait()
    await store.store_input(user, "c-1", "two")
    await first
    await store.close()
    assert size_of(user) == 6


def test_of_several_workers_the_one_that_has_measured_last_tells_the_size() -> None:
    [size] = (one for one in REGISTRY.collect() if one.name == "memory_service_storage_size_bytes")
    assert REGISTRY._names_to_collectors[size.name]._multiprocess_mode == "livemostrecent"  # type: ignore[attr-defined]


async def start_at_once(url: str) -> None:
    stores = [MemoryStore(connect(url)) for _ in range(5)]
    try:
        await asyncio.gather(*(store.open() for store in stores))
    finally:
        for store in stores:
            await store.close()


async def test_several_workers_can_start_at_once(tmp_path: Path) -> None:
    await start_at_once(sqlite(tmp_path))
    assert (tmp_path / "memory.db").exists()


async def test_what_an_earlier_process_kept_is_measured_at_the_start(tmp_path: Path, user: str) -> None:
    async with client_of(create_app(sqlite(tmp_path))) as client:
        await tell(client, user, "hello")
    STORAGE_SIZE.labels(user_id=user).set(0)  # what a new process starts with
    async with client_of(create_app(sqlite(tmp_path))) as client:
        assert size_of(user) == 5
        assert await history(client, user) == ["hello"]


async def test_its_statements_are_counted_by_table(client: httpx.AsyncClient, user: str) -> None:
    def inserted() -> float:
        labels = {"operation": "insert", "table": "memory_inputs"}
        return REGISTRY.get_sample_value("db_queries_total", labels) or 0.0

    before = inserted()
    await tell(client, user, "one")
    assert inserted() - before == 1


async def test_the_database_is_part_of_the_health_answer(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health")
    assert (answer.status_code, list(answer.json()["checks"])) == (200, ["database"])


async def test_a_database_that_cannot_be_opened_makes_the_service_not_ready(tmp_path: Path) -> None:
    threads = set(threading.enumerate())
    transport = httpx.ASGITransport(create_app(sqlite(tmp_path / "missing")))
    async with httpx.AsyncClient(transport=transport, base_url="http://memory") as client:
        assert (await client.get("/health/ready")).status_code == 503
        assert (await client.get("/health/live")).status_code == 200
    # aiosqlite does not wait for the thread of a connection that it could not open, and that thread needs the loop.
    left = {one for one in set(threading.enumerate()) - threads if not one.name.startswith("asgi_obs.")}
    assert [thread for thread in left if thread.join(10) or thread.is_alive()] == []


async def test_the_environment_tells_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    monkeypatch.setenv("DATABASE_URL", sqlite(tmp_path))
    async with client_of(create_app()) as client:
        await tell(client, user, "one")
    assert (tmp_path / "memory.db").exists()


async def test_all_of_it_works_on_postgresql(postgres: Postgres, user: str) -> None:
    url = postgres.url("asyncpg")
    try:
        await start_at_once(url)
        async with client_of(create_app(url)) as client:
            await tell(client, user, "one")
            await tell(client, user, "two")
            assert await history(client, user) == ["two", "one"]
            assert size_of(user) == 6
            assert (await client.get("/health")).status_code == 200
            assert (await client.delete(f"/history/{user}")).json() == {"deleted": 2}
    finally:
        engine = connect(url)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
        await engine.dispose()
