from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import (
    AsyncOpenTelemetryTransport,
    HTTPX2ClientInstrumentor,
    HTTPXClientInstrumentor,
    SyncOpenTelemetryTransport,
)
from opentelemetry.trace import StatusCode

from asgi_obs import LogContext
from asgi_obs.errors import ConfigurationError
from asgi_obs.integrations.httpx import AsyncObservedTransport, ObservedTransport, instrument_httpx
from asgi_obs.types import Receive, Scope, Send
from tests.integrations.http_servers import (
    DEADLINE,
    Seen,
    Service,
    expect_context_of_a_request,
    expect_one_call,
    traceparent,
)

pytestmark = pytest.mark.anyio

on_both = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
with_each = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as service:
        yield service


@pytest.fixture
def seen() -> Seen:
    return Seen()


def answering(status: int = 200, library: Any = httpx) -> Any:
    return library.MockTransport(lambda request: library.Response(status))


@with_each
def test_a_request_of_a_client_is_a_call(library: Any, seen: Seen, service: Service) -> None:
    with LogContext("c-1"), instrument_httpx(library.Client(), **seen.options) as client:
        response = client.get(f"{service.url}/status/404?a=1")

    assert (response.status_code, response.text) == (404, "ok")
    expect_one_call(seen, service, "/status/404?a=1", "c-1")


@on_both
@with_each
async def test_a_request_of_an_async_client_is_a_call(library: Any, seen: Seen, service: Service) -> None:
    with LogContext("c-1"):
        async with instrument_httpx(library.AsyncClient(), **seen.options) as client:
            response = await client.post(f"{service.url}/status/201", content=b"body")

    assert (response.status_code, seen.attributes["http.response.status_code"]) == (201, 201)
    assert service.headers["traceparent"] == traceparent(seen.span.context)
    assert service.headers["x-correlation-id"] == "c-1"
    assert seen.counts == {("POST", f"127.0.0.1:{service.port}", "201"): 1}


@with_each
def test_a_client_is_instrumented_once(library: Any, seen: Seen) -> None:
    client = library.Client(transport=answering(200, library), mounts={"http://a.test": None})

    assert instrument_httpx(client, **seen.options) is client
    transport = client._transport
    instrument_httpx(client, **seen.options)
    client.get("http://a.test/")

    assert client._transport is transport
    assert len(seen.spans) == 1


def test_a_transport_that_observes_already_is_left_alone(seen: Seen) -> None:
    transport = ObservedTransport(answering(), **seen.options)

    client = instrument_httpx(httpx.Client(transport=transport))

    assert client._transport is transport


def test_proxies_and_mounts_are_covered(seen: Seen, service: Service) -> None:
    proxied = instrument_httpx(httpx.Client(proxy=service.url), **seen.options)
    mounted = instrument_httpx(httpx.Client(mounts={"all://b.test": answering(418)}), **seen.options)
    with proxied, mounted:
        service_says = proxied.get("http://a.test/status/200")
        mount_says = mounted.get("http://b.test/")

    assert [asked.path for asked in service.asked] == ["http://a.test/status/200"]
    assert (service_says.status_code, mount_says.status_code) == (200, 418)
    assert sorted(seen.counts) == [("GET", "a.test", "200"), ("GET", "b.test", "418")]


@pytest.mark.parametrize("client", [None, object(), httpx, httpx.Client, answering()])
def test_what_is_no_client_is_refused(client: Any) -> None:
    with pytest.raises(ConfigurationError, match="a Client or an AsyncClient of httpx or httpx2"):
        instrument_httpx(client)


@pytest.mark.parametrize("kind", [ObservedTransport, AsyncObservedTransport])
@pytest.mark.parametrize("transport", [None, object(), httpx.MockTransport])
def test_what_is_no_transport_is_refused(kind: Any, transport: Any) -> None:
    with pytest.raises(ConfigurationError, match="a transport of httpx or httpx2"):
        kind(transport)


def test_a_wrong_option_is_refused_and_leaves_the_client_as_it_was() -> None:
    transport = answering()
    client = httpx.Client(transport=transport)

    with pytest.raises(ConfigurationError, match="propagate_to"):
        instrument_httpx(client, propagate_to="api.example.com")
    with pytest.raises(TypeError, match="propagate"):
        instrument_httpx(client, propagate="all")  # type: ignore[call-arg]

    assert client._transport is transport


