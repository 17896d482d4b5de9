"""A service on loopback for clients to call, and the spans and metrics that are left of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext
from prometheus_client import CollectorRegistry

from asgi_obs import CorrelationIdMiddleware, TracingMiddleware
from asgi_obs.testing import drive, http_scope
from asgi_obs.types import Receive, Scope, Send

DEADLINE = 20.0
"""Seconds that anything may wait; never reached if all is well."""


class Asked(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]


class Service:
    """A real HTTP server in a thread; it remembers what it was asked.

    `/status/404` answers with that status, `/redirect/302/<url>` leads there, and without a URL nowhere; `/hang` and
    `/stream` wait, before the answer and in the middle of its body, until `release` is set; `/garbage` is no HTTP.
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.is_asked = Event()
        self.release = Event()

    def __enter__(self) -> Service:  # noqa: PYI034 - `Self` is not in Python 3.10
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self.elsewhere = f"http://localhost:{self.port}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(DEADLINE)

    @property
    def headers(self) -> dict[str, str]:
        """Those of the only request."""
        (asked,) = self.asked
        return asked.headers

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                service.asked.append(Asked(self.command, self.path, headers))
                service.is_asked.set()
                self.rfile.read(int(headers.get("content-length", 0)))
                what, _, rest = urlsplit(self.path).path[1:].partition("/")
                with suppress(OSError):  # the client may have gone
                    getattr(self, what)(rest)

            do_POST = do_HEAD = do_BREW = do_GET  # noqa: N815 - the names that http.server looks for

            def status(self, rest: str) -> None:
                self._start(int(rest), {"Content-Length": "2"})
                if self.command != "HEAD":
                    self.wfile.write(b"ok")

            def redirect(self, rest: str) -> None:
                status, _, location = rest.partition("/")
                self._start(
                    int(status), {"Content-Length": "0", **({"Location": unquote(location)} if location else {})}
                )

            def hang(self, rest: str) -> None:
                service.release.wait(DEADLINE)
                self.status("200")

            def stream(self, rest: str) -> None:
                self._start(200, {"Content-Length": "6"})
                self.wfile.write(b"one")
                service.release.wait(DEADLINE)
                self.wfile.write(b"two")

            def garbage(self, rest: str) -> None:
                self.wfile.write(b"what?\r\n\r\n")
                self.close_connection = True

            def _start(self, status: int, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *message: object) -> None:
                """Standard error is not the place."""

        return Handler


class Seen:
    """What calls have left, and the options that make them leave it here."""

    def __init__(self, **provider_options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **provider_options)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.registry = CollectorRegistry()
        self.options: Any = {"tracer_provider": self.provider, "registry": self.registry}

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    @property
    def span(self) -> ReadableSpan:
        (span,) = self.spans
        return span

    @property
    def attributes(self) -> dict[str, Any]:
        return dict(self.span.attributes or {})

    @property
    def counts(self) -> dict[tuple[str, str, str], float]:
        """Calls by method, host and status."""
        return {
            (labels["method"], labels["host"], labels["status_code"]): value
            for name, labels, value in self._samples("http_client_requests_total")
        }

    @property
    def durations(self) -> dict[tuple[str, str], float]:
        """Durations that were observed, by method and host."""
        return {
            (labels["method"], labels["host"]): value
            for name, labels, value in self._samples("http_client_request_duration_seconds_count")
        }

    def _samples(self, name: str) -> list[tuple[str, dict[str, str], float]]:
        return [
            (sample.name, sample.labels, sample.value)
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == name
        ]


def traceparent(context: SpanContext) -> str:
    """What a service is told of a span."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def expect_one_call(seen: Seen, service: Service, path: str, correlation_id: str) -> None:
    """One GET that was answered by a 404: what the service was told of it, and what is left of it here."""
    assert service.headers["traceparent"] == traceparent(seen.span.context)
    assert service.headers["x-correlation-id"] == correlation_id
    assert seen.attributes == {
        "http.request.method": "GET",
        "server.address": "127.0.0.1",
        "server.port": service.port,
        "url.full": f"{service.url}{path}",
        "http.response.status_code": 404,
        "network.protocol.version": "1.1",
        "error.type": "404",
        "correlation_id": correlation_id,
    }
    assert seen.counts == {("GET", f"127.0.0.1:{service.port}", "404"): 1}


async def expect_context_of_a_request(seen: Seen, service: Service, call: Callable[[], Awaitable[object]]) -> None:
    """A call in the middle of a request: it has the correlation ID of that, and its span as parent."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await call()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    stack = CorrelationIdMiddleware(TracingMiddleware(app, tracer_provider=seen.provider))
    await drive(stack, http_scope("/", headers=[(b"x-correlation-id", b"c-7")]))

    called, served = seen.spans
    assert service.headers["x-correlation-id"] == "c-7"
    assert service.headers["traceparent"] == traceparent(called.context)
    assert called.parent is not None
    assert called.parent.span_id == served.context.span_id
