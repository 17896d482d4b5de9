"""The metrics of the service's own business; `asgi_obs` brings all others."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

import anyio

from asgi_obs import get_logger
from asgi_obs.metrics.custom import Counter, Gauge, Histogram
from examples.cortex.api.store import Conversation, Store, Workspace

ACTIVE_WITHIN = timedelta(hours=24)

REFRESH_SECONDS = 60.0
"""Seconds after which they are set without a change: other processes write too, and time passes."""

SHARED: Final = "livemostrecent"
"""Every worker process knows all that is in the database: what the last one has seen counts, not the sum."""

AUTH_ATTEMPTS = Counter("api_auth_attempts_total", "Attempts to log in: success or failure.", ["status"])
LOGINS = Counter("user_logins_total", "Logins of users.", ["auth_method"])
ACTIVE_USERS = Gauge("active_users", "Users who logged in within the last 24 hours.", mode=SHARED)

WORKSPACE_OPERATIONS = Counter(
    "api_workspace_operations_total", "Operations on workspaces that succeeded.", ["operation"]
)
CONVERSATION_OPERATIONS = Counter(
    "api_conversation_operations_total", "Operations on conversations that succeeded.", ["operation"]
)
MESSAGE_OPERATIONS = Counter("api_message_operations_total", "Operations on messages that succeeded.", ["operation"])

WORKSPACES = Gauge("workspaces_total", "Workspaces that there are, by status.", ["status"], mode=SHARED)
CONVERSATIONS = Gauge("conversations_total", "Conversations that there are, by status.", ["status"], mode=SHARED)
MESSAGES = Counter("messages_total", "Messages that were stored, the assistant's too.")

REPLIES = Counter(
    "cortex_replies_total", "Messages that the assistant has dealt with: success or failure.", ["outcome"]
)
EVENTS_DROPPED = Counter(
    "cortex_events_dropped_total", "Events that a subscriber lost because it was too slow.", ["event_type"]
)

RESPONSE_TIME = Histogram(
    "ux_response_time_seconds",
    "How long a user waits for what they asked for.",
    ["operation"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)

log = get_logger(__name__)


class Gauges:
    """Keeps the gauges as the database is, shortly after every change.

    Args:
        store: The database.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Have them set soon. Nobody waits for it, and what is stored stays stored if that fails."""
        self._changed.set()

    async def keep(self) -> None:
        """Set them, now and after changes, until it is cancelled."""
        self._changed = asyncio.Event()  # of this event loop
        while True:
            self._changed.clear()
            try:
                with anyio.CancelScope(shield=True):  # a query that is cut off would leave its connection in use
                    await self._refresh()
            except Exception:  # a database that is down must not end the task
                log.warning("gauges not refreshed", exc_info=True)
            with anyio.move_on_after(REFRESH_SECONDS):
                await self._changed.wait()

    async def _refresh(self) -> None:
        for gauge, table in ((WORKSPACES, Workspace), (CONVERSATIONS, Conversation)):
            for status, count in (await self._store.statuses(table)).items():
                gauge.labels(status=status).set(count)
        ACTIVE_USERS.set(await self._store.users_since(ACTIVE_WITHIN))