def test_a_transport_opens_and_closes_the_one_that_sends() -> None:
    class Sends(httpx.MockTransport):
        def __enter__(self) -> Any:
            happened.append("opened")

        def __exit__(self, *error: object) -> None:
            happened.append("left")

        def close(self) -> None:
            happened.append("closed")

    happened: list[str] = []
    transport = ObservedTransport(Sends(lambda request: httpx.Response(200)))
    with transport as entered:
        transport.close()

    assert (entered, happened) == (transport, ["opened", "closed", "left"])


async def test_an_async_transport_opens_and_closes_the_one_that_sends() -> None:
    class Sends(httpx.MockTransport):
        async def __aenter__(self) -> Any:
            happened.append("opened")

        async def __aexit__(self, *error: object) -> None:
            happened.append("left")

        async def aclose(self) -> None:
            happened.append("closed")

    happened: list[str] = []
    transport = AsyncObservedTransport(Sends(lambda request: httpx.Response(200)))
    async with transport as entered:
        await transport.aclose()

    assert (entered, happened) == (transport, ["opened", "closed", "left"])


@with_each
def test_each_hop_of_a_redirect_is_a_call_and_a_host_that_is_not_allowed_gets_nothing(
    library: Any, seen: Seen, service: Service
) -> None:
    client = instrument_httpx(library.Client(follow_redirects=True), propagate_to=["127.0.0.1"], **seen.options)
    with LogContext("c-1"), client:
        client.get(f"{service.url}/redirect/302/{service.elsewhere}/redirect/307/{service.url}/status/200")

    first, second, third = service.asked
    assert second.headers.keys() & {"traceparent", "x-correlation-id"} == set()
    assert [asked.headers.get("traceparent") for asked in (first, third)] == [
        traceparent(span.context) for span in (seen.spans[0], seen.spans[2])
    ]
    assert [asked.headers.get("x-correlation-id") for asked in (first, third)] == ["c-1"] * 2
    assert sorted(status for _, _, status in seen.counts) == ["200", "302", "307"]


def test_the_request_of_the_caller_stays_as_it_was(seen: Seen) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200)

    sent: list[httpx.Request] = []
    mine = {"X-Correlation-ID": "mine", "traceparent": "mine"}
    client = instrument_httpx(httpx.Client(transport=httpx.MockTransport(answer)), **seen.options)
    request = client.build_request("POST", "http://a.test/", headers=mine, content=b"body", extensions={"mine": 1})
    before = [*request.headers.raw]
    with LogContext("c-1"):
        response = client.send(request)

    assert mine == {"X-Correlation-ID": "mine", "traceparent": "mine"}
    assert (request.headers.raw, response.request) == (before, request)
    assert sent[0].headers["x-correlation-id"] == "mine"
    assert sent[0].headers.get_list("traceparent") == [traceparent(seen.span.context)]
    assert (sent[0].content, sent[0].extensions["mine"]) == (b"body", 1)


def test_a_request_that_gets_no_headers_is_handed_on_itself(seen: Seen) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200)

    sent: list[httpx.Request] = []
    client = instrument_httpx(httpx.Client(transport=httpx.MockTransport(answer)), propagate_to=[], **seen.options)
    request = client.build_request("GET", "http://a.test/")
    client.send(request)

    assert sent == [request]


