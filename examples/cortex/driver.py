"""Uses the service over the network, the way its users, their mistakes and the internet would."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

PAUSE = 0.05
"""Seconds between two rounds of one actor: this shows signals, it is no load test."""

MAX_ROUNDS = 200
"""Rounds of one actor, however many seconds there are."""

TIMEOUT = 10.0
"""Seconds to wait for any one answer."""

SCANNED = ("/.env", "/wp-login.php", "/phpmyadmin/index.php", "/api/v1/users", "/admin/console/login")


class Driver:
    """All actors; they share one workspace and one conversation.

    Args:
        url: Where the service is.
        token: A bearer token of one of its users.

    Attributes:
        headers: What every request of the user carries.
        statuses: How many answers had which status; of a refused WebSocket too.
        workspace: The path of the shared workspace, once `prepare` has run.
        conversation: The path of the shared conversation, likewise.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self.token = token
        self.headers = {"Authorization": f"Bearer {token}", "User-Agent": "cortex-driver/1.0"}
        self.statuses: Counter[int] = Counter()
        self.workspace = ""
        self.conversation = ""

    def client(self) -> httpx.AsyncClient:
        """A client with the user's token."""
        hooks = {"response": [self._count]}
        return httpx.AsyncClient(base_url=self._url, headers=self.headers, event_hooks=hooks, timeout=TIMEOUT)

    async def prepare(self, client: httpx.AsyncClient) -> None:
        """Make the workspace and the conversation."""
        workspace = await client.post("/api/workspaces", json={"name": "Analytical Engine"})
        self.workspace = f"/api/workspaces/{workspace.raise_for_status().json()['id']}"
        conversation = await client.post(f"{self.workspace}/conversations", json={"title": "Note G"})
        self.conversation = f"{self.workspace}/conversations/{conversation.raise_for_status().json()['id']}"

    async def run(self, seconds: float, progress: Progress) -> float:
        """Let every actor act again and again, all at the same time.

        Args:
            seconds: How long; every actor acts once in any case.
            progress: Where the bar is shown.

        Returns:
            The seconds that it took.
        """
        task = progress.add_task("traffic", total=seconds, answers=0)
        started = time.monotonic()
        async with self.client() as client:
            await self.prepare(client)
            actors = [
                asyncio.create_task(self._repeat(actor, client, started + seconds))
                for actor in (write, read, browse, mistake, scan, export, listen, leave, chat, administrate)
            ]
            while not all(actor.done() for actor in actors):
                elapsed = min(time.monotonic() - started, seconds)
                progress.update(task, completed=elapsed, answers=self.statuses.total())
                await asyncio.wait(actors, timeout=0.1, return_when=asyncio.ALL_COMPLETED)
            for actor in actors:
                actor.result()
        progress.update(task, completed=seconds, answers=self.statuses.total())
        return time.monotonic() - started

    async def _repeat(self, actor: Actor, client: httpx.AsyncClient, until: float) -> None:
        for _ in range(MAX_ROUNDS):
            await actor(self, client)
            if time.monotonic() >= until:
                break
            await asyncio.sleep(PAUSE * random.uniform(0.5, 1.5))

    async def _count(self, response: httpx.Response) -> None:
        self.statuses[response.status_code] += 1

    @property
    def live_url(self) -> str:
        """The conversation's WebSocket."""
        return f"{self._url.replace('http', 'ws', 1)}/api/live/{self.conversation.rpartition('/')[2]}"


Actor = Callable[[Driver, httpx.AsyncClient], Awaitable[None]]


async def write(driver: Driver, client: httpx.AsyncClient) -> None:
    await client.post(f"{driver.conversation}/messages", json={"text": "The engine weaves algebraic patterns."})


async def read(driver: Driver, client: httpx.AsyncClient) -> None:
    await client.get(driver.conversation)
    await client.get(f"{driver.conversation}/messages", params={"limit": 5})


async def browse(driver: Driver, client: httpx.AsyncClient) -> None:
    await client.get("/api/workspaces")
    await client.get("/api/workspaces/", follow_redirects=False)  # the router redirects to the one above
    await client.get(driver.workspace)
    await client.get(f"{driver.workspace}/export")


async def mistake(driver: Driver, client: httpx.AsyncClient) -> None:
    await client.get(f"/api/workspaces/{secrets.token_hex(16)}")  # 404 by the handler: it has a route
    await client.delete(driver.workspace)  # 405
    await client.post(f"{driver.conversation}/messages", json={"text": ""})  # 422
    await client.get("/api/workspaces", headers={"Authorization": "Bearer guessed"})  # 401


async def scan(_driver: Driver, client: httpx.AsyncClient) -> None:
    await client.get(random.choice(SCANNED))
    await client.get(f"/{secrets.token_hex(8)}.php")
    await client.request("PROPFIND", "/")


async def export(driver: Driver, client: httpx.AsyncClient) -> None:
    # 500, behind which uvicorn closes the connection: whoever had taken it from the pool would lose a request.
    await client.get(f"{driver.workspace}/export", params={"format": "pdf"}, headers={"Connection": "close"})
    await asyncio.sleep(PAUSE * 5)


async def listen(driver: Driver, client: httpx.AsyncClient) -> None:
    async with client.stream("GET", f"{driver.conversation}/stream", params={"limit": 2}) as response:
        async for line in response.aiter_lines():
            if line == "event: ready":
                for text in ("first", "second"):
                    await client.post(f"{driver.conversation}/messages", json={"text": text})


async def leave(driver: Driver, client: httpx.AsyncClient) -> None:
    async with client.stream("GET", f"{driver.conversation}/stream") as response:
        async for _ in response.aiter_raw():
            break  # and away, in the middle of the stream


async def chat(driver: Driver, _client: httpx.AsyncClient) -> None:
    async with connect(f"{driver.live_url}?access_token={driver.token}") as websocket:
        for number in range(3):
            await websocket.send(f"live {number}")
            await asyncio.wait_for(websocket.recv(), TIMEOUT)
    try:
        async with connect(f"{driver.live_url}?access_token=guessed"):
            pass
    except InvalidStatus as refusal:
        driver.statuses[refusal.response.status_code] += 1


async def administrate(_driver: Driver, client: httpx.AsyncClient) -> None:
    for area in ("storage", "streams", "nowhere"):
        await client.get(f"/admin/{area}")


def progress_bar(console: Console) -> Progress:
    """A bar that shows how far the traffic is, and how many answers came."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=50),
        TextColumn("{task.completed:.1f} s of {task.total:.1f} s"),
        TextColumn("{task.fields[answers]} answers"),
        console=console,
    )
