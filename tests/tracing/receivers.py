"""Real OTLP receivers on the loopback interface, over gRPC and over HTTP; they may be stopped and started again."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent import futures
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from asgi_obs.tracing.variables import SPAN_LIMITS

if TYPE_CHECKING:
    from typing_extensions import Self

DEADLINE = 30.0
"""Seconds after which what does not come fails the test."""

LOOPBACK = "127.0.0.1"

VARIABLES = (
    "OTLP_ENDPOINT",
    "OTLP_INSECURE",
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_TRACES_EXPORTER",
    *(f"OTEL_BSP_{name}" for name in ("MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE", "SCHEDULE_DELAY")),
    *(
        f"OTEL_EXPORTER_OTLP_{signal}{name}"
        for signal in ("", "TRACES_")
        for name in ("ENDPOINT", "INSECURE", "PROTOCOL", "TIMEOUT", "HEADERS", "COMPRESSION")
    ),
    *SPAN_LIMITS,
)
"""What the way of spans depends on."""


@dataclass(frozen=True)
class Received:
    """A span as it came over the wire."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    status: int
    attributes: dict[str, Any]
    resource: dict[str, Any]
    scope: str


@dataclass
class Inbox:
    """What has arrived, at any receiver that puts it here."""

    spans: list[Received] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def put(self, request: ExportTraceServiceRequest) -> None:
        with self.changed:
            self.spans += decoded(request)
            self.changed.notify_all()

    def wait_for(self, count: int) -> list[Received]:
        """The spans, as soon as there are so many."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.spans) >= count, DEADLINE), len(self.spans)
            return list(self.spans)


def decoded(request: ExportTraceServiceRequest) -> list[Received]:
    return [
        Received(
            name=span.name,
            kind=span.kind,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            status=span.status.code,
            attributes=_attributes(span.attributes),
            resource=_attributes(resource.resource.attributes),
            scope=scope.scope.name,
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair) for pair in pairs}


def _value(pair: KeyValue) -> Any:
    value: AnyValue = pair.value
    return getattr(value, value.WhichOneof("value"))


def free_port() -> int:
    with ThreadingHTTPServer((LOOPBACK, 0), BaseHTTPRequestHandler) as server:
        return server.server_address[1]


class GrpcReceiver:
    """A collector that speaks OTLP over gRPC.

    Args:
        port: Where it listens.
        hold: Called for every export, before it is answered.
    """

    def __init__(self, port: int, hold: Callable[[], object] = bool) -> None:
        self.inbox = Inbox()
        self.endpoint = f"{LOOPBACK}:{port}"
        self._port = port
        self._hold = hold
        self._server: grpc.Server | None = None

    def start(self) -> None:
        receiver = self

        class Servicer(trace_service_pb2_grpc.TraceServiceServicer):
            def Export(self, request: Any, context: Any) -> ExportTraceServiceResponse:
                receiver._hold()
                receiver.inbox.put(request)
                return ExportTraceServiceResponse()

        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Servicer(), self._server)
        self._server.add_insecure_port(self.endpoint)
        self._server.start()

    def stop(self) -> None:
        assert self._server is not None
        assert self._server.stop(DEADLINE).wait(DEADLINE)  # what is being received is answered first

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class HttpReceiver:
    """A collector that speaks OTLP over HTTP, with protocol buffers.

    Args:
        port: Where it listens.
        hold: Called for every export, before it is answered.
    """

    def __init__(self, port: int, hold: Callable[[], object] = bool) -> None:
        self.inbox = Inbox()
        self.paths: list[str] = []
        self.endpoint = f"{LOOPBACK}:{port}"
        self._port = port
        self._hold = hold
        self._answering = threading.Lock()
        self._connections: list[Any] = []
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                receiver._connections.append(self.connection)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver._hold()
                with receiver._answering:
                    receiver.paths.append(self.path)
                    receiver.inbox.put(ExportTraceServiceRequest.FromString(body))
                    self.send_response(200)
                    self.send_header("content-length", "0")
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer((LOOPBACK, self._port), Handler)
        threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True).start()

    def stop(self) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        with self._answering:
            for connection in self._connections:
                with suppress(OSError):  # closed already
                    connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
