"""The API service, put together. What asgi_obs needs of an application is at the end of `create_app`."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import anyio
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.middleware.authentication import AuthenticationMiddleware

from asgi_obs import Observability, Settings
from asgi_obs.health.checks import DatabaseCheck, HttpCheck
from examples.cortex.api.admin import create_admin
from examples.cortex.api.assistant import Assistant
from examples.cortex.api.auth import Accounts, BearerTokens, Tokens
from examples.cortex.api.clients import Cognition, Memory
from examples.cortex.api.conversations import Conversations
from examples.cortex.api.events import EventBus
from examples.cortex.api.metrics import Gauges
from examples.cortex.api.routes import api
from examples.cortex.api.schemas import problems
from examples.cortex.api.services import Services
from examples.cortex.api.store import NotFoundError, Store
from examples.cortex.api.workspaces import Workspaces
from examples.cortex.database import connect


@dataclass(frozen=True)
class Config:
    """What the service is told.

    Attributes:
        database_url: `DATABASE_URL`; see `connect`.
        users: `CORTEX_USERS`, a JSON object: the password of every user.
        secret: `CORTEX_SECRET`, what bearer tokens are signed with; several workers need the same one. By default a new
            one at every start.
        memory_url: `MEMORY_SERVICE_URL`.
        cognition_url: `COGNITION_SERVICE_URL`.
    """

    database_url: str = "sqlite+aiosqlite:///cortex-api.db"
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    memory_url: str = "http://127.0.0.1:8001"
    cognition_url: str = "http://127.0.0.1:8002"

    @classmethod
    def from_environment(cls) -> Config:
        """What the environment says; what it does not say has its default."""
        variables = {
            "database_url": os.environ.get("DATABASE_URL"),
            "users": json.loads(os.environ.get("CORTEX_USERS", "{}")),
            "secret": os.environ.get("CORTEX_SECRET", "").encode(),
            "memory_url": os.environ.get("MEMORY_SERVICE_URL"),
            "cognition_url": os.environ.get("COGNITION_SERVICE_URL"),
        }
        return cls(**{name: value for name, value in variables.items() if value})


async def _not_found(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"no such {error}"}, 404)


async def _not_valid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return JSONResponse(problems(error.errors()), 422)


def create_app(config: Config | None = None) -> FastAPI:
    """The whole service as one ASGI application, observed.

    Args:
        config: What it is told; by default the environment.
    """
    config = Config.from_environment() if config is None else config
    obs = Observability(Settings())
    engine = connect(config.database_url)
    store, bus, tokens = Store(engine), EventBus(), Tokens(config.secret)
    gauges = Gauges(store)
    conversations = Conversations(store, gauges, bus)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        memory, cognition = Memory(config.memory_url), Cognition(config.cognition_url)
        async with aclosing(store), aclosing(memory), aclosing(cognition):
            await store.open()
            async with anyio.create_task_group() as tasks:
                await tasks.start(Assistant(bus, conversations, memory, cognition).run)
                tasks.start_soon(gauges.keep)
                yield
                tasks.cancel_scope.cancel()

    app = FastAPI(title="Cortex", lifespan=lifespan)
    app.state.services = Services(
        accounts=Accounts(config.users),
        tokens=tokens,
        store=store,
        gauges=gauges,
        bus=bus,
        workspaces=Workspaces(store, gauges, bus),
        conversations=conversations,
        health=obs.health,
    )
    app.include_router(api)
    app.mount("/admin", create_admin(store, bus))
    app.add_middleware(AuthenticationMiddleware, backend=BearerTokens(tokens))
    app.add_exception_handler(NotFoundError, _not_found)
    app.add_exception_handler(RequestValidationError, _not_valid)

    obs.health.add("database", DatabaseCheck(engine))
    # Without these two it works, but does not reply.
    obs.health.add("memory_service", HttpCheck(f"{config.memory_url}/health"), critical=False)
    obs.health.add("cognition_service", HttpCheck(f"{config.cognition_url}/health"), critical=False)
    return obs.install(app)
