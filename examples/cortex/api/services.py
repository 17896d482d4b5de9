"""What the HTTP side is given to work with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from asgi_obs.health import HealthRegistry
from examples.cortex.api.auth import Accounts, Caller, Tokens
from examples.cortex.api.conversations import Conversations
from examples.cortex.api.events import EventBus
from examples.cortex.api.metrics import Gauges
from examples.cortex.api.store import Conversation, NotFoundError, Store
from examples.cortex.api.workspaces import Workspaces


@dataclass(frozen=True)
class Services:
    """The parts of the service, each made once."""

    accounts: Accounts
    tokens: Tokens
    store: Store
    gauges: Gauges
    bus: EventBus
    workspaces: Workspaces
    conversations: Conversations
    health: HealthRegistry


def _services(connection: HTTPConnection) -> Services:
    services: Services = connection.app.state.services
    return services


Provided = Annotated[Services, Depends(_services)]
"""Those of the application that serves the request."""


async def _conversation(workspace_id: str, conversation_id: str, caller: Caller, services: Provided) -> Conversation:
    found = await services.conversations.find(caller, conversation_id)
    if found.workspace_id != workspace_id:
        raise NotFoundError("conversation")
    return found


Found = Annotated[Conversation, Depends(_conversation)]
"""The conversation of the path; a 404 if the caller has no such conversation in that workspace."""
