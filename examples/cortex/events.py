"""Tells everybody who listens to a conversation about its new messages."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

BACKLOG = 100
"""Events that may wait for one slow listener; further ones are lost to it."""


class Broker:
    """In-process publish and subscribe, by conversation."""

    def __init__(self) -> None:
        self._queues: defaultdict[str, set[asyncio.Queue[dict[str, Any]]]] = defaultdict(set)

    @property
    def listeners(self) -> int:
        return sum(len(queues) for queues in self._queues.values())

    def publish(self, conversation_id: str, event: dict[str, Any]) -> None:
        for queue in self._queues.get(conversation_id, ()):
            if not queue.full():
                queue.put_nowait(event)

    @contextmanager
    def subscribe(self, conversation_id: str) -> Iterator[asyncio.Queue[dict[str, Any]]]:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(BACKLOG)
        self._queues[conversation_id].add(queue)
        try:
            yield queue
        finally:
            self._queues[conversation_id].discard(queue)
            if not self._queues[conversation_id]:
                del self._queues[conversation_id]
