"""The HTTP side of the memory service."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from asgi_obs import Observability, Settings, bind, get_logger
from asgi_obs.health.checks import DatabaseCheck
from examples.cortex.database import connect
from examples.cortex.memory.store import Input, MemoryStore

DATABASE_URL = "sqlite+aiosqlite:///memory-service.db"

log = get_logger(__name__)
router = APIRouter()


class NewInput(BaseModel):
    user_id: str = Field(min_length=1, max_length=100)
    conversation_id: str = Field(min_length=1, max_length=100)
    text: str = Field(min_length=1, max_length=10_000)


class InputOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    conversation_id: str
    text: str
    created_at: datetime


def _store(request: Request) -> MemoryStore:
    store: MemoryStore = request.app.state.store
    return store


Store = Annotated[MemoryStore, Depends(_store)]


@router.post("/inputs", status_code=201)
async def store_input(new: NewInput, store: Store) -> dict[str, int]:
    bind(user_id=new.user_id, conversation_id=new.conversation_id)
    identifier = await store.store_input(new.user_id, new.conversation_id, new.text)
    log.info("input stored", extra={"characters": len(new.text)})
    return {"id": identifier}


@router.get("/history/{user_id}", response_model=list[InputOut])
async def get_history(user_id: str, store: Store, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> Sequence[Input]:
    bind(user_id=user_id)
    history = await store.get_history(user_id, limit)
    log.info("history read", extra={"inputs": len(history)})
    return history


@router.delete("/history/{user_id}")
async def clear_history(user_id: str, store: Store) -> dict[str, int]:
    bind(user_id=user_id)
    deleted = await store.clear_history(user_id)
    log.info("history cleared", extra={"inputs": deleted})
    return {"deleted": deleted}


def create_app(database_url: str | None = None) -> FastAPI:
    """The whole service as one ASGI application, observed.

    Args:
        database_url: A URL for `connect`; None takes `DATABASE_URL` from the environment, or a file of SQLite in
            the working directory.
    """
    store = MemoryStore(connect(database_url or os.environ.get("DATABASE_URL", DATABASE_URL)))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await store.open()
        yield
        await store.close()

    app = FastAPI(title="Memory", lifespan=lifespan)
    app.state.store = store
    app.include_router(router)

    obs = Observability(Settings())
    obs.health.add("database", DatabaseCheck(store.engine))
    return obs.install(app)
