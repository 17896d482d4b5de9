"""Interleaved rounds: every contender is timed in every round, so that a noisy moment hits all of them."""

from __future__ import annotations

import asyncio
import gc
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter

from asgi_obs.types import ASGIApp, Message, Scope

REQUEST: Message = {"type": "http.request", "body": b"", "more_body": False}


@dataclass(frozen=True)
class Cost:
    """Microseconds per request that a contender adds to the bare application: median and spread over rounds."""

    added: float
    low: float
    high: float


async def _receive() -> Message:
    return REQUEST


async def _send(message: Message) -> None:
    pass


async def _round(app: ASGIApp, scope: Scope, requests: int) -> float:
    started = perf_counter()
    for _ in range(requests):
        await app(dict(scope, state={}), _receive, _send)
    return (perf_counter() - started) / requests * 1e6


async def _rounds(apps: Mapping[str, ASGIApp], scope: Scope, requests: int, rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in apps}
    for app in apps.values():
        await _round(app, scope, requests)
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        for name, app in apps.items():
            times[name].append(await _round(app, scope, requests))
    return times


def measure(
    bare: ASGIApp, apps: Mapping[str, ASGIApp], scope: Scope, *, requests: int, rounds: int
) -> tuple[float, dict[str, Cost]]:
    """The bare application's microseconds per request, and what each contender adds to them.

    Args:
        bare: The application without any middleware of the contenders.
        apps: The same application with one contender each.
        scope: The request; every call gets a copy.
        requests: Requests per round.
        rounds: Rounds; the medians are over these.
    """
    times = asyncio.run(_rounds({"bare": bare, **apps}, scope, requests, rounds))
    costs = {}
    for name in apps:
        added = sorted(with_it - without for with_it, without in zip(times[name], times["bare"], strict=True))
        quartile = len(added) // 4
        costs[name] = Cost(statistics.median(added), added[quartile], added[-1 - quartile])
    return statistics.median(times["bare"]), costs
