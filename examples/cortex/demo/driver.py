"""Uses the services over the network, the way their users, the users' mistakes and the internet would."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from examples.cortex.demo.samples import Samples

PAUSE = 0.1
"""Seconds between two rounds of one actor: this shows signals, it is no load test."""

MAX_ROUNDS = 200
"""Rounds of one actor, however many seconds there are."""

TIMEOUT = 10.0
"""Seconds to wait for any one answer."""

SCANNED = ("/.env", "/wp-login.php", "/phpmyadmin/index.php", "/api/v1/users", "/admin/console/login")


class Driver:
    """All actors; they share one user, one workspace and one conversation.

    Args:
        urls: Where the services are, by name.
        passwords: Those of the users, by name; the first one is the user.

    Attributes:
        user: The name of the user.
        token: The user's bearer token, once `prepare` has run.
        tokens: That one, and all others that were given out.
        memory: A client of the memory service, while `run` runs.
        statuses: How many answers had which status; of a refused WebSocket too.
        peaks: The metrics of the API as they were while a stream was open.
        workspace: The path of the shared workspace, once `prepare` has run.
        conversation: The path of the shared conversation, likewise.
    """

    def __init__(self, urls: Mapping[str, str], passwords: Mapping[str, str]) -> None:
        self.urls = urls
        self.user, self.password = next(iter(passwords.items()))
        self.token = ""
        self.tokens: set[str] = set()
        self.statuses: Counter[int] = Counter()
        self.peaks = Samples()
        self.workspace = ""
        self.conversation = ""

    def client(self, service: str = "api") -> httpx.AsyncClient:
        """A client of a service; with the user's token, once there is one."""
        headers = {"User-Agent": "cortex-driver/1.0"}
        if self.token and service == "api":
            headers["Authorization"] = f"Bearer {self.token}"
        return httpx.AsyncClient(
            base_url=self.urls[service],
            headers=headers,
            event_hooks={"response": [self._count]},
            timeout=TIMEOUT,
            trust_env=False,
        )

    async def prepare(self) -> None:
        """Log in, and make the workspace and the conversation."""
        async with self.client() as stranger:
            self.token = await self.login(stranger)
        async with self.client() as client:
            self.workspace = await created(client, "/api/workspaces", name="Analytical Engine")
            self.conversation = await created(client, f"{self.workspace}/conversations", title="Note G")

    async def login(self, client: httpx.AsyncClient) -> str:
        """A new bearer token."""
        answer = await client.post("/api/auth/login", json={"username": self.user, "password": self.password})
        token = str(answer.raise_for_status().json()["access_token"])
        self.tokens.add(token)
        return token

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
        await self.prepare()
        async with self.client() as client, self.client("memory") as self.memory:
            actors = [asyncio.create_task(self._repeat(actor, client, started + seconds)) for actor in ACTORS]
            try:
                while not all(actor.done() for actor in actors):
                    elapsed = min(time.monotonic() - started, seconds)
                    progress.update(task, completed=elapsed, answers=self.statuses.total())
                    await asyncio.wait(actors, timeout=0.1, return_when=asyncio.ALL_COMPLETED)
                for actor in actors:
                    actor.result()
            finally:  # none goes on without its client, if we are interrupted
                for actor in actors:
                    actor.cancel()
                await asyncio.gather(*actors, return_exceptions=True)
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
        return f"{self.urls['api'].replace('http', 'ws', 1)}/api/live/{self.conversation.rpartition('/')[2]}"


Actor = Callable[[Driver, httpx.AsyncClient], Awaitable[None]]


async def created(client: httpx.AsyncClient, path: str, **fields: str) -> str:
    """Make something; its path."""
    return f"{path}/{(await client.post(path, json=fields)).raise_for_status().json()['id']}"


async def write(driver: Driver, client: httpx.AsyncClient) -> None:
    await client.post(f"{driver.conversation}/messages", json={"text": "The engine weaves algebraic patterns."})


async def read(driver: Driver, client: httpx.AsyncClient) -> None:
    await client.get(driver.conversation)
    await client.get(f"{driver.conversation}/messages", params={"limit": 5})


