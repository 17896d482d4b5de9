"""What Cortex does, apart from HTTP: it logs, makes spans of its own, and sometimes fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry import trace
from sqlalchemy import func, select

from asgi_obs import bind, get_logger
from examples.cortex.events import Broker
from examples.cortex.store import Conversation, Message, Store, Workspace

SUMMARY_DELAY = 0.3
"""Seconds a summary takes, standing in for a language model."""

log = get_logger(__name__)


class NotFoundError(Exception):
    """There is no such workspace or conversation, or it is somebody else's."""


class ExportError(Exception):
    """A workspace could not be exported."""


_RENDERERS: dict[str, Callable[[Any], str]] = {"json": json.dumps}


class Cortex:
    """The service.

    Args:
        store: Where everything is kept.
        broker: Told about new messages.
        tracer: Makes the spans inside a request; the request's own comes from asgi_obs.
    """

    def __init__(self, store: Store, broker: Broker, tracer: trace.Tracer) -> None:
        self.store = store
        self.broker = broker
        self._tracer = tracer

    async def create_workspace(self, owner: str, name: str) -> Workspace:
        async with self.store.session() as session:
            workspace = Workspace(owner=owner, name=name)
            session.add(workspace)
            await session.commit()
        log.info("workspace created", extra={"workspace_id": workspace.id})
        return workspace

    async def workspaces(self, owner: str) -> Sequence[Workspace]:
        async with self.store.session() as session:
            return (await session.scalars(select(Workspace).where(Workspace.owner == owner))).all()

    async def workspace(self, owner: str, workspace_id: str) -> Workspace:
        bind(workspace_id=workspace_id)
        async with self.store.session() as session:
            found = await session.get(Workspace, workspace_id)
        if found is None or found.owner != owner:
            raise NotFoundError("workspace")
        return found

    async def create_conversation(self, owner: str, workspace_id: str, title: str) -> Conversation:
        await self.workspace(owner, workspace_id)
        async with self.store.session() as session:
            conversation = Conversation(workspace_id=workspace_id, title=title)
            session.add(conversation)
            await session.commit()
        log.info("conversation created", extra={"conversation_id": conversation.id})
        return conversation

    async def conversation(self, owner: str, conversation_id: str) -> Conversation:
        bind(conversation_id=conversation_id)
        query = select(Conversation).join(Workspace).where(Conversation.id == conversation_id, Workspace.owner == owner)
        async with self.store.session() as session:
            found = await session.scalar(query)
        if found is None:
            raise NotFoundError("conversation")
        return found

    async def messages(self, owner: str, conversation_id: str, limit: int) -> Sequence[Message]:
        await self.conversation(owner, conversation_id)
        query = select(Message).where(Message.conversation_id == conversation_id).order_by(Message.created_at.desc())
        async with self.store.session() as session:
            return (await session.scalars(query.limit(limit))).all()

    async def post_message(self, author: str, conversation_id: str, text: str) -> Message:
        """Store a message of the conversation's owner and tell the listeners."""
        await self.conversation(author, conversation_id)
        with self._tracer.start_as_current_span("store message"):
            async with self.store.session() as session:
                message = Message(conversation_id=conversation_id, author=author, text=text)
                session.add(message)
                await session.commit()
        self.broker.publish(conversation_id, {"id": message.id, "author": author, "text": text})
        log.info("message stored", extra={"message_id": message.id, "characters": len(text)})
        return message

    async def summarise(self, conversation_id: str) -> None:
        """Bring the summary of a conversation up to date; runs after the response."""
        log.info("summarising conversation")
        with self._tracer.start_as_current_span("summarise conversation"):
            await asyncio.sleep(SUMMARY_DELAY)
            own = Message.conversation_id == conversation_id
            async with self.store.session() as session:
                count = await session.scalar(select(func.count()).select_from(Message).where(own))
                latest = await session.scalar(select(Message.text).where(own).order_by(Message.created_at.desc()))
                conversation = await session.get_one(Conversation, conversation_id)
                conversation.summary = f"{count} messages; the last one: {latest}"
                await session.commit()
        log.info("conversation summarised", extra={"messages": count})

    async def export(self, owner: str, workspace_id: str, form: str) -> str:
        """Everything in a workspace as one document; in a form that nobody wrote yet it fails."""
        await self.workspace(owner, workspace_id)
        query = select(Conversation).where(Conversation.workspace_id == workspace_id)
        async with self.store.session() as session:
            found = (await session.scalars(query)).all()
        return _render(form, [{"id": one.id, "title": one.title, "summary": one.summary} for one in found])


def _render(form: str, document: list[dict[str, Any]]) -> str:
    try:
        return _RENDERERS[form](document)
    except KeyError as error:
        raise ExportError(f"cannot export {len(document)} conversations") from error
