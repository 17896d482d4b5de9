"""Workspaces: where the conversations of a user are, and how they get out again."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from asgi_obs import bind, get_logger
from examples.cortex.api.events import CONVERSATION_DELETED, EventBus
from examples.cortex.api.metrics import WORKSPACE_OPERATIONS, Gauges
from examples.cortex.api.store import Store, Workspace

log = get_logger(__name__)


class ExportError(Exception):
    """A workspace could not be exported."""


class Workspaces:
    """What can be done with workspaces, by their owners.

    Args:
        store: Where they are kept.
        gauges: Tell how many there are.
        bus: Told about conversations that are deleted with their workspace.
    """

    def __init__(self, store: Store, gauges: Gauges, bus: EventBus) -> None:
        self._store = store
        self._gauges = gauges
        self._bus = bus

    async def create(self, owner: str, name: str) -> Workspace:
        workspace = await self._store.save(Workspace(owner=owner, name=name))
        WORKSPACE_OPERATIONS.labels(operation="create").inc()
        self._gauges.changed()
        log.info("workspace created", extra={"workspace_id": workspace.id})
        return workspace

    async def list(self, owner: str) -> Sequence[Workspace]:
        found = await self._store.workspaces(owner)
        WORKSPACE_OPERATIONS.labels(operation="list").inc()
        return found

    async def get(self, owner: str, workspace_id: str) -> Workspace:
        workspace = await self._find(owner, workspace_id)
        WORKSPACE_OPERATIONS.labels(operation="get").inc()
        return workspace

    async def update(self, owner: str, workspace_id: str, changes: Mapping[str, Any]) -> Workspace:
        workspace = await self._store.save(await self._find(owner, workspace_id), changes)
        WORKSPACE_OPERATIONS.labels(operation="update").inc()
        self._gauges.changed()
        log.info("workspace updated", extra={"changed": sorted(changes)})
        return workspace

    async def delete(self, owner: str, workspace_id: str) -> None:
        """Delete it with all that is in it."""
        workspace = await self._find(owner, workspace_id)
        conversations = await self._store.conversations(workspace_id)
        await self._store.delete(workspace)
        WORKSPACE_OPERATIONS.labels(operation="delete").inc()
        self._gauges.changed()
        log.info("workspace deleted")
        for conversation in conversations:
            self._bus.publish(CONVERSATION_DELETED, conversation.id, {})

    async def export(self, owner: str, workspace_id: str, form: str) -> str:
        """Everything in a workspace as one document; in a form that nobody wrote yet it fails."""
        await self._find(owner, workspace_id)
        found = await self._store.conversations(workspace_id)
        return _render(form, [{"id": one.id, "title": one.title, "summary": one.summary} for one in found])

    async def _find(self, owner: str, workspace_id: str) -> Workspace:
        bind(workspace_id=workspace_id)
        return await self._store.workspace(owner, workspace_id)


def _csv(document: list[dict[str, Any]]) -> str:
    output = io.StringIO()
    writer = csv.DictWriter(output, ["id", "title", "summary"])
    writer.writeheader()
    writer.writerows(document)
    return output.getvalue()


_RENDERERS: dict[str, Callable[[list[dict[str, Any]]], str]] = {"json": json.dumps, "csv": _csv}


def _render(form: str, document: list[dict[str, Any]]) -> str:
    try:
        return _RENDERERS[form](document)
    except KeyError as error:
        raise ExportError(f"cannot export {len(document)} conversations") from error
