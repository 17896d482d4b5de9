"""SIGTERM under load: readiness fails first, then the server ends, and nothing that was answered is missing."""

from __future__ import annotations

import json
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.e2e.processes import serving_program
from tests.tracing.receivers import DEADLINE, GrpcReceiver, free_port, until

SERVERS = {
    "uvicorn": "-m uvicorn --fd {fd} --factory tests.e2e.otlp_service:routed",
    "gunicorn": "-m gunicorn -b fd://{fd} -k uvicorn_worker.UvicornWorker tests.e2e.otlp_service:routed()",
}


@dataclass
class Clients:
    """What some clients saw, one request after another."""

    url: str
    answered: list[str] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)

    def ask_until_nobody_answers(self) -> None:
        with httpx.Client(base_url=self.url, timeout=DEADLINE, trust_env=False) as client:
            while True:
                try:
                    response = client.get("/hello/world")
                except httpx.TransportError:
                    return
                self.statuses.add(response.status_code)
                self.answered.append(response.headers["x-correlation-id"])


def status(url: str, path: str) -> int:
    return httpx.get(url + path, timeout=DEADLINE, trust_env=False).status_code


@pytest.mark.parametrize("server", SERVERS)
def test_readiness_fails_first_and_what_was_answered_is_in_the_log_and_the_traces(server: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with GrpcReceiver(free_port()) as receiver:
        variables = {"OTLP_ENDPOINT": receiver.endpoint, "DRAIN_SECONDS": "0.5"}
        with serving_program(SERVERS[server], log, **variables) as (process, url):
            assert status(url, "/health/ready") == 200  # the connection waits until the server is up
            clients = Clients(url)
            threads = [threading.Thread(target=clients.ask_until_nobody_answers) for _ in range(4)]
            for thread in threads:
                thread.start()
            until(lambda: len(clients.answered) > 20)

            process.send_signal(signal.SIGTERM)
            until(lambda: status(url, "/health/ready") == 503)
            so_far = len(clients.answered)
            alive = status(url, "/health/live")
            until(lambda: len(clients.answered) > so_far + 20)

            ended = process.wait(DEADLINE)
            for thread in threads:
                thread.join(DEADLINE)

        spans = [span for span in receiver.inbox.spans if span.name == "GET /hello/{name}"]

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    logged = [line["correlation_id"] for line in lines if line.get("route") == "/hello/{name}"]
    not_ready = [line["message"] for line in lines if "not_ready" in line["message"] or "not ready" in line["message"]]
    assert (alive, clients.statuses) == (200, {200})
    assert ended == (0 if server == "gunicorn" else -signal.SIGTERM)
    assert set(clients.answered) <= set(logged)
    assert sorted(span.attributes["correlation_id"] for span in spans) == sorted(logged)
    assert len(not_ready) == 1
