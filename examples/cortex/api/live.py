"""What stays open: the event stream of a conversation, and its WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import ValidationError

from asgi_obs import bind
from examples.cortex.api.events import CONVERSATION_DELETED
from examples.cortex.api.schemas import NewMessage, problems
from examples.cortex.api.services import Found, Provided, Services
from examples.cortex.api.store import NotFoundError

HEARTBEAT = 1.0
"""Seconds of silence after which a stream sends a comment, so that a client that has left is noticed, and looks whether
the service is about to end."""

POLICY_VIOLATION = 1008

conversation = APIRouter(prefix="/{conversation_id}")
live = APIRouter(prefix="/live")


@conversation.get("/stream")
async def stream_messages(
    found: Found, services: Provided, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> StreamingResponse:
    """New messages as they come, replies too, `limit` of them at most; until the conversation or the service ends."""
    return StreamingResponse(
        _events(services, found.id, limit),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store"},
    )


async def _events(services: Services, conversation_id: str, limit: int) -> AsyncIterator[str]:
    with services.bus.subscribe(lambda event: event.conversation_id == conversation_id) as queue:
        yield _event("ready", {"limit": limit})
        left = limit
        # A server that ends waits for its connections first, and cuts off those that do not end in time.
        while left and services.health.readiness.state != "draining":
            try:
                event = await asyncio.wait_for(queue.get(), HEARTBEAT)
            except asyncio.TimeoutError:
                yield ": still here\n\n"
                continue
            # Not around the `yield`: the context of the publisher would leak to whoever asks for the next event.
            with services.bus.delivering(event):
                told = _event("message", event.data)
            if event.type == CONVERSATION_DELETED:
                break
            left -= 1
            yield told
        yield _event("end", {})


def _event(kind: str, data: Mapping[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


@live.websocket("/{conversation_id}")
async def chat(websocket: WebSocket, conversation_id: str, services: Provided) -> None:
    """Every text that is sent becomes a message of the conversation, and is echoed as it was stored.

    What is no message is answered as it is by the routes, with `detail`, and is not stored.
    """
    if not websocket.user.is_authenticated:
        await websocket.close(POLICY_VIOLATION)
        return
    name = websocket.user.display_name
    bind(user_id=name)
    await websocket.accept()
    async for text in _sent(websocket):
        try:
            new = NewMessage.model_validate({"text": text})
            found = await services.conversations.find(name, conversation_id)
            message = await services.conversations.post(name, found, new.text)
        except ValidationError as error:
            await websocket.send_json(problems(error.errors()))
        except NotFoundError as error:
            await websocket.close(POLICY_VIOLATION, f"no such {error}")
            return
        else:
            await websocket.send_json({"id": message.id, "text": message.text})


async def _sent(websocket: WebSocket) -> AsyncIterator[str | None]:
    """Every text, and None for what is none, until the client leaves."""
    while (frame := await websocket.receive())["type"] == "websocket.receive":
        yield frame.get("text")
