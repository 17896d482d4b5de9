"""From a browser through three services: httpx, aiohttp and MCP between them, all real."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from tests.e2e.processes import DEADLINE, ROOT
from tests.tracing.receivers import VARIABLES, GrpcReceiver, Received, free_port

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
BROWSER = "b7ad6b7169203331"
SERVER, CLIENT = 2, 3
NAMES = ("front", "middle", "back")


class Services:
    """Three processes; what they have logged is there when they have ended."""

    def __init__(self, processes: dict[str, subprocess.Popen[bytes]], front: str) -> None:
        self._processes = processes
        self.front = front
        self.lines: dict[str, list[dict[str, Any]]] = {}

    def terminate(self) -> None:
        for name, process in self._processes.items():
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=DEADLINE)
            self.lines[name] = [json.loads(line) for line in output.splitlines()]


@contextmanager
def services(collector: str) -> Iterator[Services]:
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in NAMES]
        urls = ["http://{}:{}".format(*listener.getsockname()) for listener in listeners]
        environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        processes = {}
        for name, listener, following in zip(NAMES, listeners, [*urls[1:], ""], strict=True):
            command = [sys.executable, "-m", "tests.e2e.chain", name, str(listener.fileno()), following]
            processes[name] = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**environment, "SERVICE_NAME": name, "ENVIRONMENT": "testing", "OTLP_ENDPOINT": collector},
                pass_fds=[listener.fileno()],
                stdout=subprocess.PIPE,
            )
            stack.enter_context(processes[name])
            stack.callback(processes[name].kill)
        yield Services(processes, urls[0])


def ancestors(spans: list[Received], name: str) -> list[str]:
    """The names of a span and of those above it, with their services."""
    by_id = {span.span_id: span for span in spans}
    [span] = [span for span in spans if span.name == name]
    line = []
    while True:
        line.append(f"{span.resource['service.name']}: {span.name}")
        if span.parent_id == BROWSER:
            return line
        span = by_id[span.parent_id]


@pytest.fixture(scope="module")
def story() -> tuple[str, list[Received], dict[str, list[dict[str, Any]]]]:
    """The response, the spans and the lines of one request."""
    headers = {"traceparent": f"00-{TRACE_ID}-{BROWSER}-01", "x-correlation-id": "browser-1"}
    with GrpcReceiver(free_port()) as receiver, services(receiver.endpoint) as chain:
        response = httpx.get(f"{chain.front}/buy/book", headers=headers, timeout=DEADLINE, trust_env=False)
        chain.terminate()
        return response.text, list(receiver.inbox.spans), chain.lines


def test_every_span_of_three_services_is_in_the_trace_of_the_browser(story: Any) -> None:
    text, spans, _ = story
    assert text == "a book for 7"
    assert {span.trace_id for span in spans} == {TRACE_ID}
    assert {span.resource["service.name"] for span in spans} == set(NAMES)


def test_every_span_has_the_parent_that_caused_it(story: Any) -> None:
    _, spans, _ = story
    assert {span.parent_id for span in spans} <= {BROWSER, *(span.span_id for span in spans)}
    assert ancestors(spans, "GET /price") == [
        "back: GET /price",
        "middle: GET",
        "middle: GET /orders/{order_id}",
        "front: GET",
        "front: GET /buy/{item}",
    ]
    called = ancestors(spans, "mcp.server.take")
    # Version 2 of the SDK makes a span of its own inside of ours.
    assert [step for step in called if "MCP send" not in step] == [
        "back: mcp.server.take",
        "middle: mcp.tool.take",
        "middle: GET /orders/{order_id}",
        "front: GET",
        "front: GET /buy/{item}",
    ]


def test_each_request_between_them_is_one_client_span_and_one_server_span(story: Any) -> None:
    _, spans, _ = story
    by_id = {span.span_id: span for span in spans}
    requests = [span for span in spans if span.kind == SERVER and "http.request.method" in span.attributes]
    callers = [by_id[span.parent_id] for span in requests if span.parent_id != BROWSER]
    assert len({span.span_id for span in callers}) == len(callers) == len(requests) - 1
    assert {span.kind for span in callers} == {CLIENT}
    assert all(span.attributes["correlation_id"] == "browser-1" for span in requests)


def test_every_line_about_the_request_has_one_correlation_id(story: Any) -> None:
    _, _, lines = story
    said = {
        name: {line.get("correlation_id") for line in lines[name] if line["component"] in {"shop", "asgi_obs.request"}}
        for name in NAMES
    }
    assert said == {name: {"browser-1"} for name in NAMES}
    tools = [line for name in NAMES for line in lines[name] if line["component"].startswith("asgi_obs.mcp")]
    assert {line["correlation_id"] for line in tools} == {"browser-1"}
    assert {line["trace_id"] for line in tools} == {TRACE_ID}


def test_a_secret_in_the_arguments_of_a_tool_is_nowhere(story: Any) -> None:
    _, spans, lines = story
    assert "hunter2" not in json.dumps(lines)
    assert "hunter2" not in repr(spans)
