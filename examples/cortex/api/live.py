"""What stays open: the event stream of a conversation, and its WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, WebSocket
from fastapi.responses import StreamingResponse

from asgi_obs import bind
from examples.cortex.api.auth import Caller
from examples.cortex.api.events import EventBus
from examples.cortex.api.services import Provided
from examples.cortex.api.store import NotFoundError

HEARTBEAT = 1.0
"""Seconds of silence after which a stream sends a comment, so that a client that has left is noticed."""

POLICY_VIOLATION = 1008

conversation = APIRouter(prefix="/{conversation_id}")
live = APIRouter(prefix="/live")


@conversation.get("/stream")
async def stream_messages(
    conversation_id: str, caller: Caller, services: Provided, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> StreamingResponse:
    """New messages as they come, replies too, `limit` of them at most."""
    await services.conversations.find(caller, conversation_id)
    return StreamingResponse(
        _events(services.bus, conversation_id, limit),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store"},
    )


async def _events(bus: EventBus, conversation_id: str, limit: int) -> AsyncIterator[str]:
    with bus.subscribe(lambda event: event.conversation_id == conversation_id) as queue:
        yield _event("ready", {"limit": limit})
        left = limit
        while left:
            try:
                event = await asyncio.wait_for(queue.get(), HEARTBEAT)
            except asyncio.TimeoutError:
                yield ": still here\n\n"
                continue
            left -= 1
            # Not around the `yield`: the context of the publisher would leak to whoever asks for the next event.
            with bus.delivering(event):
                told = _event("message", event.data)
            yield told
        yield _event("end", {})


def _event(kind: str, data: Mapping[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


@live.websocket("/{conversation_id}")
async def chat(websocket: WebSocket, conversation_id: str, services: Provided) -> None:
    """Every text that is sent becomes a message of the conversation, and is echoed as it was stored."""
    if not websocket.user.is_authenticated:
        await websocket.close(POLICY_VIOLATION)
        return
    name = websocket.user.display_name
    bind(user_id=name)
    await websocket.accept()
    async for text in websocket.iter_text():
        try:
            message = await services.conversations.post(name, conversation_id, text)
        except NotFoundError as error:
            await websocket.close(POLICY_VIOLATION, f"no such {error}")
            return
        await websocket.send_json({"id": message.id, "text": message.text})
