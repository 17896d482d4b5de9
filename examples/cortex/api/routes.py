"""The HTTP routes: what comes in is checked, what goes out is shaped, and all else is done elsewhere."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, HTTPException, Query
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from asgi_obs import bind
from examples.cortex.api.auth import Caller
from examples.cortex.api.live import conversation as live_conversation
from examples.cortex.api.live import live
from examples.cortex.api.metrics import AUTH_ATTEMPTS, LOGINS
from examples.cortex.api.services import Provided
from examples.cortex.api.store import Conversation, Login, Message, Workspace

Name = Annotated[str, Field(min_length=1, max_length=100)]
Title = Annotated[str, Field(min_length=1, max_length=200)]
Status = Literal["active", "archived"]


class Credentials(BaseModel):
    username: str = Field(max_length=100)
    password: str = Field(max_length=1_000)


class Token(BaseModel):
    access_token: str
    token_type: str = "bearer"  # noqa: S105 - no password


class NewWorkspace(BaseModel):
    name: Name


class WorkspaceChanges(BaseModel):
    name: Name | None = None
    status: Status | None = None


class NewConversation(BaseModel):
    title: Title


class ConversationChanges(BaseModel):
    title: Title | None = None
    status: Status | None = None


class NewMessage(BaseModel):
    text: str = Field(min_length=1, max_length=10_000)


class _Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str


class WorkspaceOut(_Out):
    name: str
    status: Status


class ConversationOut(_Out):
    title: str
    status: Status
    summary: str | None


class MessageOut(_Out):
    author: str
    text: str
    created_at: datetime


auth = APIRouter(prefix="/auth")
workspaces = APIRouter(prefix="/workspaces")
conversations = APIRouter(prefix="/{workspace_id}/conversations")


@auth.post("/login")
async def log_in(credentials: Credentials, services: Provided) -> Token:
    if not await services.accounts.accepts(credentials.username, credentials.password):
        AUTH_ATTEMPTS.labels(status="failure").inc()
        raise HTTPException(401, "no such user, or another password", {"WWW-Authenticate": "Bearer"})
    bind(user_id=credentials.username)
    AUTH_ATTEMPTS.labels(status="success").inc()
    LOGINS.labels(auth_method="password").inc()
    await services.store.save(Login(user=credentials.username))
    await services.gauges.refresh()
    return Token(access_token=services.tokens.issue(credentials.username))


@workspaces.post("", status_code=201, response_model=WorkspaceOut)
async def create_workspace(new: NewWorkspace, caller: Caller, services: Provided) -> Workspace:
    return await services.workspaces.create(caller, new.name)


@workspaces.get("", response_model=list[WorkspaceOut])
async def list_workspaces(caller: Caller, services: Provided) -> Any:
    return await services.workspaces.list(caller)


@workspaces.get("/{workspace_id}", response_model=WorkspaceOut)
async def read_workspace(workspace_id: str, caller: Caller, services: Provided) -> Workspace:
    return await services.workspaces.get(caller, workspace_id)


@workspaces.patch("/{workspace_id}", response_model=WorkspaceOut)
async def change_workspace(
    workspace_id: str, changes: WorkspaceChanges, caller: Caller, services: Provided
) -> Workspace:
    return await services.workspaces.update(caller, workspace_id, changes.model_dump(exclude_none=True))


@workspaces.delete("/{workspace_id}", status_code=204)
async def delete_workspace(workspace_id: str, caller: Caller, services: Provided) -> None:
    await services.workspaces.delete(caller, workspace_id)


@workspaces.get("/{workspace_id}/export", response_class=PlainTextResponse)
async def export_workspace(
    workspace_id: str, caller: Caller, services: Provided, form: Annotated[str, Query(alias="format")] = "json"
) -> str:
    return await services.workspaces.export(caller, workspace_id, form)


@conversations.post("", status_code=201, response_model=ConversationOut)
async def create_conversation(
    workspace_id: str, new: NewConversation, caller: Caller, services: Provided
) -> Conversation:
    return await services.conversations.create(caller, workspace_id, new.title)


@conversations.get("", response_model=list[ConversationOut])
async def list_conversations(workspace_id: str, caller: Caller, services: Provided) -> Any:
    return await services.conversations.list(caller, workspace_id)


@conversations.get("/{conversation_id}", response_model=ConversationOut)
async def read_conversation(conversation_id: str, caller: Caller, services: Provided) -> Conversation:
    return await services.conversations.get(caller, conversation_id)


@conversations.patch("/{conversation_id}", response_model=ConversationOut)
async def change_conversation(
    conversation_id: str, changes: ConversationChanges, caller: Caller, services: Provided
) -> Conversation:
    return await services.conversations.update(caller, conversation_id, changes.model_dump(exclude_none=True))


@conversations.delete("/{conversation_id}", status_code=204)
async def delete_conversation(conversation_id: str, caller: Caller, services: Provided) -> None:
    await services.conversations.delete(caller, conversation_id)


@conversations.get("/{conversation_id}/messages", response_model=list[MessageOut])
async def list_messages(
    conversation_id: str, caller: Caller, services: Provided, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Any:
    return await services.conversations.messages(caller, conversation_id, limit)


@conversations.post("/{conversation_id}/messages", status_code=201, response_model=MessageOut)
async def post_message(
    conversation_id: str, new: NewMessage, caller: Caller, services: Provided, background: BackgroundTasks
) -> Message:
    message = await services.conversations.post(caller, conversation_id, new.text)
    background.add_task(services.conversations.summarise, caller, conversation_id)
    return message


conversations.include_router(live_conversation)
workspaces.include_router(conversations)
api = APIRouter(prefix="/api")
for router in (auth, workspaces, live):
    api.include_router(router)
