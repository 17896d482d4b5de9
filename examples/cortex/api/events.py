"""The event bus of the process: tells everybody who has subscribed, and lets each continue the publisher's trace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from asgi_obs import get_logger
from asgi_obs.integrations.event_bus import EventBusInstrumentation
from examples.cortex.api.metrics import EVENTS_DROPPED

BACKLOG = 100
"""Events that may wait for one slow subscriber; further ones are lost to it, and each of them is told and counted."""

MESSAGE_CREATED = "message_created"
REPLY_CREATED = "reply_created"
CONVERSATION_DELETED = "conversation_deleted"

log = get_logger(__name__)


@dataclass(frozen=True)
class Event:
    """Something that happened in a conversation.

    Attributes:
        type: What it was.
        conversation_id: Where.
        data: What there is to say about it.
        context: The publisher's trace and correlation ID.
        published_at: When, on the clock of `perf_counter`.
    """

    type: str
    conversation_id: str
    data: Mapping[str, str]
    context: Mapping[str, str]
    published_at: float = field(default_factory=perf_counter)


Subscription = asyncio.Queue[Event]


class EventBus:
    """Publish and subscribe."""

    def __init__(self) -> None:
        self._observed = EventBusInstrumentation()
        self._subscriptions: dict[Subscription, Callable[[Event], bool]] = {}

    @property
    def subscribers(self) -> int:
        """How many there are."""
        return len(self._subscriptions)

    def publish(self, event_type: str, conversation_id: str, data: Mapping[str, str]) -> None:
        """Put an event into the queue of everybody who wants it."""
        event = Event(event_type, conversation_id, data, self._observed.publishing(event_type))
        for queue, wants in self._subscriptions.items():
            if wants(event):
                self._put(queue, event)

    def _put(self, queue: Subscription, event: Event) -> None:
        try:
            queue.put_nowait(event)
        except asyncio.QueueFull:
            EVENTS_DROPPED.labels(event_type=event.type).inc()
            log.warning("event lost", extra={"event_type": event.type, "message_id": event.data.get("id")})

    @contextmanager
    def subscribe(self, wants: Callable[[Event], bool]) -> Iterator[Subscription]:
        """A queue of the events that are wanted, inside of the block."""
        queue = Subscription(BACKLOG)
        self._subscriptions[queue] = wants
        try:
            with self._observed.subscribed():
                yield queue
        finally:
            del self._subscriptions[queue]

    def delivering(self, event: Event) -> AbstractContextManager[object]:
        """What a subscriber does with an event goes inside: it has the publisher's trace and correlation ID there."""
        return self._observed.delivering(event.type, event.context)