def test_a_retry_is_a_call_of_its_own(seen: Seen) -> None:
    class Retries(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            try:
                return observed.handle_request(request)
            except httpx.ConnectError:
                return observed.handle_request(request)

    def answer(request: httpx.Request) -> httpx.Response:
        told.append(request.headers["traceparent"])
        if len(told) == 1:
            raise httpx.ConnectError("refused")
        return httpx.Response(200)

    told: list[str] = []
    observed = ObservedTransport(httpx.MockTransport(answer), **seen.options)
    httpx.Client(transport=Retries()).get("http://a.test/")

    assert told == [traceparent(span.context) for span in seen.spans]
    assert [*seen.counts] == [("GET", "a.test", "ConnectError"), ("GET", "a.test", "200")]


@with_each
def test_a_stream_is_read_as_it_comes(library: Any, seen: Seen, service: Service) -> None:
    with instrument_httpx(library.Client(), **seen.options) as client:
        with client.stream("GET", f"{service.url}/stream") as response:
            chunks = response.iter_raw()
            first = next(chunks)
            ended = [*seen.spans]
            service.release.set()
            rest = b"".join(chunks)

    assert (first, rest) == (b"one", b"two")
    assert ended == seen.spans
    assert len(ended) == 1


@on_both
async def test_a_stream_is_read_as_it_comes_by_an_async_client(seen: Seen, service: Service) -> None:
    async with instrument_httpx(httpx.AsyncClient(), **seen.options) as client:
        async with client.stream("GET", f"{service.url}/stream") as response:
            chunks = response.aiter_raw()
            first = await chunks.__anext__()
            ended = [*seen.spans]
            service.release.set()
            rest = b"".join([chunk async for chunk in chunks])

    assert (first, rest, ended) == (b"one", b"two", seen.spans)


def test_a_body_that_can_be_read_once_is_sent(seen: Seen, service: Service) -> None:
    with instrument_httpx(httpx.Client(), **seen.options) as client:
        body = iter([b"a", b"b"])
        client.post(f"{service.url}/status/200", content=body, headers={"Content-Length": "2"})

    assert (service.asked[0].method, [*body]) == ("POST", [])


def test_a_connection_that_is_refused_is_a_failure(seen: Seen) -> None:
    with Service() as service:
        nobody = service.url
    with instrument_httpx(httpx.Client(), **seen.options) as client, pytest.raises(httpx.ConnectError):
        client.get(nobody)

    assert (seen.span.status.status_code, seen.attributes["error.type"]) == (StatusCode.ERROR, "httpx.ConnectError")
    assert [status for _, _, status in seen.counts] == ["ConnectError"]


def test_a_timeout_is_a_failure(seen: Seen, service: Service) -> None:
    with instrument_httpx(httpx.Client(timeout=0.05), **seen.options) as client, pytest.raises(httpx.ReadTimeout):
        client.get(f"{service.url}/hang")

    assert seen.attributes["error.type"] == "httpx.ReadTimeout"


@on_both
async def test_a_request_that_is_cancelled_ends_its_call(seen: Seen, service: Service, anyio_backend: str) -> None:
    async def asked() -> None:
        await anyio.to_thread.run_sync(service.is_asked.wait, DEADLINE)
        tasks.cancel_scope.cancel()

    async def ask() -> None:
        before = otel_context.get_current()
        try:
            await client.get(f"{service.url}/hang")
        finally:
            left.append(otel_context.get_current() is before)

    left: list[bool] = []
    async with instrument_httpx(httpx.AsyncClient(), **seen.options) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            tasks.start_soon(asked)

    assert left == [True]
    assert seen.attributes["error.type"].endswith(".CancelledError" if anyio_backend == "asyncio" else ".Cancelled")
    assert seen.span.status.status_code is StatusCode.ERROR


def test_the_span_is_current_for_what_sends_and_not_for_the_caller(seen: Seen) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        inside.append(trace.get_current_span().get_span_context())
        return httpx.Response(200)

    inside: list[Any] = []
    before = otel_context.get_current()
    instrument_httpx(httpx.Client(transport=httpx.MockTransport(answer)), **seen.options).get("http://a.test")

    assert inside == [seen.span.context]
    assert otel_context.get_current() is before


def test_requests_in_threads_have_a_call_each(seen: Seen, service: Service) -> None:
    def ask(number: int) -> None:
        with LogContext(f"c-{number}"):
            client.get(f"{service.url}/status/200?n={number}")

    with instrument_httpx(httpx.Client(), **seen.options) as client, ThreadPoolExecutor(4) as pool:
        [*pool.map(ask, range(12))]

    spans = {str((span.attributes or {})["url.full"]).rpartition("=")[2]: span for span in seen.spans}
    told = {asked.path.rpartition("=")[2]: asked.headers for asked in service.asked}
    assert told.keys() == {str(number) for number in range(12)}
    assert all(headers["x-correlation-id"] == f"c-{number}" for number, headers in told.items())
    assert all(headers["traceparent"] == traceparent(spans[number].context) for number, headers in told.items())


async def test_interleaved_requests_mix_neither_span_nor_id_even_of_one_request(seen: Seen) -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        told.append((request.headers["x-correlation-id"], request.headers["traceparent"]))
        if len(told) == 2:
            both.set()
        await asyncio.wait_for(both.wait(), DEADLINE)
        return httpx.Response(200, headers={"id": request.headers["x-correlation-id"]})

    async def ask(correlation_id: str) -> tuple[str, bool]:
        before = otel_context.get_current()
        with LogContext(correlation_id):
            response = await client.send(request)
        return response.headers["id"], otel_context.get_current() is before

    told: list[tuple[str, str]] = []
    both = asyncio.Event()
    client = instrument_httpx(httpx.AsyncClient(transport=httpx.MockTransport(answer)), **seen.options)
    request = client.build_request("GET", "http://a.test/")

    assert await asyncio.gather(ask("a"), ask("b")) == [("a", True), ("b", True)]
    assert [correlation_id for correlation_id, _ in told] == ["a", "b"]
    assert {parent for _, parent in told} == {traceparent(span.context) for span in seen.spans}
    assert len(seen.spans) == 2


async def test_a_request_made_for_a_request_has_its_correlation_id_and_its_trace(seen: Seen, service: Service) -> None:
    async def call() -> None:
        async with instrument_httpx(httpx.AsyncClient(), **seen.options) as client:
            await client.get(f"{service.url}/status/200")

    await expect_context_of_a_request(seen, service, call)


@on_both
async def test_an_app_may_be_called_without_a_server(seen: Seen) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": dict(scope["headers"])[b"traceparent"]})

    client = instrument_httpx(httpx.AsyncClient(transport=httpx.ASGITransport(app)), **seen.options)
    async with client:
        response = await client.get("http://a.test/")

    assert response.text == traceparent(seen.span.context)


@pytest.fixture
def contrib() -> Iterator[Callable[..., None]]:
    """opentelemetry-instrumentation-httpx, and what takes it away."""
    undo: list[Callable[[], None]] = []

    def instrument(instrumentor: Any, client: Any = None, **options: Any) -> None:
        if client is None:
            instrumentor.instrument(**options)
            undo.append(instrumentor.uninstrument)
        else:
            instrumentor.instrument_client(client, **options)
            undo.append(lambda: instrumentor.uninstrument_client(client))

    yield instrument
    for step in undo:
        step()


@pytest.mark.parametrize(
    ("library", "instrumentor"),
    [(httpx, HTTPXClientInstrumentor), (httpx2, HTTPX2ClientInstrumentor)],
    ids=["httpx", "httpx2"],
)
def test_there_is_no_second_span_where_contrib_makes_one(
    library: Any, instrumentor: Any, seen: Seen, service: Service, contrib: Any
) -> None:
    contrib(instrumentor(), tracer_provider=seen.provider)
    with LogContext("c-1"), instrument_httpx(library.Client(), **seen.options) as client:
        client.get(f"{service.url}/status/200")

    assert seen.span.instrumentation_scope is not None
    assert seen.span.instrumentation_scope.name == "opentelemetry.instrumentation.httpx"
    assert service.headers["traceparent"] == traceparent(seen.span.context)
    assert service.headers["x-correlation-id"] == "c-1"
    assert [status for _, _, status in seen.counts] == ["200"]


async def test_there_is_no_second_span_of_an_async_client(seen: Seen, service: Service, contrib: Any) -> None:
    contrib(HTTPXClientInstrumentor(), tracer_provider=seen.provider)
    async with instrument_httpx(httpx.AsyncClient(), **seen.options) as client:
        await client.get(f"{service.url}/status/200")

    assert service.headers["traceparent"] == traceparent(seen.span.context)
    assert [status for _, _, status in seen.counts] == ["200"]


@pytest.mark.parametrize("ours_first", [True, False])
def test_there_is_no_second_span_of_a_client_that_contrib_has_instrumented(
    seen: Seen, contrib: Any, ours_first: bool
) -> None:
    client = httpx.Client(transport=answering())
    if ours_first:
        instrument_httpx(client, **seen.options)
    contrib(HTTPXClientInstrumentor(), client, tracer_provider=seen.provider)
    instrument_httpx(client, **seen.options)
    client.get("http://a.test/")

    assert seen.span.instrumentation_scope is not None
    assert seen.span.instrumentation_scope.name == "opentelemetry.instrumentation.httpx"
    assert seen.counts == {("GET", "a.test", "200"): 1}


async def test_there_is_no_second_span_around_contribs_own_transports(seen: Seen) -> None:
    theirs: Any = (
        SyncOpenTelemetryTransport(answering(), tracer_provider=seen.provider),
        AsyncOpenTelemetryTransport(answering(), tracer_provider=seen.provider),
    )
    instrument_httpx(httpx.Client(transport=theirs[0]), **seen.options).get("http://a.test/")
    await instrument_httpx(httpx.AsyncClient(transport=theirs[1]), **seen.options).get("http://a.test/")

    assert [span.instrumentation_scope and span.instrumentation_scope.name for span in seen.spans] == [
        "opentelemetry.instrumentation.httpx"
    ] * 2
    assert seen.counts == {("GET", "a.test", "200"): 2}


def test_transports_that_contrib_does_not_see_get_their_span_and_so_do_all_when_it_is_gone(seen: Seen) -> None:
    class Slotted:
        __slots__ = ()

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, extensions={"http_version": b"HTTP/2"})

    instrumentor = HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=seen.provider)
    try:
        mocked = ObservedTransport(Slotted(), **seen.options)
        mocked.handle_request(httpx.Request("GET", "http://a.test/"))
    finally:
        instrumentor.uninstrument()

    assert seen.span.instrumentation_scope is not None
    assert (seen.span.instrumentation_scope.name, seen.attributes["network.protocol.version"]) == ("asgi_obs", "2")


