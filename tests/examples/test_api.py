"""The API service of the example, route by route, without a server of its own."""

from __future__ import annotations

import asyncio
import csv
import dataclasses
import io
import json
import logging
import secrets
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from asgi_lifespan import LifespanManager
from fastapi import FastAPI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from prometheus_client import REGISTRY

from asgi_obs import StructuredLogFormatter
from asgi_obs.integrations.event_bus import EventBusInstrumentation
from asgi_obs.testing import drive, http_scope, websocket_scope
from asgi_obs.types import Message
from examples.cortex.api import auth
from examples.cortex.api.app import Config, create_app
from examples.cortex.api.assistant import Assistant
from examples.cortex.api.auth import Tokens
from examples.cortex.api.clients import Cognition, Memory
from examples.cortex.api.conversations import Conversations
from examples.cortex.api.events import BACKLOG, EventBus
from examples.cortex.api.metrics import ACTIVE_USERS, CONVERSATIONS, WORKSPACES, Gauges
from examples.cortex.api.store import Base, NotFoundError, Store, Workspace
from examples.cortex.api.workspaces import ExportError
from examples.cortex.database import connect
from tests.examples.companions import (
    CONFUSES,
    FORGETS,
    NOBODY,
    TAKES_FOREVER,
    Companions,
    companions_on_loopback,
)
from tests.metrics.process.event_loops import soon
from tests.postgres import Postgres

SECRET = secrets.token_bytes(32)
TOKENS = {name: Tokens(SECRET).issue(name) for name in ("ada", "bob")}
ADA, BOB = ({"Authorization": f"Bearer {token}"} for token in TOKENS.values())


def sqlite(directory: Path) -> str:
    return f"sqlite+aiosqlite:///{directory / 'api.db'}"


def lonely(directory: Path) -> FastAPI:
    """The service with nobody next to it, and without accounts: hashing a password takes its time."""
    return create_app(Config(sqlite(directory), secret=SECRET, memory_url=NOBODY, cognition_url=NOBODY))