async def browse(driver: Driver, client: httpx.AsyncClient) -> None:
    await client.get("/api/workspaces")
    await client.get("/api/workspaces/", follow_redirects=False)  # the router redirects to the one above
    await client.get(driver.workspace)
    await client.get(f"{driver.workspace}/conversations")
    await client.get(f"{driver.workspace}/export")


async def tidy(_driver: Driver, client: httpx.AsyncClient) -> None:
    """Makes a workspace and a conversation, archives every other one, and deletes the rest."""
    workspace = await created(client, "/api/workspaces", name="Difference Engine")
    conversation = await created(client, f"{workspace}/conversations", title="Note A")
    await client.patch(conversation, json={"status": "archived"})
    await client.patch(workspace, json={"name": "Difference Engine No. 2", "status": "archived"})
    if random.random() < 0.5:
        await client.delete(conversation)
        await client.delete(workspace)


async def log_in(driver: Driver, client: httpx.AsyncClient) -> None:
    await driver.login(client)
    await client.post("/api/auth/login", json={"username": driver.user, "password": secrets.token_urlsafe(8)})  # 401
    await asyncio.sleep(PAUSE * 3)  # passwords are slow to check on purpose


async def mistake(driver: Driver, client: httpx.AsyncClient) -> None:
    await client.get(f"/api/workspaces/{secrets.token_hex(16)}")  # 404 by the handler: it has a route
    await client.put(driver.workspace)  # 405
    await client.post(f"{driver.conversation}/messages", json={"text": ""})  # 422
    await client.get("/api/workspaces", headers={"Authorization": "Bearer guessed"})  # 401


async def scan(_driver: Driver, client: httpx.AsyncClient) -> None:
    await client.get(random.choice(SCANNED))
    await client.get(f"/{secrets.token_hex(8)}.php")
    await client.request("PROPFIND", "/")


async def export(driver: Driver, client: httpx.AsyncClient) -> None:
    # 500, behind which uvicorn closes the connection: whoever had taken it from the pool would lose a request.
    await client.get(f"{driver.workspace}/export", params={"format": "pdf"}, headers={"Connection": "close"})
    await asyncio.sleep(PAUSE * 3)


async def listen(driver: Driver, client: httpx.AsyncClient) -> None:
    async with client.stream("GET", f"{driver.conversation}/stream", params={"limit": 2}) as response:
        async for line in response.aiter_lines():
            if line == "event: ready":
                for text in ("first", "second"):
                    await client.post(f"{driver.conversation}/messages", json={"text": text})


async def leave(driver: Driver, client: httpx.AsyncClient) -> None:
    async with client.stream("GET", f"{driver.conversation}/stream") as response:
        async for _ in response.aiter_raw():
            driver.peaks = await scrape(client)
            break  # and away, in the middle of the stream


async def chat(driver: Driver, _client: httpx.AsyncClient) -> None:
    # Not to a proxy that a variable names: all is on this machine.
    async with connect(f"{driver.live_url}?access_token={driver.token}", proxy=None) as websocket:
        for number in range(3):
            await websocket.send(f"live {number}")
            await asyncio.wait_for(websocket.recv(), TIMEOUT)
    try:
        async with connect(f"{driver.live_url}?access_token=guessed", proxy=None):
            pass
    except InvalidStatus as refusal:
        driver.statuses[refusal.response.status_code] += 1


async def administrate(_driver: Driver, client: httpx.AsyncClient) -> None:
    for area in ("storage", "streams", "nowhere"):
        await client.get(f"/admin/{area}")


async def forget(driver: Driver, _client: httpx.AsyncClient) -> None:
    """Has the memory service forget somebody."""
    await driver.memory.post("/inputs", json={"user_id": "guest", "conversation_id": "none", "text": "Forget me."})
    await driver.memory.delete("/history/guest")


ACTORS = (write, read, browse, tidy, log_in, mistake, scan, export, listen, leave, chat, administrate, forget)


async def scrape(client: httpx.AsyncClient) -> Samples:
    """The metrics of a service, as they are now."""
    return Samples.parse((await client.get("/metrics")).raise_for_status().text)


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
