"""Conversations and their messages; whoever listens is told of new ones."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry import trace

from asgi_obs import bind, get_logger
from examples.cortex.api.events import CONVERSATION_DELETED, MESSAGE_CREATED, REPLY_CREATED, EventBus
from examples.cortex.api.metrics import CONVERSATION_OPERATIONS, MESSAGE_OPERATIONS, MESSAGES, Gauges
from examples.cortex.api.store import Conversation, Message, NotFoundError, Store

SUMMARY_DELAY = 0.3
"""Seconds a summary takes, standing in for a language model."""

ASSISTANT = "cortex"
"""The author of the replies."""

log = get_logger(__name__)
tracer = trace.get_tracer(__name__)


class Conversations:
    """What can be done with conversations, by the owners of their workspaces.

    Args:
        store: Where they are kept.
        gauges: Tell how many there are.
        bus: Told about new messages, and about conversations that are deleted.
    """

    def __init__(self, store: Store, gauges: Gauges, bus: EventBus) -> None:
        self._store = store
        self._gauges = gauges
        self._bus = bus

    async def create(self, owner: str, workspace_id: str, title: str) -> Conversation:
        await self._store.workspace(owner, workspace_id)
        conversation = await self._store.save(Conversation(workspace_id=workspace_id, title=title))
        CONVERSATION_OPERATIONS.labels(operation="create").inc()
        self._gauges.changed()
        log.info("conversation created", extra={"conversation_id": conversation.id})
        return conversation

    async def list(self, owner: str, workspace_id: str) -> Sequence[Conversation]:
        await self._store.workspace(owner, workspace_id)
        found = await self._store.conversations(workspace_id)
        CONVERSATION_OPERATIONS.labels(operation="list").inc()
        return found

    async def find(self, owner: str, conversation_id: str) -> Conversation:
        """A conversation of that owner, for what the methods below do with it."""
        bind(conversation_id=conversation_id)
        return await self._store.conversation(owner, conversation_id)

    def get(self, conversation: Conversation) -> Conversation:
        CONVERSATION_OPERATIONS.labels(operation="get").inc()
        return conversation

    async def update(self, conversation: Conversation, changes: Mapping[str, Any]) -> Conversation:
        await self._store.save(conversation, changes)
        CONVERSATION_OPERATIONS.labels(operation="update").inc()
        self._gauges.changed()
        log.info("conversation updated", extra={"changed": sorted(changes)})
        return conversation

    async def delete(self, conversation: Conversation) -> None:
        """Delete it with its messages, and tell the listeners."""
        await self._store.delete(conversation)
        CONVERSATION_OPERATIONS.labels(operation="delete").inc()
        self._gauges.changed()
        log.info("conversation deleted")
        self._bus.publish(CONVERSATION_DELETED, conversation.id, {})

    async def messages(self, conversation: Conversation, limit: int) -> Sequence[Message]:
        """The latest, newest first."""
        found = await self._store.messages(conversation.id, limit)
        MESSAGE_OPERATIONS.labels(operation="list").inc()
        return found

    async def post(self, author: str, conversation: Conversation, text: str) -> Message:
        """Store a message of the conversation's owner and tell the listeners."""
        message = await self._store_message(MESSAGE_CREATED, author, conversation.id, text)
        MESSAGE_OPERATIONS.labels(operation="create").inc()
        return message

    async def reply(self, conversation_id: str, text: str) -> Message:
        """Store what the assistant says and tell the listeners."""
        return await self._store_message(REPLY_CREATED, ASSISTANT, conversation_id, text)

    async def _store_message(self, event_type: str, author: str, conversation_id: str, text: str) -> Message:
        with tracer.start_as_current_span("store message"):
            message = await self._store.save(Message(conversation_id=conversation_id, author=author, text=text))
        MESSAGES.inc()
        log.info("message stored", extra={"message_id": message.id, "author": author, "characters": len(text)})
        self._bus.publish(event_type, conversation_id, {"id": message.id, "author": author, "text": text})
        return message

    async def summarise(self, owner: str, conversation_id: str) -> None:
        """Bring the summary of a conversation up to date; runs after the response."""
        log.info("summarising conversation")
        with tracer.start_as_current_span("summarise conversation"):
            await asyncio.sleep(SUMMARY_DELAY)
            count, latest = await self._store.summary(conversation_id)
            try:
                conversation = await self._store.conversation(owner, conversation_id)
                await self._store.save(conversation, {"summary": f"{count} messages; the last one: {latest}"})
            except NotFoundError:
                log.info("conversation not summarised: it was deleted")
            else:
                log.info("conversation summarised", extra={"messages": count})