@pytest.fixture(autouse=True)
def _quick_summaries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("examples.cortex.api.conversations.SUMMARY_DELAY", 0.0)


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    clear_gauges()
    async with LifespanManager(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://cortex", headers=ADA) as client:
            yield client


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return lonely(tmp_path)


@pytest.fixture
async def client(app: FastAPI, anyio_backend: str) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


@pytest.fixture(scope="module")
def companions() -> Iterator[Companions]:
    with companions_on_loopback() as companions:
        yield companions


@pytest.fixture
def answering(tmp_path: Path, companions: Companions) -> Config:
    """The service with the other two next to it."""
    return Config(sqlite(tmp_path), secret=SECRET, memory_url=companions.url, cognition_url=companions.url)


@pytest.fixture
def answering_app(answering: Config) -> FastAPI:
    return create_app(answering)


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """What the service logs, as it would be written."""
    written: list[dict[str, Any]] = []
    handler = logging.Handler()
    handler.setFormatter(StructuredLogFormatter("cortex-api"))
    handler.emit = lambda record: written.append(json.loads(handler.format(record)))  # type: ignore[method-assign]
    logger = logging.getLogger("examples.cortex.api")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield written
    logger.removeHandler(handler)
    logger.setLevel(level)


class Moved:
    """By how much samples have moved since this was made."""

    def __init__(self, *samples: tuple[str, dict[str, str]]) -> None:
        self._before = {(name, *labels.items()): (name, labels, _value(name, labels)) for name, labels in samples}

    @property
    def by(self) -> list[float]:
        return [_value(name, labels) - before for name, labels, before in self._before.values()]


def _value(name: str, labels: dict[str, str]) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def counted(name: str) -> list[float | None]:
    """What a gauge says of those that are active, and of those that are archived."""
    return [REGISTRY.get_sample_value(name, {"status": status}) for status in ("active", "archived")]


def clear_gauges() -> None:
    """So that what a test sees is what its own service has set."""
    ACTIVE_USERS.set(-1)
    for gauge in (WORKSPACES, CONVERSATIONS):
        for status in ("active", "archived"):
            gauge.labels(status=status).set(-1)


async def gauges_say(workspaces: list[int], conversations: list[int]) -> None:
    await soon(lambda: (counted("workspaces_total"), counted("conversations_total")) == (workspaces, conversations))


def operations(resource: str, *names: str) -> Moved:
    return Moved(*((f"api_{resource}_operations_total", {"operation": name}) for name in names))


def lines_of(lines: list[dict[str, Any]], message: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["message"] == message]


async def new_workspace(client: httpx.AsyncClient) -> str:
    answer = await client.post("/api/workspaces", json={"name": "Engine"})
    assert answer.status_code == 201
    return f"/api/workspaces/{answer.json()['id']}"


async def new_conversation(client: httpx.AsyncClient) -> str:
    workspace = await new_workspace(client)
    answer = await client.post(f"{workspace}/conversations", json={"title": "Note G"})
    assert answer.status_code == 201
    return f"{workspace}/conversations/{answer.json()['id']}"


# Accounts and tokens


@pytest.mark.anyio
async def test_a_login_gives_a_token_that_opens_the_api(tmp_path: Path) -> None:
    moved = Moved(
        ("api_auth_attempts_total", {"status": "success"}),
        ("api_auth_attempts_total", {"status": "failure"}),
        ("user_logins_total", {"auth_method": "password"}),
    )
    async with client_of(create_app(Config(sqlite(tmp_path), {"ada": "engine", "bob": "wheel"}))) as client:
        for username, password in (("ada", "wheel"), ("eve", "engine"), ("eve", "")):
            refused = await client.post("/api/auth/login", json={"username": username, "password": password})
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        answer = await client.post("/api/auth/login", json={"username": "ada", "password": "engine"})
        assert (answer.status_code, answer.json()["token_type"]) == (200, "bearer")
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        assert (await client.get("/api/workspaces", headers=headers)).json() == []
        # That of the other tests is signed with another secret.
        assert (await client.get("/api/workspaces")).status_code == 401
    assert moved.by == [1, 3, 1]


@pytest.mark.anyio
async def test_users_who_logged_in_within_a_day_are_active(tmp_path: Path) -> None:
    async with client_of(create_app(Config(sqlite(tmp_path), {"ada": "engine"}))) as client:
        await soon(lambda: REGISTRY.get_sample_value("active_users") == 0)
        for _ in range(2):
            await client.post("/api/auth/login", json={"username": "ada", "password": "engine"})
        await soon(lambda: REGISTRY.get_sample_value("active_users") == 1)


def test_a_token_that_was_touched_or_is_too_old_names_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(SECRET)
    payload, _, signature = tokens.issue("ada").partition(".")
    assert tokens.name_in(f"{payload}.{signature}") == "ada"
    for touched in ("", ".", payload, f"{payload}.", f"{payload}x.{signature}", f"{payload}.{signature}x", "é.ü"):
        assert tokens.name_in(touched) is None
    monkeypatch.setattr(auth, "TOKEN_LIFETIME", 0.0)
    assert tokens.name_in(tokens.issue("ada")) is None


@pytest.mark.anyio
@pytest.mark.parametrize(
    "headers", [{"Authorization": ""}, {"Authorization": "Bearer guessed"}, {"Authorization": TOKENS["ada"]}]
)
async def test_a_caller_without_a_valid_token_is_turned_away(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    answer = await client.get("/api/workspaces", headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (r'{"username": "ada", "password": "hunter2\ud800"}', ["body", "password"]),
        (r'{"username": "\ud800", "password": "hunter2"}', ["body", "username"]),
        ('{"password": "hunter2"}', ["body", "username"]),
        (json.dumps({"username": "ada", "password": "hunter2" * 200}), ["body", "password"]),
    ],
)
async def test_a_wrong_login_is_told_what_is_wrong_and_not_what_it_said(
    client: httpx.AsyncClient, body: str, problem: list[str]
) -> None:
    answer = await client.post("/api/auth/login", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, [one["loc"] for one in answer.json()["detail"]]) == (422, [problem])
    assert "hunter2" not in answer.text


@pytest.mark.anyio
async def test_a_token_in_the_query_counts_for_websockets_only(client: httpx.AsyncClient) -> None:
    answer = await client.get(f"/api/workspaces?access_token={TOKENS['ada']}", headers={"Authorization": ""})
    assert answer.status_code == 401


# Workspaces


@pytest.mark.anyio
async def test_a_workspace_is_listed_and_read_by_its_owner_alone(client: httpx.AsyncClient) -> None:
    moved = operations("workspace", "create", "list", "get")
    path = await new_workspace(client)
    assert [one["name"] for one in (await client.get("/api/workspaces")).json()] == ["Engine"]
    assert (await client.get(path)).json()["name"] == "Engine"
    assert (await client.get("/api/workspaces", headers=BOB)).json() == []
    answer = await client.get(path, headers=BOB)
    assert (answer.status_code, answer.json()) == (404, {"detail": "no such workspace"})
    assert moved.by == [1, 2, 1]  # what was refused does not count


@pytest.mark.anyio
async def test_a_workspace_is_renamed_archived_and_deleted_by_its_owner_alone(client: httpx.AsyncClient) -> None:
    moved = operations("workspace", "update", "delete")
    path = await new_workspace(client)
    identifier = path.rpartition("/")[2]
    for method, body in (("PATCH", {"name": "Loom"}), ("DELETE", None)):
        assert (await client.request(method, path, json=body, headers=BOB)).status_code == 404
    assert (await client.patch(path, json={"name": "Loom"})).json()["name"] == "Loom"
    answer = await client.patch(path, json={"status": "archived"})
    assert (answer.status_code, answer.json()) == (200, {"id": identifier, "name": "Loom", "status": "archived"})
    assert (await client.get(path)).json()["status"] == "archived"
    assert (await client.patch(path, json={"status": "lost"})).status_code == 422
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    assert moved.by == [2, 1]


@pytest.mark.anyio
async def test_what_is_in_a_workspace_is_deleted_with_it(client: httpx.AsyncClient) -> None:
    path = await new_conversation(client)
    await client.post(f"{path}/messages", json={"text": "hello"})
    await client.delete(path.partition("/conversations")[0])
    assert (await client.get("/admin/storage")).json() == {
        "logins": 0,
        "workspaces": 0,
        "conversations": 0,
        "messages": 0,
    }


@pytest.mark.anyio
async def test_the_gauges_tell_how_many_there_are_of_each_status(client: httpx.AsyncClient) -> None:
    await gauges_say([0, 0], [0, 0])
    conversation = await new_conversation(client)
    workspace = conversation.partition("/conversations")[0]
    await gauges_say([1, 0], [1, 0])
    for path in (workspace, conversation):
        await client.patch(path, json={"status": "archived"})
    await gauges_say([0, 1], [0, 1])
    await client.delete(workspace)
    await gauges_say([0, 0], [0, 0])
    await asyncio.gather(*(new_workspace(client) for _ in range(10)))
    await gauges_say([10, 0], [0, 0])
    for one in (await client.get("/api/workspaces")).json():
        await client.delete(f"/api/workspaces/{one['id']}")
    await gauges_say([0, 0], [0, 0])


@pytest.mark.anyio
async def test_no_request_waits_for_the_gauges_or_fails_with_them(
    app: FastAPI, client: httpx.AsyncClient, lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answered = [], asyncio.Event()

    async def slow(_store: Store, _age: timedelta) -> int:
        asked.append(1)
        await asyncio.wait_for(answered.wait(), 10)
        raise TimeoutError("the database is busy")

    await gauges_say([0, 0], [0, 0])
    monkeypatch.setattr(Store, "users_since", slow)
    await new_workspace(client)
    await soon(lambda: asked)
    for _ in range(5):
        await new_workspace(client)
    assert (len(asked), lines_of(lines, "gauges not refreshed")) == (1, [])
    answered.set()
    # Once for the change that it was at, and once for all that came meanwhile.
    await soon(lambda: len(lines_of(lines, "gauges not refreshed")) == 2)
    assert len(asked) == 2
    await gauges_say([6, 0], [0, 0])


@pytest.mark.anyio
async def test_the_gauges_follow_other_writers_and_survive_a_database_that_fails(
    tmp_path: Path, lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("examples.cortex.api.metrics.REFRESH_SECONDS", 0.001)
    store = Store(connect(sqlite(tmp_path)))
    clear_gauges()
    keeping = asyncio.ensure_future(Gauges(store).keep())
    await soon(lambda: lines)  # there are no tables yet
    assert (lines[0]["level"], lines[0]["message"]) == ("WARN", "gauges not refreshed")
    await store.open()
    for name in ("Engine", "Loom", "Mill"):
        await store.save(Workspace(owner="ada", name=name))
    await soon(lambda: counted("workspaces_total") == [3, 0])
    keeping.cancel()
    await asyncio.wait([keeping])
    await store.aclose()


@pytest.mark.anyio
async def test_a_workspace_is_exported_as_json_and_csv_and_as_pdf_it_fails(
    client: httpx.AsyncClient,
) -> None:
    workspace = (await new_conversation(client)).partition("/conversations")[0]
    assert [one["title"] for one in json.loads((await client.get(f"{workspace}/export")).text)] == ["Note G"]
    table = csv.DictReader(io.StringIO((await client.get(f"{workspace}/export?format=csv")).text))
    assert [row["title"] for row in table] == ["Note G"]
    answer = await client.get(f"{workspace}/export?format=pdf", headers={"X-Correlation-ID": "export-1"})
    assert (answer.status_code, answer.headers["x-correlation-id"]) == (500, "export-1")
    assert (await client.get(f"{workspace}/export?format=xml")).status_code == 422


@pytest.mark.anyio
async def test_the_failing_export_raises_a_chained_error(app: FastAPI, client: httpx.AsyncClient) -> None:
    identifier = (await new_workspace(client)).rpartition("/")[2]
    with pytest.raises(ExportError) as caught:
        await app.state.services.workspaces.export("ada", identifier, "pdf")
    assert isinstance(caught.value.__cause__, KeyError)


# Conversations and messages


@pytest.mark.anyio
async def test_a_conversation_is_listed_read_changed_and_deleted(client: httpx.AsyncClient) -> None:
    moved = operations("conversation", "create", "list", "get", "update", "delete")
    path = await new_conversation(client)
    assert [one["title"] for one in (await client.get(path.rpartition("/")[0])).json()] == ["Note G"]
    answer = await client.patch(path, json={"title": "Note A", "status": "archived"})
    assert (answer.status_code, answer.json()["title"], answer.json()["status"]) == (200, "Note A", "archived")
    assert (await client.get(path)).json() == answer.json()
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    assert moved.by == [1, 1, 1, 1, 1]


@pytest.mark.anyio
async def test_a_posted_message_is_read_back_and_summarised_in_the_background(client: httpx.AsyncClient) -> None:
    moved = operations("message", "create", "list")
    stored = Moved(("messages_total", {}))
    path = await new_conversation(client)
    posted = await client.post(f"{path}/messages", json={"text": "hello"})
    assert (posted.status_code, posted.json()["author"]) == (201, "ada")
    assert (await client.get(f"{path}/messages")).json() == [posted.json()]
    # httpx's transport waits for the application's return: the background task has ended.
    assert (await client.get(path)).json()["summary"] == "1 messages; the last one: hello"
    assert (moved.by, stored.by) == ([1, 1], [1])


@pytest.mark.anyio
async def test_a_conversation_that_is_deleted_meanwhile_is_not_summarised(
    app: FastAPI, client: httpx.AsyncClient, lines: list[dict[str, Any]]
) -> None:
    path = await new_conversation(client)
    identifier = path.rpartition("/")[2]
    await client.delete(path)
    await app.state.services.conversations.summarise("ada", identifier)
    assert lines[-1]["message"] == "conversation not summarised: it was deleted"


@pytest.mark.anyio
async def test_what_is_deleted_while_it_is_changed_is_not_found(app: FastAPI, client: httpx.AsyncClient) -> None:
    path = await new_workspace(client)
    store = app.state.services.store
    workspace = await store.workspace("ada", path.rpartition("/")[2])
    await client.delete(path)
    with pytest.raises(NotFoundError, match="workspace"):
        await store.save(workspace, {"name": "Loom"})


@pytest.mark.anyio
async def test_the_newest_messages_come_first_and_no_more_than_asked_for(client: httpx.AsyncClient) -> None:
    path = await new_conversation(client)
    await asyncio.gather(*(client.post(f"{path}/messages", json={"text": f"m{n}"}) for n in range(3)))
    await client.post(f"{path}/messages", json={"text": "last"})
    texts = [one["text"] for one in (await client.get(f"{path}/messages?limit=2")).json()]
    assert (len(texts), texts[0]) == (2, "last")


@pytest.mark.anyio
async def test_an_empty_message_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{await new_conversation(client)}/messages", json={"text": ""})
    assert answer.status_code == 422


async def statuses_of_nul(client: httpx.AsyncClient, conversation: str) -> dict[str, int]:
    """What is answered to input with a character that PostgreSQL cannot store."""
    workspace = conversation.partition("/conversations")[0]
    answers = {
        "name": await client.post("/api/workspaces", json={"name": "a\0b"}),
        "title": await client.patch(conversation, json={"title": "a\0b"}),
        "text": await client.post(f"{conversation}/messages", json={"text": "a\0b"}),
        "workspace": await client.get("/api/workspaces/a%00b"),
        "conversation": await client.get(f"{workspace}/conversations/a%00b"),
        "login": await client.post("/api/auth/login", json={"username": "a\0b", "password": "a\0b"}),
    }
    return {name: answer.status_code for name, answer in answers.items()}


NUL_REFUSED = {"name": 422, "title": 422, "text": 422, "workspace": 404, "conversation": 404, "login": 401}


@pytest.mark.anyio
async def test_what_no_database_can_store_is_refused(client: httpx.AsyncClient) -> None:
    assert await statuses_of_nul(client, await new_conversation(client)) == NUL_REFUSED


@pytest.mark.anyio
async def test_a_conversation_is_in_its_own_workspace_alone(client: httpx.AsyncClient) -> None:
    identifier = (await new_conversation(client)).rpartition("/")[2]
    for workspace in ("/api/workspaces/nonsense", await new_workspace(client)):
        path = f"{workspace}/conversations/{identifier}"
        for answer in (
            await client.get(path),
            await client.patch(path, json={"title": "moved"}),
            await client.delete(path),
            await client.get(f"{path}/messages"),
            await client.post(f"{path}/messages", json={"text": "hello"}),
            await client.get(f"{path}/stream"),
        ):
            assert (answer.status_code, answer.json()) == (404, {"detail": "no such conversation"})


@pytest.mark.anyio
async def test_a_conversation_is_hidden_from_others(client: httpx.AsyncClient) -> None:
    path = await new_conversation(client)
    for answer in (
        await client.get(path, headers=BOB),
        await client.patch(path, json={"title": "mine"}, headers=BOB),
        await client.delete(path, headers=BOB),
        await client.get(f"{path}/messages", headers=BOB),
        await client.post(f"{path}/messages", json={"text": "me too"}, headers=BOB),
        await client.get(f"{path}/stream", headers=BOB),
    ):
        assert (answer.status_code, answer.json()) == (404, {"detail": "no such conversation"})
    answer = await client.get(path.rpartition("/")[0], headers=BOB)
    assert (answer.status_code, answer.json()) == (404, {"detail": "no such workspace"})


# Streams and WebSockets


class Reader:
    """Reads a response chunk by chunk while the application runs, and can leave."""

    def __init__(self, app: FastAPI, path: str) -> None:
        headers = [(b"authorization", ADA["Authorization"].encode())]
        asgi = {"version": "3.0", "spec_version": "2.3"}
        scope = http_scope(path.partition("?")[0], headers=headers, asgi=asgi)
        scope["query_string"] = path.partition("?")[2].encode()
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self._sent: asyncio.Queue[Message] = asyncio.Queue()
        self._incoming.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        self.task = asyncio.ensure_future(app(scope, self._incoming.get, self._sent.put))

    async def next(self) -> Message:
        return await asyncio.wait_for(self._sent.get(), 10)

    async def text(self) -> str:
        return str((await self.next())["body"], "utf-8")

    async def opened(self) -> Reader:
        """Read up to the first event, which says that it listens."""
        await self.next()
        assert (await self.text()).startswith("event: ready")
        return self

    async def event(self) -> str:
        """The next event, whatever comes before it to show that the stream is there."""
        text = ":"
        while text.startswith(":"):
            text = await self.text()
        return text

    async def message(self) -> dict[str, str]:
        """The next event, which is a message."""
        event, data = (await self.event()).strip().split("\n")
        assert event == "event: message"
        message: dict[str, str] = json.loads(data.removeprefix("data: "))
        return message

    async def leave(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})
        await asyncio.wait_for(self.task, 10)


async def listeners(client: httpx.AsyncClient) -> int:
    """Streams that are open; the assistant listens too."""
    subscribers: int = (await client.get("/admin/streams")).json()["subscribers"]
    return subscribers - 1


@pytest.mark.anyio
async def test_a_stream_tells_new_messages_and_ends_after_as_many_as_asked_for(
    app: FastAPI, client: httpx.AsyncClient
) -> None:
    path = await new_conversation(client)
    reader = Reader(app, f"{path}/stream?limit=2")
    start = await reader.next()
    assert (b"content-type", b"text/event-stream; charset=utf-8") in start["headers"]
    assert await reader.text() == 'event: ready\ndata: {"limit": 2}\n\n'
    for text in ("one", "two", "three"):
        await client.post(f"{path}/messages", json={"text": text})
    for text in ("one", "two"):
        assert (await reader.message())["text"] == text
    assert await reader.event() == END
    await reader.task
    assert await listeners(client) == 0


@pytest.mark.anyio
async def test_a_silent_stream_says_that_it_is_still_there(
    app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("examples.cortex.api.live.HEARTBEAT", 0.01)
    reader = await Reader(app, f"{await new_conversation(client)}/stream").opened()
    assert await reader.text() == ": still here\n\n"
    await reader.leave()


@pytest.mark.anyio
async def test_a_listener_that_leaves_is_forgotten(app: FastAPI, client: httpx.AsyncClient) -> None:
    subscribers = Moved(("event_bus_subscribers", {}))
    reader = await Reader(app, f"{await new_conversation(client)}/stream").opened()
    assert (await listeners(client), subscribers.by) == (1, [1])
    await reader.leave()
    assert (await listeners(client), subscribers.by) == (0, [0])


@pytest.mark.anyio
async def test_two_streams_hear_their_own_conversation_alone(app: FastAPI, client: httpx.AsyncClient) -> None:
    paths = [await new_conversation(client) for _ in range(2)]
    readers = [await Reader(app, f"{path}/stream?limit=1").opened() for path in paths]
    for number in (1, 0):
        await client.post(f"{paths[number]}/messages", json={"text": f"for {number}"})
    for number, reader in enumerate(readers):
        assert (await reader.message())["text"] == f"for {number}"
        await reader.leave()


END = "event: end\ndata: {}\n\n"


@pytest.mark.anyio
@pytest.mark.parametrize("deleted", ["conversation", "workspace"])
async def test_a_stream_ends_with_its_conversation(app: FastAPI, client: httpx.AsyncClient, deleted: str) -> None:
    path = await new_conversation(client)
    reader = await Reader(app, f"{path}/stream").opened()
    await client.delete(path if deleted == "conversation" else path.partition("/conversations")[0])
    assert await reader.event() == END
    await reader.task
    assert await listeners(client) == 0


@pytest.mark.anyio
async def test_streams_end_before_the_service_does(
    app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("examples.cortex.api.live.HEARTBEAT", 0.01)
    reader = await Reader(app, f"{await new_conversation(client)}/stream").opened()
    app.state.services.health.drain("SIGTERM")
    assert await reader.event() == END
    await reader.task


def live(conversation: str, token: str) -> dict[str, object]:
    identifier = conversation.rpartition("/")[2]
    return dict(websocket_scope(f"/api/live/{identifier}", query_string=b"access_token=" + token.encode()))


CONNECT: Message = {"type": "websocket.connect"}
LEAVE: Message = {"type": "websocket.disconnect", "code": 1000}


def said(text: str) -> Message:
    return {"type": "websocket.receive", "text": text}


@pytest.mark.anyio
async def test_what_is_said_over_a_websocket_is_stored_and_echoed(app: FastAPI, client: httpx.AsyncClient) -> None:
    path = await new_conversation(client)
    sent = await drive(app, live(path, TOKENS["ada"]), [CONNECT, said("one"), said("two"), LEAVE])
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.send"]
    assert [json.loads(message["text"])["text"] for message in sent[1:]] == ["one", "two"]
    assert {one["text"] for one in (await client.get(f"{path}/messages")).json()} == {"one", "two"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "wrong",
    [
        said(""),
        said("x" * 50_000),
        said("a\0b"),
        {"type": "websocket.receive", "bytes": b"binary"},
        {"type": "websocket.receive", "text": None, "bytes": b"binary"},
    ],
)
async def test_what_is_no_message_is_told_over_the_websocket_and_not_stored(
    app: FastAPI, client: httpx.AsyncClient, wrong: Message
) -> None:
    path = await new_conversation(client)
    sent = await drive(app, live(path, TOKENS["ada"]), [CONNECT, wrong, said("one"), LEAVE])
    told, echoed = (json.loads(message["text"]) for message in sent[1:])
    assert ([one["loc"] for one in told["detail"]], echoed["text"]) == ([["text"]], "one")
    assert [one["text"] for one in (await client.get(f"{path}/messages")).json()] == ["one"]


@pytest.mark.anyio
async def test_a_websocket_without_a_valid_token_is_refused(app: FastAPI, client: httpx.AsyncClient) -> None:
    sent = await drive(app, live(await new_conversation(client), "guessed"), [CONNECT, LEAVE])
    assert [message["type"] for message in sent] == ["websocket.close"]


@pytest.mark.anyio
async def test_a_websocket_on_a_foreign_conversation_is_closed(app: FastAPI, client: httpx.AsyncClient) -> None:
    sent = await drive(app, live(await new_conversation(client), TOKENS["bob"]), [CONNECT, said("hello"), LEAVE])
    assert (sent[-1]["code"], sent[-1]["reason"]) == (1008, "no such conversation")


def test_a_slow_subscriber_loses_events_which_is_told_and_keeps_the_oldest(lines: list[dict[str, Any]]) -> None:
    bus = EventBus()
    dropped = Moved(("cortex_events_dropped_total", {"event_type": "wanted"}))
    with bus.subscribe(lambda event: event.type == "wanted") as queue:
        bus.publish("other", "c", {})
        for number in range(BACKLOG + 2):
            bus.publish("wanted", "c", {"id": str(number)})
        assert queue.qsize() == BACKLOG
        assert queue.get_nowait().data == {"id": "0"}
    assert dropped.by == [2]
    told = [(line["level"], line["message"], line["event_type"], line["message_id"]) for line in lines]
    assert told == [("WARN", "event lost", "wanted", str(BACKLOG + number)) for number in range(2)]


# The assistant


@pytest.mark.anyio
async def test_a_message_is_answered_and_the_answer_is_not(answering_app: FastAPI) -> None:
    events = Moved(
        ("event_bus_events_published_total", {"event_type": "message_created"}),
        ("event_bus_events_published_total", {"event_type": "reply_created"}),
        ("event_bus_events_delivered_total", {"event_type": "message_created"}),
        ("event_bus_events_delivered_total", {"event_type": "reply_created"}),
        ("messages_total", {}),
        ("cortex_replies_total", {"outcome": "success"}),
        ("cortex_replies_total", {"outcome": "failure"}),
        ("ux_response_time_seconds_count", {"operation": "reply"}),
    )
    async with client_of(answering_app) as client:
        path = await new_conversation(client)
        reader = await Reader(answering_app, f"{path}/stream").opened()
        told = []
        for text in ("hello", "and now?"):
            await client.post(f"{path}/messages", json={"text": text})
            told += [await reader.message(), await reader.message()]
        await reader.leave()
        assert [(one["author"], one["text"]) for one in told] == [
            ("ada", "hello"),
            ("cortex", "ada said hello"),
            ("ada", "and now?"),
            ("cortex", "ada said and now?"),
        ]
        stored = (await client.get(f"{path}/messages")).json()
        assert [one["id"] for one in stored[::-1]] == [one["id"] for one in told]
        await soon(lambda: events.by[-1] == 2)
    # Every message has two subscribers, every reply one: the stream.
    assert events.by == [2, 2, 4, 2, 4, 2, 0, 2]


@pytest.mark.anyio
async def test_an_answer_has_the_correlation_id_and_the_trace_of_the_message(
    answering_app: FastAPI, companions: Companions, lines: list[dict[str, Any]]
) -> None:
    asked = {f"id-{number}": (secrets.token_hex(16), f"question {secrets.token_hex(4)}") for number in range(6)}
    async with client_of(answering_app) as client:
        path = await new_conversation(client)
        reader = await Reader(answering_app, f"{path}/stream").opened()
        posts = [
            client.post(
                f"{path}/messages",
                json={"text": text},
                headers={"X-Correlation-ID": correlation_id, "traceparent": f"00-{trace_id}-{'b' * 16}-01"},
            )
            for correlation_id, (trace_id, text) in asked.items()
        ]
        await asyncio.gather(*posts)
        for _ in range(2 * len(asked)):
            await reader.message()
        await reader.leave()
    replies = [line for line in lines if line.get("author") == "cortex"]
    told = {told["text"]: headers for told, headers in companions.inputs}
    for correlation_id, (trace_id, text) in asked.items():
        (reply,) = (line for line in replies if line["correlation_id"] == correlation_id)
        assert (reply["trace_id"], reply["user_id"]) == (trace_id, "ada")
        of_tools = [headers for headers in companions.headers if headers.get("x-correlation-id") == correlation_id]
        assert of_tools
        for headers in (told[text], *of_tools):
            assert headers["x-correlation-id"] == correlation_id
            assert headers["traceparent"].split("-")[1] == trace_id


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("text", "error"),
    [
        (FORGETS, "httpx.HTTPStatusError"),
        (CONFUSES, "examples.cortex.api.clients.CognitionError"),
        (TAKES_FOREVER, "TimeoutError"),
    ],
)
async def test_a_service_that_fails_costs_the_reply_and_nothing_else(
    answering_app: FastAPI, lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, text: str, error: str
) -> None:
    monkeypatch.setattr("examples.cortex.api.assistant.REPLY_WITHIN", 0.2 if text == TAKES_FOREVER else 10.0)
    replies = Moved(*(("cortex_replies_total", {"outcome": outcome}) for outcome in ("success", "failure")))
    async with client_of(answering_app) as client:
        path = await new_conversation(client)
        reader = await Reader(answering_app, f"{path}/stream").opened()
        posted = await client.post(f"{path}/messages", json={"text": text}, headers={"X-Correlation-ID": "lost-1"})
        assert posted.status_code == 201
        await soon(lambda: any(line["message"] == "no reply" for line in lines))
        (line,) = (line for line in lines if line["message"] == "no reply")
        assert (line["level"], line["correlation_id"], line["error"]["type"]) == ("WARN", "lost-1", error)
        monkeypatch.setattr("examples.cortex.api.assistant.REPLY_WITHIN", 10.0)
        await client.post(f"{path}/messages", json={"text": "hello"})
        told = [(await reader.message())["text"] for _ in range(3)]
        assert told == [text, "hello", "ada said hello"]
        await reader.leave()
        await soon(lambda: replies.by == [1, 1])


class Failing(Memory):
    """A memory that remembers nothing."""

    async def store_input(self, user_id: str, conversation_id: str, text: str) -> None:
        raise ValueError(text)


@pytest.mark.anyio
async def test_the_span_of_a_message_without_reply_has_failed(
    lines: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    observed = partial(EventBusInstrumentation, tracer_provider=provider)
    monkeypatch.setattr("examples.cortex.api.events.EventBusInstrumentation", observed)
    bus = EventBus()
    store, memory, cognition = Store(connect(sqlite(tmp_path))), Failing(NOBODY), Cognition(NOBODY)
    assistant = Assistant(bus, Conversations(store, Gauges(store), bus), memory, cognition)
    async with aclosing(store), aclosing(memory), aclosing(cognition), anyio.create_task_group() as tasks:
        await tasks.start(assistant.run)
        bus.publish("message_created", "c", {"id": "m", "author": "ada", "text": "hello"})
        await soon(lambda: [span.name for span in spans.get_finished_spans()][1:])
        tasks.cancel_scope.cancel()
    (span,) = (span for span in spans.get_finished_spans() if span.name == "process message_created")
    assert span.status.status_code is StatusCode.ERROR
    assert [line["message"] for line in lines] == ["no reply"]


@pytest.mark.anyio
async def test_no_proxy_is_asked_for_the_way_to_the_other_services(
    answering_app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, NOBODY)
    async with client_of(answering_app) as client:
        path = await new_conversation(client)
        reader = await Reader(answering_app, f"{path}/stream").opened()
        await client.post(f"{path}/messages", json={"text": "hello"})
        assert [(await reader.message())["author"] for _ in range(2)] == ["ada", "cortex"]
        await reader.leave()


@pytest.mark.anyio
@pytest.mark.parametrize("lacking", ["memory_url", "cognition_url"])
async def test_without_the_other_services_messages_stay_without_reply(
    answering: Config, lines: list[dict[str, Any]], lacking: str
) -> None:
    async with client_of(create_app(dataclasses.replace(answering, **{lacking: NOBODY}))) as client:
        path = await new_conversation(client)
        assert (await client.post(f"{path}/messages", json={"text": "hello"})).status_code == 201
        await soon(lambda: any(line["message"] == "no reply" for line in lines))
        assert len((await client.get(f"{path}/messages")).json()) == 1
    (line,) = (line for line in lines if line["message"] == "no reply")
    assert "All connection attempts failed" in line["error"]["message"]


@pytest.mark.anyio
async def test_several_processes_may_create_the_tables_at_once(tmp_path: Path) -> None:
    await open_at_once(sqlite(tmp_path))


async def open_at_once(url: str) -> None:
    stores = [Store(connect(url)) for _ in range(5)]
    await asyncio.gather(*(store.open() for store in stores))
    assert await stores[0].sizes() == {"logins": 0, "workspaces": 0, "conversations": 0, "messages": 0}
    for store in stores:
        await store.aclose()


# Statistics, health, configuration


@pytest.mark.anyio
async def test_users_see_how_much_there_is_and_how_many_streams(client: httpx.AsyncClient) -> None:
    await new_conversation(client)
    sizes = (await client.get("/admin/storage")).json()
    assert sizes == {"logins": 0, "workspaces": 1, "conversations": 1, "messages": 0}
    assert (await client.get("/admin/streams")).json() == {"subscribers": 1}


@pytest.mark.anyio
async def test_an_unknown_area_is_not_found_and_strangers_are_kept_out(client: httpx.AsyncClient) -> None:
    assert (await client.get("/admin/nowhere")).status_code == 404
    assert (await client.get("/admin/storage", headers={"Authorization": ""})).status_code == 403


async def statuses(client: httpx.AsyncClient) -> tuple[int, str, dict[str, str]]:
    answer = await client.get("/health")
    body = answer.json()
    return answer.status_code, body["status"], {name: check["status"] for name, check in body["checks"].items()}


@pytest.mark.anyio
async def test_without_the_other_services_it_is_degraded_and_still_ready(client: httpx.AsyncClient) -> None:
    checks = {"database": "healthy", "memory_service": "unhealthy", "cognition_service": "unhealthy"}
    assert await statuses(client) == (200, "degraded", checks)
    assert (await client.get("/health/ready")).status_code == 200


@pytest.mark.anyio
async def test_with_them_it_is_healthy(answering_app: FastAPI) -> None:
    async with client_of(answering_app) as client:
        checks = dict.fromkeys(("database", "memory_service", "cognition_service"), "healthy")
        assert await statuses(client) == (200, "healthy", checks)


@pytest.mark.anyio
async def test_a_database_that_cannot_be_opened_makes_the_service_not_ready(tmp_path: Path) -> None:
    threads = set(threading.enumerate())
    transport = httpx.ASGITransport(lonely(tmp_path / "missing"))
    async with httpx.AsyncClient(transport=transport, base_url="http://cortex") as client:
        assert (await client.get("/health/ready")).status_code == 503
        assert (await client.get("/health/live")).status_code == 200
    # aiosqlite does not wait for the thread of a connection that it could not open, and that thread needs the loop.
    # The monitor of asgi_obs lives for as long as the loop does.
    await soon(lambda: all(one in threads or one.name.startswith("asgi_obs.") for one in threading.enumerate()))


def test_the_environment_says_what_differs_from_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "CORTEX_USERS", "CORTEX_SECRET", "MEMORY_SERVICE_URL", "COGNITION_SERVICE_URL"):
        monkeypatch.delenv(name, raising=False)
    default = Config.from_environment()
    assert default == Config(secret=default.secret)
    assert len(default.secret) == 32
    monkeypatch.setenv("DATABASE_URL", "postgresql://db/cortex")
    monkeypatch.setenv("CORTEX_USERS", '{"ada": "engine"}')
    monkeypatch.setenv("CORTEX_SECRET", "s")
    monkeypatch.setenv("MEMORY_SERVICE_URL", "http://memory")
    monkeypatch.setenv("COGNITION_SERVICE_URL", "http://cognition")
    assert Config.from_environment() == Config(
        "postgresql://db/cortex", {"ada": "engine"}, b"s", "http://memory", "http://cognition"
    )


@pytest.mark.anyio
async def test_all_of_it_works_on_postgresql(postgres: Postgres, companions: Companions) -> None:
    url = postgres.url("asyncpg").replace("+asyncpg", "")
    await open_at_once(url)
    app = create_app(
        Config(url, {"ada": "engine"}, memory_url=companions.url, cognition_url=companions.url, secret=SECRET)
    )
    try:
        async with client_of(app) as client:
            answer = await client.post("/api/auth/login", json={"username": "ada", "password": "engine"})
            assert answer.status_code == 200
            path = await new_conversation(client)
            reader = await Reader(app, f"{path}/stream").opened()
            posted = await client.post(f"{path}/messages", json={"text": "hello"})
            assert [(await reader.message())["author"] for _ in range(2)] == ["ada", "cortex"]
            await reader.leave()
            assert (await client.get(f"{path}/messages")).json()[-1] == posted.json()
            assert "messages; the last one: " in (await client.get(path)).json()["summary"]
            assert (await client.patch(path, json={"status": "archived"})).status_code == 200
            await gauges_say([1, 0], [0, 1])
            assert await statuses_of_nul(client, path) == NUL_REFUSED
            assert (await statuses(client))[:2] == (200, "healthy")
            assert (await client.delete(path.partition("/conversations")[0])).status_code == 204
            sizes = (await client.get("/admin/storage")).json()
            assert sizes == {"logins": 1, "workspaces": 0, "conversations": 0, "messages": 0}
    finally:
        engine = connect(url)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
        await engine.dispose()


@pytest.mark.anyio
async def test_a_database_that_stops_costs_answers_and_comes_back(own_postgres: Postgres) -> None:
    app = create_app(Config(own_postgres.url("asyncpg"), secret=SECRET, memory_url=NOBODY, cognition_url=NOBODY))
    async with client_of(app) as client:
        await new_workspace(client)
        own_postgres.stop()
        assert (await client.get("/api/workspaces")).status_code == 500
        status, _, checks = await statuses(client)
        assert (status, checks["database"]) == (503, "unhealthy")
        assert (await client.get("/health/ready")).status_code == 503
        own_postgres.start()
        await app.state.services.store.open()  # stopped so, this server forgets
        await new_workspace(client)
        assert (await statuses(client))[0] == 200
        assert (await client.get("/health/ready")).status_code == 200
