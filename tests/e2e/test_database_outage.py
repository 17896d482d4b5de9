"""A database that goes away under load: the service says so, answers all the same, and recovers by itself."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from typing_extensions import Self

from tests.e2e.processes import serving_program
from tests.metrics.process.event_loops import until
from tests.postgres import Postgres

PROGRAM = "-m uvicorn --fd {fd} --factory tests.e2e.database_app:service"

CLIENTS = 6
"""Twice as many as there are connections."""

BOUND = 10.0
"""Seconds after which a request counts as hanging. All that it may wait for has a timeout of half a second."""

GOES = {"stopped": Postgres.stop, "suspended": Postgres.suspend}
COMES_BACK = {"stopped": Postgres.start, "suspended": Postgres.resume}


class Service:
    """What is asked of the service, besides the load."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=BOUND, trust_env=False)

    def status(self, path: str) -> int:
        return self.client.get(path).status_code

    def metric(self, name: str) -> float:
        """The sum over the series of a sample."""
        lines = [line for line in self.client.get("/metrics").text.splitlines() if not line.startswith("#")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def look(self) -> dict[str, int]:
        answer: dict[str, int] = self.client.get("/look").json()
        return answer


class Load:
    """Clients that ask one request after another.

    Attributes:
        answers: Status and correlation ID of all of them.
        longest: The seconds that the slowest one took.
    """

    def __init__(self, url: str) -> None:
        self.answers: list[tuple[int, str]] = []
        self.longest = 0.0
        self._url = url
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def has_seen(self, status: int, times: int) -> Callable[[], bool]:
        """Whether a status comes so many times from now on."""
        start = len(self.answers)
        return lambda: sum(1 for seen, _ in self.answers[start:] if seen == status) >= times

    def _ask(self) -> None:
        # A connection for each request: after an exception uvicorn closes the one it was on, at some time.
        headers = {"Connection": "close"}
        with httpx.Client(base_url=self._url, headers=headers, timeout=BOUND, trust_env=False) as client:
            while not self._end.is_set():
                started_at = time.monotonic()
                response = client.get("/item")
                self.answers.append((response.status_code, response.headers["x-correlation-id"]))
                self.longest = max(self.longest, time.monotonic() - started_at)


@pytest.mark.parametrize("how", GOES)
def test_the_service_says_so_answers_all_the_same_and_recovers(own_postgres, tmp_path, how) -> None:
    log = tmp_path / "log"
    with serving_program(PROGRAM, log, DATABASE_URL=own_postgres.url("asyncpg")) as (process, url):
        service = Service(url)
        before = [service.status(path) for path in ("/health", "/health/ready", "/health/live")]
        idle = service.look()
        with Load(url) as load:
            until(load.has_seen(200, 3 * CLIENTS))

            GOES[how](own_postgres)
            until(load.has_seen(500, 2 * CLIENTS))
            during = service.client.get("/health")
            until(lambda: service.status("/health/ready") == 503)
            alive = service.status("/health/live")
            until(load.has_seen(500, CLIENTS))

            COMES_BACK[how](own_postgres)
            until(lambda: service.status("/health") == 200)
            until(lambda: service.status("/health/ready") == 200)
            until(load.has_seen(200, 3 * CLIENTS))
        until(lambda: service.metric("db_pool_connections_checked_out") == 0)
        until(lambda: service.look() == idle)
        numbers = {name: service.metric(name) for name in NUMBERS}
        ran_through = process.poll() is None
        service.client.close()

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert (before, during.status_code, alive, ran_through) == ([200, 200, 200], 503, 200, True)
    assert (during.json()["status"], during.json()["checks"]["database"]["status"]) == ("unhealthy", "unhealthy")
    assert load.longest < BOUND
    assert {status for status, _ in load.answers} == {200, 500}
    assert_failures_are_logged(load, lines)
    assert numbers["db_queries_total"] == numbers["db_query_duration_seconds_count"]
    assert (numbers["db_pool_size"], numbers["db_pool_overflow"]) == (2, 0)


NUMBERS = ("db_queries_total", "db_query_duration_seconds_count", "db_pool_size", "db_pool_overflow")


def assert_failures_are_logged(load: Load, lines: list[dict[str, Any]]) -> None:
    failed = {line["correlation_id"]: line for line in lines if line.get("status_code") == 500}
    assert failed.keys() == {correlation_id for status, correlation_id in load.answers if status == 500}
    assert {line["level"] for line in failed.values()} == {"ERROR"}
    # Some that come from asyncio have no message.
    assert all(line["error"]["type"] and "message" in line["error"] for line in failed.values())
