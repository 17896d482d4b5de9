"""The HTTP side of Cortex. What asgi_obs needs of an application is in `create_app`: two lines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Query, Request, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from opentelemetry.trace import Tracer
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection

from asgi_obs import Observability, bind
from examples.cortex.admin import create_admin
from examples.cortex.auth import BearerTokens, Caller
from examples.cortex.events import Broker
from examples.cortex.service import Cortex, NotFoundError
from examples.cortex.store import Conversation, Message, Store, Workspace

HEARTBEAT = 1.0
"""Seconds of silence after which a stream sends a comment, so that a client that has left is noticed."""

POLICY_VIOLATION = 1008


class NewWorkspace(BaseModel):
    name: str = Field(min_length=1, max_length=100)


class NewConversation(BaseModel):
    title: str = Field(min_length=1, max_length=200)


class NewMessage(BaseModel):
    text: str = Field(min_length=1, max_length=10_000)


class _Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str


class WorkspaceOut(_Out):
    name: str


class ConversationOut(_Out):
    title: str
    summary: str | None


class MessageOut(_Out):
    author: str
    text: str
    created_at: datetime


def _cortex(connection: HTTPConnection) -> Cortex:
    cortex: Cortex = connection.app.state.cortex
    return cortex


Service = Annotated[Cortex, Depends(_cortex)]

workspaces = APIRouter(prefix="/workspaces")
conversations = APIRouter(prefix="/{workspace_id}/conversations")
live = APIRouter()


@workspaces.post("", status_code=201, response_model=WorkspaceOut)
async def create_workspace(new: NewWorkspace, caller: Caller, cortex: Service) -> Workspace:
    return await cortex.create_workspace(caller, new.name)


@workspaces.get("", response_model=list[WorkspaceOut])
async def list_workspaces(caller: Caller, cortex: Service) -> Any:
    return await cortex.workspaces(caller)


@workspaces.get("/{workspace_id}", response_model=WorkspaceOut)
async def read_workspace(workspace_id: str, caller: Caller, cortex: Service) -> Workspace:
    return await cortex.workspace(caller, workspace_id)


@workspaces.get("/{workspace_id}/export", response_class=PlainTextResponse)
async def export_workspace(
    workspace_id: str, caller: Caller, cortex: Service, form: Annotated[str, Query(alias="format")] = "json"
) -> str:
    return await cortex.export(caller, workspace_id, form)


@conversations.post("", status_code=201, response_model=ConversationOut)
async def create_conversation(workspace_id: str, new: NewConversation, caller: Caller, cortex: Service) -> Conversation:
    return await cortex.create_conversation(caller, workspace_id, new.title)


@conversations.get("/{conversation_id}", response_model=ConversationOut)
async def read_conversation(conversation_id: str, caller: Caller, cortex: Service) -> Conversation:
    return await cortex.conversation(caller, conversation_id)


@conversations.get("/{conversation_id}/messages", response_model=list[MessageOut])
async def list_messages(
    conversation_id: str, caller: Caller, cortex: Service, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Any:
    return await cortex.messages(caller, conversation_id, limit)


@conversations.post("/{conversation_id}/messages", status_code=201, response_model=MessageOut)
async def post_message(
    conversation_id: str, new: NewMessage, caller: Caller, cortex: Service, background: BackgroundTasks
) -> Message:
    message = await cortex.post_message(caller, conversation_id, new.text)
    background.add_task(cortex.summarise, conversation_id)
    return message


@conversations.get("/{conversation_id}/stream")
async def stream_messages(
    conversation_id: str, caller: Caller, cortex: Service, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> StreamingResponse:
    """New messages as they come, `limit` of them at most."""
    await cortex.conversation(caller, conversation_id)
    return StreamingResponse(
        _events(cortex.broker, conversation_id, limit),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store"},
    )


async def _events(broker: Broker, conversation_id: str, limit: int) -> AsyncIterator[str]:
    with broker.subscribe(conversation_id) as queue:
        yield _event("ready", {"limit": limit})
        left = limit
        while left:
            try:
                message = await asyncio.wait_for(queue.get(), HEARTBEAT)
            except asyncio.TimeoutError:
                yield ": still here\n\n"
            else:
                left -= 1
                yield _event("message", message)
        yield _event("end", {})


def _event(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


@live.websocket("/live/{conversation_id}")
async def chat(websocket: WebSocket, conversation_id: str, cortex: Service) -> None:
    """Every text that is sent becomes a message of the conversation, and is echoed as it was stored."""
    if not websocket.user.is_authenticated:
        await websocket.close(POLICY_VIOLATION)
        return
    bind(user_id=websocket.user.identity)
    await websocket.accept()
    async for text in websocket.iter_text():
        try:
            message = await cortex.post_message(websocket.user.identity, conversation_id, text)
        except NotFoundError as error:
            await websocket.close(POLICY_VIOLATION, f"no such {error}")
            return
        await websocket.send_json({"id": message.id, "text": message.text})


workspaces.include_router(conversations)
api = APIRouter(prefix="/api")
api.include_router(workspaces)
api.include_router(live)


async def _not_found(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"no such {error}"}, 404)


def create_app(database_url: str, users: Mapping[str, str], obs: Observability, tracer: Tracer) -> FastAPI:
    """The whole service as one ASGI application, observed.

    Args:
        database_url: See `Store`.
        users: The name of the user behind every bearer token.
        obs: What observes it.
        tracer: See `Cortex`.
    """
    cortex = Cortex(Store(database_url), Broker(), tracer)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await cortex.store.open()
        yield
        await cortex.store.close()

    app = FastAPI(title="Cortex", lifespan=lifespan)
    app.state.cortex = cortex
    app.include_router(api)
    app.mount("/admin", create_admin(cortex))
    app.add_middleware(AuthenticationMiddleware, backend=BearerTokens(users))
    app.add_exception_handler(NotFoundError, _not_found)

    obs.health.add("database", cortex.store.ping)
    return obs.install(app)
