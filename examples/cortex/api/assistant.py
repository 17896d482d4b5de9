"""The assistant: hears of every message, and replies with what the other two services know about it."""

from __future__ import annotations

from contextlib import suppress
from time import perf_counter

import anyio
from anyio.abc import TaskStatus

from asgi_obs import bind, get_logger
from examples.cortex.api.clients import Cognition, Memory
from examples.cortex.api.conversations import Conversations
from examples.cortex.api.events import MESSAGE_CREATED, Event, EventBus, Subscription
from examples.cortex.api.metrics import REPLIES, RESPONSE_TIME

WORKERS = 4
"""Messages that are answered at the same time."""

REPLY_WITHIN = 5.0
"""Seconds after which it gives up."""

log = get_logger(__name__)


class Assistant:
    """A long-lived subscriber of the bus.

    Args:
        bus: Where it hears of messages.
        conversations: Where it replies.
        memory: Told what was said.
        cognition: Asked what it means.
    """

    def __init__(self, bus: EventBus, conversations: Conversations, memory: Memory, cognition: Cognition) -> None:
        self._bus = bus
        self._conversations = conversations
        self._memory = memory
        self._cognition = cognition

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Reply to messages, and not to replies, until it is cancelled."""
        with self._bus.subscribe(lambda event: event.type == MESSAGE_CREATED) as queue:
            async with anyio.create_task_group() as workers:
                for _ in range(WORKERS):
                    workers.start_soon(self._work, queue)
                task_status.started()

    async def _work(self, queue: Subscription) -> None:
        while True:
            event = await queue.get()
            with suppress(Exception):  # it is logged; whatever became of one message, there are others
                await self._answer(event)

    async def _answer(self, event: Event) -> None:
        # In here are the trace and the correlation ID of the request that posted the message, and a span that fails
        # with what passes through.
        with self._bus.delivering(event):
            bind(conversation_id=event.conversation_id, user_id=event.data["author"])
            try:
                with anyio.fail_after(REPLY_WITHIN):
                    await self._reply(event)
            except Exception:
                REPLIES.labels(outcome="failure").inc()
                log.warning("no reply", exc_info=True, extra={"message_id": event.data["id"]})
                raise
            REPLIES.labels(outcome="success").inc()
            RESPONSE_TIME.labels(operation="reply").observe(perf_counter() - event.published_at)

    async def _reply(self, event: Event) -> None:
        author, text = event.data["author"], event.data["text"]
        await self._memory.store_input(author, event.conversation_id, text)
        summary = await self._cognition.summary(author, text)
        await self._conversations.reply(event.conversation_id, summary)
