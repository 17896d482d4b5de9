"""A scanner leaves nothing behind: neither series nor memory."""

from __future__ import annotations

import asyncio
import gc
import logging
import random

import psutil
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from asgi_obs import StructuredLogFormatter, observe
from asgi_obs.correlation import hex_id
from asgi_obs.metrics.catalogue.process import PROCESS
from asgi_obs.testing import http_scope
from asgi_obs.types import ASGIApp, Message

WARM_UP = 20_000
REQUESTS = 200_000
GROWTH = 2 * 2**20
"""Bytes that the process may grow by; 200,000 requests at ten bytes each would be this much."""


class Discarding(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)


async def scan(app: ASGIApp, requests: int) -> None:
    async def receive() -> Message:
        raise AssertionError  # pragma: no cover - a 404 reads no body

    async def send(message: Message) -> None:
        pass

    for _ in range(requests):
        method = "".join(random.choices("ABCDEFGHIJ", k=6))  # noqa: S311 - a scanner's, not a secret
        headers = [(b"x-correlation-id", hex_id().encode())]
        await app(http_scope(f"/{hex_id()}", method, headers=headers), receive, send)


OF_THE_PROCESS = {metric.name for metric in PROCESS}


def series(registry: CollectorRegistry) -> int:
    """All but those that come with a sample of the process, and with a pause of the machine behind a response."""
    left_out = OF_THE_PROCESS | {"http_background_duration_seconds"}
    return sum(len(family.samples) for family in registry.collect() if family.name not in left_out)


def test_requests_to_random_paths_with_random_methods_and_ids_leave_nothing_behind() -> None:
    registry = CollectorRegistry()
    app = observe(Starlette(), registry=registry)
    logger = logging.getLogger("asgi_obs")
    handler = Discarding()
    handler.setFormatter(StructuredLogFormatter("scanned"))
    logger.addHandler(handler)
    logger.propagate = False  # the test runner would keep every record
    logger.setLevel(logging.INFO)
    process = psutil.Process()
    try:
        asyncio.run(scan(app, WARM_UP))
        gc.collect()
        before = (series(registry), process.memory_info().rss)
        asyncio.run(scan(app, REQUESTS))
        gc.collect()
        after = (series(registry), process.memory_info().rss)
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
        logger.setLevel(logging.NOTSET)

    assert after[0] == before[0]
    assert after[1] - before[1] <= GROWTH
