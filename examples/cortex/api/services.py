"""What the HTTP side is given to work with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from examples.cortex.api.auth import Accounts, Tokens
from examples.cortex.api.conversations import Conversations
from examples.cortex.api.events import EventBus
from examples.cortex.api.metrics import Gauges
from examples.cortex.api.store import Store
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


def _services(connection: HTTPConnection) -> Services:
    services: Services = connection.app.state.services
    return services


Provided = Annotated[Services, Depends(_services)]
"""Those of the application that serves the request."""
