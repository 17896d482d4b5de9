"""Sends the request whose story is told, and collects what it leaves."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any

import httpx

from examples.cortex.demo.driver import Driver, created, scrape
from examples.cortex.demo.parts import missing
from examples.cortex.demo.processes import Processes
from examples.cortex.demo.samples import Samples
from examples.cortex.demo.story import HEALTH_PATHS, Evidence, Health, Story, Told

QUESTION = "Which patterns does the engine weave?"

ASSISTANT = "cortex"
"""The author of the replies."""

COMPLETE_WITHIN = 6.0
"""Seconds the services have to finish what the request began, the background task and the reply included."""

SETTLED_AFTER = 0.6
"""Seconds in which no background task and no reply ends: twice what a summary takes."""

Clients = Mapping[str, httpx.AsyncClient]


async def tell(processes: Processes, driver: Driver) -> Story:
    """Send the request, and collect what it leaves until nothing is missing or time is up."""
    async with AsyncExitStack() as stack:
        clients = {service: await stack.enter_async_context(driver.client(service)) for service in processes.urls}
        await _settle(clients["api"])
        health = {service: await _health(client) for service, client in clients.items()}
        told, before = await _send(driver, clients)
        deadline = time.monotonic() + COMPLETE_WITHIN
        while True:
            story = Story(
                told=told,
                secrets=(*driver.tokens, *processes.passwords.values()),
                services={
                    service: Evidence(
                        *processes.log(service),
                        spans=processes.spans(service),
                        before=before[service],
                        after=await scrape(client),
                        health=health[service],
                    )
                    for service, client in clients.items()
                },
                peaks=driver.peaks,
            )
            if not missing(story) or time.monotonic() > deadline:
                return story
            await asyncio.sleep(0.1)


async def _settle(client: httpx.AsyncClient) -> None:
    """Wait until the background tasks of earlier requests and their replies have ended."""
    deadline = time.monotonic() + COMPLETE_WITHIN
    earlier, done = -1.0, _done(await scrape(client))
    while earlier != done and time.monotonic() < deadline:
        await asyncio.sleep(SETTLED_AFTER)
        earlier, done = done, _done(await scrape(client))


def _done(samples: Samples) -> float:
    return samples.total("http_background_duration_seconds_count") + samples.total("ux_response_time_seconds_count")


async def _send(driver: Driver, clients: Clients) -> tuple[Told, Mapping[str, Samples]]:
    """Ask, and wait for the reply on the event stream of a new conversation; with the metrics just before."""
    api = clients["api"]
    conversation = await created(api, f"{driver.workspace}/conversations", title="Note B")
    told = Told(
        correlation_id=f"story-{secrets.token_hex(4)}",
        trace_id=secrets.token_hex(16),
        parent_id=secrets.token_hex(8),
        user=driver.user,
        path=f"{conversation}/messages",
    )
    async with api.stream("GET", f"{conversation}/stream", params={"limit": 2}) as stream:
        events = _events(stream)
        await anext(events)
        before = {service: await scrape(client) for service, client in clients.items()}
        response = await api.post(
            told.path,
            json={"text": QUESTION},
            headers={"X-Correlation-ID": told.correlation_id, "traceparent": f"00-{told.trace_id}-{told.parent_id}-01"},
        )
        reply = await _reply(events)
    answered = replace(
        told, status=response.status_code, echoed_id=response.headers.get("x-correlation-id"), reply=reply
    )
    return answered, before


async def _events(stream: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The data of every event; comments are none."""
    async for line in stream.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


async def _reply(events: AsyncIterator[dict[str, Any]]) -> str | None:
    """What the assistant says; None if it says nothing in time."""
    with suppress(asyncio.TimeoutError):
        while True:
            event = await asyncio.wait_for(anext(events), COMPLETE_WITHIN)
            if event.get("author") == ASSISTANT:
                return str(event["text"])
    return None


async def _health(client: httpx.AsyncClient) -> Mapping[str, Health]:
    answers = {path: await client.get(path) for path in HEALTH_PATHS}
    return {path: Health(answer.status_code, answer.json()) for path, answer in answers.items()}
