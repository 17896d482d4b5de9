"""The service of the example, route by route, without a server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from asgi_lifespan import LifespanManager
from fastapi import FastAPI
from opentelemetry.trace import NoOpTracerProvider
from prometheus_client import CollectorRegistry

from asgi_obs import Observability, Settings
from asgi_obs.testing import drive, http_scope, websocket_scope
from asgi_obs.types import Message
from examples.cortex.api import create_app
from examples.cortex.events import BACKLOG, Broker
from examples.cortex.service import ExportError

ADA = {"Authorization": "Bearer t-ada"}
BOB = {"Authorization": "Bearer t-bob"}


def cortex(directory: Path) -> FastAPI:
    return create_app(
        f"sqlite+aiosqlite:///{directory / 'cortex.db'}",
        {"t-ada": "ada", "t-bob": "bob"},
        Observability(Settings(service_name="cortex-core"), registry=CollectorRegistry()),
        NoOpTracerProvider().get_tracer("test"),
    )


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with LifespanManager(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://cortex", headers=ADA) as client:
            yield client


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return cortex(tmp_path)


@pytest.fixture
async def client(app: FastAPI, anyio_backend: str) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


async def new_workspace(client: httpx.AsyncClient) -> str:
    answer = await client.post("/api/workspaces", json={"name": "Engine"})
    assert answer.status_code == 201
    return f"/api/workspaces/{answer.json()['id']}"


async def new_conversation(client: httpx.AsyncClient) -> str:
    workspace = await new_workspace(client)
    answer = await client.post(f"{workspace}/conversations", json={"title": "Note G"})
    assert answer.status_code == 201
    return f"{workspace}/conversations/{answer.json()['id']}"


@pytest.mark.anyio
async def test_a_workspace_is_listed_and_read_by_its_owner_alone(client: httpx.AsyncClient) -> None:
    path = await new_workspace(client)
    assert [one["name"] for one in (await client.get("/api/workspaces")).json()] == ["Engine"]
    assert (await client.get(path)).json()["name"] == "Engine"
    assert (await client.get("/api/workspaces", headers=BOB)).json() == []
    answer = await client.get(path, headers=BOB)
    assert (answer.status_code, answer.json()) == (404, {"detail": "no such workspace"})


@pytest.mark.anyio
@pytest.mark.parametrize(
    "headers", [{"Authorization": ""}, {"Authorization": "Bearer guessed"}, {"Authorization": "t-ada"}]
)
async def test_a_caller_without_a_valid_token_is_turned_away(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    answer = await client.get("/api/workspaces", headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.anyio
async def test_a_token_in_the_query_counts_for_websockets_only(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/workspaces?access_token=t-ada", headers={"Authorization": ""})
    assert answer.status_code == 401


@pytest.mark.anyio
async def test_a_posted_message_is_read_back_and_summarised_in_the_background(client: httpx.AsyncClient) -> None:
    path = await new_conversation(client)
    posted = await client.post(f"{path}/messages", json={"text": "hello"})
    assert (posted.status_code, posted.json()["author"]) == (201, "ada")
    assert [one["text"] for one in (await client.get(f"{path}/messages")).json()] == ["hello"]
    # httpx's transport waits for the application's return: the background task has ended.
    assert (await client.get(path)).json()["summary"] == "1 messages; the last one: hello"


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


@pytest.mark.anyio
async def test_a_conversation_is_hidden_from_others(client: httpx.AsyncClient) -> None:
    path = await new_conversation(client)
    for answer in (
        await client.get(path, headers=BOB),
        await client.post(f"{path}/messages", json={"text": "me too"}, headers=BOB),
        await client.get(f"{path}/stream", headers=BOB),
    ):
        assert (answer.status_code, answer.json()) == (404, {"detail": "no such conversation"})


@pytest.mark.anyio
async def test_a_workspace_is_exported_as_json_and_in_an_unknown_form_it_fails(client: httpx.AsyncClient) -> None:
    workspace = (await new_conversation(client)).partition("/conversations")[0]
    assert [one["title"] for one in json.loads((await client.get(f"{workspace}/export")).text)] == ["Note G"]
    answer = await client.get(f"{workspace}/export?format=pdf", headers={"X-Correlation-ID": "export-1"})
    assert (answer.status_code, answer.headers["x-correlation-id"]) == (500, "export-1")


@pytest.mark.anyio
async def test_the_failing_export_raises_a_chained_error(app: FastAPI, client: httpx.AsyncClient) -> None:
    identifier = (await new_workspace(client)).rpartition("/")[2]
    with pytest.raises(ExportError) as caught:
        await app.state.cortex.export("ada", identifier, "pdf")
    assert isinstance(caught.value.__cause__, KeyError)


class Reader:
    """Reads a response chunk by chunk while the application runs, and can leave."""

    def __init__(self, app: FastAPI, path: str) -> None:
        headers = [(b"authorization", b"Bearer t-ada")]
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

    async def leave(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})
        await asyncio.wait_for(self.task, 10)


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
        event, data = (await reader.text()).strip().split("\n")
        assert (event, json.loads(data.removeprefix("data: "))["text"]) == ("event: message", text)
    assert await reader.text() == "event: end\ndata: {}\n\n"
    await reader.task
    assert app.state.cortex.broker.listeners == 0


@pytest.mark.anyio
async def test_a_silent_stream_says_that_it_is_still_there(
    app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("examples.cortex.api.HEARTBEAT", 0.01)
    reader = Reader(app, f"{await new_conversation(client)}/stream")
    await reader.next()
    await reader.text()
    assert await reader.text() == ": still here\n\n"
    await reader.leave()


@pytest.mark.anyio
async def test_a_listener_that_leaves_is_forgotten(app: FastAPI, client: httpx.AsyncClient) -> None:
    reader = Reader(app, f"{await new_conversation(client)}/stream")
    await reader.next()
    await reader.text()
    assert app.state.cortex.broker.listeners == 1
    await reader.leave()
    assert app.state.cortex.broker.listeners == 0


@pytest.mark.anyio
async def test_two_streams_hear_their_own_conversation_alone(app: FastAPI, client: httpx.AsyncClient) -> None:
    paths = [await new_conversation(client) for _ in range(2)]
    readers = [Reader(app, f"{path}/stream?limit=1") for path in paths]
    for reader in readers:
        await reader.next()
        await reader.text()
    for number in (1, 0):
        await client.post(f"{paths[number]}/messages", json={"text": f"for {number}"})
    for number, reader in enumerate(readers):
        assert f"for {number}" in await reader.text()
        await reader.leave()


def live(conversation: str, token: bytes) -> dict[str, object]:
    identifier = conversation.rpartition("/")[2]
    return dict(websocket_scope(f"/api/live/{identifier}", query_string=b"access_token=" + token))


CONNECT: Message = {"type": "websocket.connect"}
LEAVE: Message = {"type": "websocket.disconnect", "code": 1000}


def said(text: str) -> Message:
    return {"type": "websocket.receive", "text": text}


@pytest.mark.anyio
async def test_what_is_said_over_a_websocket_is_stored_and_echoed(app: FastAPI, client: httpx.AsyncClient) -> None:
    path = await new_conversation(client)
    sent = await drive(app, live(path, b"t-ada"), [CONNECT, said("one"), said("two"), LEAVE])
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.send"]
    assert [json.loads(message["text"])["text"] for message in sent[1:]] == ["one", "two"]
    assert {one["text"] for one in (await client.get(f"{path}/messages")).json()} == {"one", "two"}


@pytest.mark.anyio
async def test_a_websocket_without_a_valid_token_is_refused(app: FastAPI, client: httpx.AsyncClient) -> None:
    sent = await drive(app, live(await new_conversation(client), b"guessed"), [CONNECT, LEAVE])
    assert [message["type"] for message in sent] == ["websocket.close"]


@pytest.mark.anyio
async def test_a_websocket_on_a_foreign_conversation_is_closed(app: FastAPI, client: httpx.AsyncClient) -> None:
    sent = await drive(app, live(await new_conversation(client), b"t-bob"), [CONNECT, said("hello"), LEAVE])
    assert (sent[-1]["code"], sent[-1]["reason"]) == (1008, "no such conversation")


@pytest.mark.anyio
async def test_administrators_see_sizes_and_streams(client: httpx.AsyncClient) -> None:
    await new_conversation(client)
    sizes = (await client.get("/admin/storage")).json()
    assert sizes == {"workspaces": 1, "conversations": 1, "messages": 0}
    assert (await client.get("/admin/streams")).json() == {"listeners": 0}


@pytest.mark.anyio
async def test_an_unknown_area_is_not_found_and_strangers_are_kept_out(client: httpx.AsyncClient) -> None:
    assert (await client.get("/admin/nowhere")).status_code == 404
    assert (await client.get("/admin/storage", headers={"Authorization": ""})).status_code == 403


@pytest.mark.anyio
async def test_the_database_is_part_of_the_health_answer(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health")
    assert (answer.status_code, answer.json()["checks"]["database"]["status"]) == (200, "healthy")
    assert (await client.get("/health/ready")).status_code == 200


@pytest.mark.anyio
async def test_a_database_that_cannot_be_opened_makes_the_service_not_ready(tmp_path: Path) -> None:
    threads = set(threading.enumerate())
    transport = httpx.ASGITransport(cortex(tmp_path / "missing"))
    async with httpx.AsyncClient(transport=transport, base_url="http://cortex") as client:
        assert (await client.get("/health/ready")).status_code == 503
        assert (await client.get("/health/live")).status_code == 200
    # aiosqlite does not wait for the thread of a connection that it could not open, and that thread needs the loop.
    # The monitor of asgi_obs lives for as long as the loop does.
    left = {one for one in set(threading.enumerate()) - threads if not one.name.startswith("asgi_obs.")}
    assert [thread for thread in left if thread.join(10) or thread.is_alive()] == []


def test_a_slow_listener_loses_events_and_keeps_the_oldest() -> None:
    broker = Broker()
    with broker.subscribe("c") as queue:
        for number in range(BACKLOG + 1):
            broker.publish("c", {"number": number})
        assert queue.qsize() == BACKLOG
        assert queue.get_nowait() == {"number": 0}