def test_without_contrib_there_is_a_span(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, HTTPXClientInstrumentor.__module__)
    instrument_httpx(httpx.Client(transport=answering()), **seen.options).get("http://a.test/")

    assert len(seen.spans) == 1


@pytest.mark.parametrize(
    ("used", "missing"), [("httpx", "httpx2"), ("httpx2", "httpx")], ids=["httpx alone", "httpx2 alone"]
)
def test_either_library_is_enough(used: str, missing: str) -> None:
    program = f"""
import sys
sys.modules[{missing!r}] = None
from asgi_obs.integrations.httpx import instrument_httpx
assert {used!r} not in sys.modules
import {used} as library
client = library.Client(transport=library.MockTransport(lambda request: library.Response(200)))
print(instrument_httpx(client).get("http://a.test/").status_code)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("200\n", "")


@with_each
def test_a_transport_is_one_of_its_library(library: Any, seen: Seen) -> None:
    sync = ObservedTransport(library.HTTPTransport(), **seen.options)
    asynchronous = AsyncObservedTransport(library.AsyncHTTPTransport(), **seen.options)

    assert isinstance(sync, library.BaseTransport)
    assert isinstance(asynchronous, library.AsyncBaseTransport)
    assert type(ObservedTransport(sync, **seen.options)) is type(sync)


def test_a_transport_of_no_library_will_do(seen: Seen) -> None:
    class Mine:
        def handle_request(self, request: Any) -> Any:
            return httpx.Response(200)

    with httpx.Client(transport=ObservedTransport(Closing(Mine()), **seen.options)) as client:
        assert client.get("http://h/").status_code == 200


class Closing:
    """A transport by its methods only."""

    def __init__(self, inner: Any) -> None:
        self.handle_request = inner.handle_request

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def test_options_of_a_second_time_are_said_to_change_nothing(seen: Seen, caplog: pytest.LogCaptureFixture) -> None:
    client = instrument_httpx(httpx.Client(), **seen.options)
    before = client._transport

    assert instrument_httpx(client) is client
    assert caplog.messages == []
    assert instrument_httpx(client, **seen.options)._transport is before
    assert caplog.messages == [
        "This client is observed already, and its options stay: tracer_provider, registry",
    ]
    with pytest.raises(ConfigurationError):
        instrument_httpx(client, propagate_to="typo")


@with_each
def test_the_tracestate_of_the_caller_goes_with_the_traceparent_it_belongs_to(
    library: Any, seen: Seen, service: Service
) -> None:
    headers = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01", "tracestate": "vendor=foreign"}
    with instrument_httpx(library.Client(), **seen.options) as client:
        client.get(f"{service.url}/status/200", headers=headers)

    assert service.headers["traceparent"] == traceparent(seen.span.context)
    assert "tracestate" not in service.headers
