"""Spans of a real service on their way to real receivers, which are stopped and started again."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.e2e.processes import serving_program
from tests.tracing.receivers import DEADLINE, GrpcReceiver, HttpReceiver, Received, free_port, until

RECEIVERS = {"grpc": GrpcReceiver, "http/protobuf": HttpReceiver}

ROUTED = "-m tests.e2e.otlp_service {fd}"
WITHOUT_LIFESPAN = {
    "set up before the server runs": "-m tests.e2e.otlp_service {fd} plain",
    "set up while the server runs": "-m uvicorn --fd {fd} --factory tests.e2e.otlp_service:plain",
    "switched off": "-m uvicorn --fd {fd} --factory tests.e2e.otlp_service:routed --lifespan off",
}
"""Services whose spans nobody asks for when they end, but for SIGTERM."""


class Service:
    """The service in a process of its own, and a client of it."""

    def __init__(self, process: subprocess.Popen[bytes], client: httpx.Client, log: Path) -> None:
        self.process = process
        self.client = client
        self._log = log

    def ask(self, times: int) -> list[int]:
        return [self.client.get("/hello/world").status_code for _ in range(times)]

    @property
    def dropped(self) -> int:
        match = re.search(r"^trace_spans_dropped_total (\S+)$", self.client.get("/metrics").text, re.MULTILINE)
        assert match is not None
        return int(float(match[1]))

    @property
    def said(self) -> list[tuple[str, str]]:
        """Level and message of what asgi_obs itself has logged about spans."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        own = [(line["level"], line["message"]) for line in lines if line["component"] == "asgi_obs"]
        return [(level, message) for level, message in own if "span" in message.lower()]

    def ask_while_it_terminates(self) -> int:
        def body() -> Iterator[bytes]:
            yield b"begin"
            until(lambda: "reading" in self._log.read_text())
            self.process.send_signal(signal.SIGTERM)
            until(lambda: "Waiting for connections to close" in self._log.read_text())

        status = self.client.post("/hello/world", content=body()).status_code
        self.process.wait(DEADLINE)
        return status

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(DEADLINE)


@contextmanager
def serving(directory: Path, program: str = ROUTED, **variables: str) -> Iterator[Service]:
    log = directory / "log"
    with serving_program(program, log, **variables) as (process, url):
        with httpx.Client(base_url=url, timeout=DEADLINE, trust_env=False) as client:
            yield Service(process, client, log)


def hellos(spans: list[Received]) -> list[Received]:
    return [span for span in spans if span.name == "GET /hello/{name}"]


@pytest.mark.parametrize("protocol", RECEIVERS)
def test_a_collector_that_is_down_for_a_while_costs_spans_that_are_counted_and_two_lines(
    tmp_path: Path, protocol: str
) -> None:
    receiver = RECEIVERS[protocol](free_port())
    inbox = receiver.inbox
    settings = {
        "OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_BSP_MAX_QUEUE_SIZE": "40",
    }
    receiver.start()
    with serving(tmp_path, **settings) as service:
        statuses = service.ask(20)
        until(lambda: len(hellos(inbox.spans)) == 20)

        receiver.stop()
        statuses += service.ask(100)
        until(lambda: [level for level, _ in service.said] == ["WARN"])

        receiver.start()
        until(lambda: statuses.extend(service.ask(1)) or len(service.said) == 2)
        arrived = len(hellos(inbox.spans))
        statuses += service.ask(20)
        until(lambda: len(hellos(inbox.spans)) + service.dropped == len(statuses))
        dropped = service.dropped
        service.terminate()

    receiver.stop()
    assert set(statuses) == {200}
    assert dropped > 0
    assert len(hellos(inbox.spans)) > arrived
    assert len({span.span_id for span in hellos(inbox.spans)}) + dropped == len(statuses)
    assert [level for level, _ in service.said] == ["WARN", "INFO"]
    assert receiver.endpoint in service.said[0][1]


def test_what_waits_arrives_before_a_service_that_is_terminated_has_ended(tmp_path: Path) -> None:
    with GrpcReceiver(free_port()) as receiver:
        with serving(tmp_path, OTLP_ENDPOINT=receiver.endpoint, OTEL_BSP_SCHEDULE_DELAY="3600000") as service:
            service.ask(7)
            service.terminate()

        assert len(hellos(receiver.inbox.spans)) == 7


@pytest.mark.parametrize("program", WITHOUT_LIFESPAN.values(), ids=WITHOUT_LIFESPAN.keys())
def test_what_waits_arrives_without_a_lifespan_too_and_so_does_what_ends_after_the_signal(
    tmp_path: Path, program: str
) -> None:
    with GrpcReceiver(free_port()) as receiver:
        settings = {"OTEL_BSP_SCHEDULE_DELAY": "3600000", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10"}
        with serving(tmp_path, program, OTLP_ENDPOINT=receiver.endpoint, **settings) as service:
            service.ask(10)
            receiver.inbox.wait_for(10)
            service.ask(7)
            status = service.ask_while_it_terminates()

        assert status == 200
        assert len(receiver.inbox.spans) == 18


@pytest.mark.parametrize("program", WITHOUT_LIFESPAN.values(), ids=WITHOUT_LIFESPAN.keys())
def test_a_collector_that_hangs_does_not_keep_a_service_from_ending_which_says_what_is_lost(
    tmp_path: Path, program: str
) -> None:
    settings = {"OTEL_BSP_SCHEDULE_DELAY": "3600000", "OTEL_EXPORTER_OTLP_TIMEOUT": "600"}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = "{}:{}".format(*silent.getsockname())
        with serving(tmp_path, program, OTLP_ENDPOINT=endpoint, **settings) as service:
            service.ask(7)
            service.terminate()

        said = f"Spans cannot be sent to {endpoint}: no answer within 1 s, and 7 wait"
        assert service.said == [("WARN", said)]


def test_a_span_says_which_service_made_it_and_which_request_it_was(tmp_path: Path) -> None:
    with HttpReceiver(free_port()) as receiver:
        settings = {
            "OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "SERVICE_NAME": "shop",
            "VERSION": "1.2.3",
        }
        with serving(tmp_path, **settings) as service:
            parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            service.client.get("/hello/world", headers={"traceparent": parent})
            service.terminate()

        (span,) = receiver.inbox.spans
        assert (span.trace_id, span.parent_id) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
        assert span.attributes["http.route"] == "/hello/{name}"
        expected = {"service.name": "shop", "service.version": "1.2.3", "deployment.environment.name": "testing"}
        assert expected.items() <= span.resource.items()
        assert service.said == []


FORK = """
import os
from asgi_obs import Settings
from asgi_obs.tracing.setup import setup_tracing
from opentelemetry import trace

tracer = setup_tracing(settings=Settings(service_name="shop"))
flush = trace.get_tracer_provider().force_flush
for name in ("sent before", "waits"):
    tracer.start_span(name).end()
    if name == "sent before":
        assert flush()
child = os.fork()
tracer.start_span("by the child" if child == 0 else "by the parent").end()
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.parametrize("protocol", RECEIVERS)
def test_a_forked_process_sends_its_own_spans_over_a_connection_of_its_own(protocol: str) -> None:
    with RECEIVERS[protocol](free_port()) as receiver:
        variables = {
            "OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_BSP_SCHEDULE_DELAY": "3600000",
        }
        environment = {"PATH": os.environ["PATH"], **variables}
        subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], env=environment, check=True, timeout=DEADLINE)

    assert sorted(span.name for span in receiver.inbox.spans) == [
        "by the child",
        "by the parent",
        "sent before",
        "waits",
    ]
