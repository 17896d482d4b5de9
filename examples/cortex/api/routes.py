"""The HTTP routes: what comes in is checked, what goes out is shaped, and all else is done elsewhere."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, HTTPException, Query
from fastapi.responses import PlainTextResponse

from asgi_obs import bind
from examples.cortex.api.auth import Caller
from examples.cortex.api.live import conversation as live_conversation
from examples.cortex.api.live import live
from examples.cortex.api.metrics import AUTH_ATTEMPTS, LOGINS
from examples.cortex.api.schemas import (
    ConversationChanges,
    ConversationOut,
    Credentials,
    ExportFormat,
    MessageOut,
    NewConversation,
    NewMessage,
    NewWorkspace,
    Token,
    WorkspaceChanges,
    WorkspaceOut,
)
from examples.cortex.api.services import Found, Provided
from examples.cortex.api.store import Conversation, Login, Message, Workspace

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
    services.gauges.changed()
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
    workspace_id: str, caller: Caller, services: Provided, form: Annotated[ExportFormat, Query(alias="format")] = "json"
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
async def read_conversation(found: Found, services: Provided) -> Conversation:
    return services.conversations.get(found)


@conversations.patch("/{conversation_id}", response_model=ConversationOut)
async def change_conversation(found: Found, changes: ConversationChanges, services: Provided) -> Conversation:
    return await services.conversations.update(found, changes.model_dump(exclude_none=True))


@conversations.delete("/{conversation_id}", status_code=204)
async def delete_conversation(found: Found, services: Provided) -> None:
    await services.conversations.delete(found)


@conversations.get("/{conversation_id}/messages", response_model=list[MessageOut])
async def list_messages(found: Found, services: Provided, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> Any:
    return await services.conversations.messages(found, limit)


@conversations.post("/{conversation_id}/messages", status_code=201, response_model=MessageOut)
async def post_message(
    found: Found, new: NewMessage, caller: Caller, services: Provided, background: BackgroundTasks
) -> Message:
    message = await services.conversations.post(caller, found, new.text)
    background.add_task(services.conversations.summarise, caller, found.id)
    return message


conversations.include_router(live_conversation)
workspaces.include_router(conversations)
api = APIRouter(prefix="/api")
for router in (auth, workspaces, live):
    api.include_router(router)
