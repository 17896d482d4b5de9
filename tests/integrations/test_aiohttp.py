from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor, create_trace_config
from opentelemetry.trace import StatusCode

from asgi_obs import LogContext, errors
from asgi_obs.errors import ConfigurationError, MissingExtraError
from asgi_obs.integrations.aiohttp import trace_config
from tests.integrations.http_servers import (
    DEADLINE,
    Seen,
    Service,
    expect_context_of_a_request,
    expect_one_call,
    traceparent,
)

pytestmark = pytest.mark.anyio

OURS = {"traceparent", "x-correlation-id"}


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as service:
        yield service


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
async def session(seen: Seen) -> AsyncIterator[aiohttp.ClientSession]:
    async with session_with(**seen.options) as session:
        yield session


def session_with(**options: Any) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(trace_configs=[trace_config(**options)])


async def test_a_request_of_a_session_is_a_call(session: aiohttp.ClientSession, seen: Seen, service: Service) -> None:
    with LogContext("c-1"):
        async with session.get(f"{service.url}/status/404", params={"a": "1"}) as response:
            body = await response.text()

    assert (response.status, body) == (404, "ok")
    expect_one_call(seen, service, "/status/404?a=1", "c-1")


async def test_the_userinfo_of_a_url_stays_out_of_the_span(
    session: aiohttp.ClientSession, seen: Seen, service: Service
) -> None:
    async with session.get(f"http://ann:hunter2@127.0.0.1:{service.port}/status/200") as response:
        await response.read()

    assert seen.attributes["url.full"] == f"{service.url}/status/200"


async def test_the_headers_of_the_caller_stay_as_they_were(
    session: aiohttp.ClientSession, seen: Seen, service: Service
) -> None:
    mine = {"X-Correlation-ID": "mine", "traceparent": "mine"}
    with LogContext("c-1"):
        async with session.get(f"{service.url}/status/200", headers=mine) as response:
            await response.read()

    assert mine == {"X-Correlation-ID": "mine", "traceparent": "mine"}
    assert service.headers["x-correlation-id"] == "mine"
    assert service.headers["traceparent"] == traceparent(seen.span.context)


async def test_each_hop_of_a_redirect_is_a_call_and_a_host_that_is_not_allowed_gets_nothing(
    seen: Seen, service: Service
) -> None:
    there_and_back = f"/redirect/302/{service.elsewhere}/redirect/307/{service.url}/status/200"
    with LogContext("c-1"):
        async with session_with(propagate_to=["127.0.0.1"], **seen.options) as session:
            async with session.get(service.url + there_and_back, headers={"X-Mine": "1"}) as response:
                await response.read()

    first, second, third = service.asked
    assert second.headers.keys() & OURS == set()
    assert [asked.headers.get("traceparent") for asked in (first, third)] == [
        traceparent(span.context) for span in (seen.spans[0], seen.spans[2])
    ]
    assert [asked.headers.get("x-correlation-id") for asked in (first, third)] == ["c-1"] * 2
    assert [asked.headers["x-mine"] for asked in service.asked] == ["1"] * 3
    assert [status for _, _, status in seen.counts] == ["302", "307", "200"]


@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [
        ("GET", 301, "GET"),
        ("POST", 301, "GET"),
        ("POST", 302, "GET"),
        ("POST", 303, "GET"),
        ("HEAD", 303, "HEAD"),
        ("HEAD", 301, "HEAD"),
        ("POST", 307, "POST"),
        ("POST", 308, "POST"),
    ],
)
async def test_the_method_behind_a_redirect_is_the_one_that_is_sent(
    session: aiohttp.ClientSession, seen: Seen, service: Service, method: str, status: int, expected: str
) -> None:
    async with session.request(method, f"{service.url}/redirect/{status}/%2Fstatus%2F200") as response:
        await response.read()

    assert service.asked[1][:2] == (expected, "/status/200")
    assert [(span.attributes or {})["http.request.method"] for span in seen.spans] == [method, expected]
    assert (seen.spans[1].attributes or {})["url.full"] == f"{service.url}/status/200"


async def test_a_redirect_that_leads_nowhere_is_one_call(
    session: aiohttp.ClientSession, seen: Seen, service: Service
) -> None:
    async with session.get(f"{service.url}/redirect/302") as response:
        await response.read()

    assert (response.status, [status for _, _, status in seen.counts]) == (302, ["302"])


@pytest.mark.parametrize("location", ["http://[::1/", "ftp://a.test/"])
async def test_a_redirect_that_cannot_be_followed_is_one_call(
    session: aiohttp.ClientSession, seen: Seen, service: Service, location: str
) -> None:
    before = otel_context.get_current()
    with pytest.raises((aiohttp.ClientError, ValueError)):  # the latter up to aiohttp 3.9
        await session.get(f"{service.url}/redirect/302/{location}")

    assert [status for _, _, status in seen.counts] == ["302"]
    assert otel_context.get_current() is before


async def test_a_redirect_that_is_not_followed_is_a_call_that_failed(
    session: aiohttp.ClientSession, seen: Seen, service: Service
) -> None:
    with pytest.raises(aiohttp.TooManyRedirects):
        await session.get(f"{service.url}/redirect/302/{service.url}/status/200", max_redirects=1)

    assert len(service.asked) == 1
    assert [status for _, _, status in seen.counts] == ["302", "TooManyRedirects"]


async def test_redirects_that_are_left_to_the_caller_are_one_call(
    session: aiohttp.ClientSession, seen: Seen, service: Service
) -> None:
    async with session.get(f"{service.url}/redirect/302/{service.url}/status/200", allow_redirects=False) as response:
        await response.read()

    assert [status for _, _, status in seen.counts] == ["302"]


async def test_a_stream_is_read_as_it_comes(session: aiohttp.ClientSession, seen: Seen, service: Service) -> None:
    async with session.get(f"{service.url}/stream") as response:
        first = await response.content.readexactly(3)
        ended = [*seen.spans]
        service.release.set()
        rest = await response.content.read()

    assert (first, rest, len(ended)) == (b"one", b"two", 1)
    assert ended == seen.spans


async def test_a_status_that_raises_is_the_status_of_the_call(
    session: aiohttp.ClientSession, seen: Seen, service: Service
) -> None:
    with pytest.raises(aiohttp.ClientResponseError):
        await session.get(f"{service.url}/status/503", raise_for_status=True)

    assert (seen.attributes["error.type"], seen.attributes["http.response.status_code"]) == ("503", 503)
    assert [status for _, _, status in seen.counts] == ["503"]


async def test_an_answer_that_is_no_http_is_a_failure(
    session: aiohttp.ClientSession, seen: Seen, service: Service
) -> None:
    with pytest.raises(aiohttp.ClientResponseError):
        await session.get(f"{service.url}/garbage")

    assert [status for _, _, status in seen.counts] == ["ClientResponseError"]
    assert "http.response.status_code" not in seen.attributes


async def test_a_connection_that_is_refused_is_a_failure(session: aiohttp.ClientSession, seen: Seen) -> None:
    with Service() as service:
        nobody = service.url
    with pytest.raises(aiohttp.ClientConnectorError):
        await session.get(nobody)

    assert seen.span.status.status_code is StatusCode.ERROR
    assert seen.attributes["error.type"] == "aiohttp.client_exceptions.ClientConnectorError"


async def test_a_timeout_is_a_failure(session: aiohttp.ClientSession, seen: Seen, service: Service) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await session.get(f"{service.url}/hang", timeout=aiohttp.ClientTimeout(total=0.05))

    assert [status for _, _, status in seen.counts] == ["TimeoutError"]


async def test_a_request_that_is_cancelled_ends_its_call(
    session: aiohttp.ClientSession, seen: Seen, service: Service
) -> None:
    async def ask() -> None:
        before = otel_context.get_current()
        try:
            await session.get(f"{service.url}/hang")
        finally:
            left.append(otel_context.get_current() is before)

    left: list[bool] = []
    task = asyncio.create_task(ask())
    await asyncio.to_thread(service.is_asked.wait, DEADLINE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert left == [True]
    assert seen.attributes["error.type"] == "asyncio.exceptions.CancelledError"


async def test_the_context_is_that_of_the_caller_whatever_other_configurations_do_to_it(
    seen: Seen, service: Service
) -> None:
    """They come in one order at both ends, so that two that enter a context would leave the one of the other behind."""
    entered: list[Any] = []

    async def enter(*signal: Any) -> None:
        entered.append(otel_context.attach(baggage.set_baggage("tenant", "acme")))

    async def leave(*signal: Any) -> None:
        otel_context.detach(entered.pop())

    other = aiohttp.TraceConfig()
    other.on_request_start.append(enter)
    other.on_request_end.append(leave)
    before = otel_context.get_current()
    async with aiohttp.ClientSession(trace_configs=[trace_config(**seen.options), other]) as session:
        async with session.get(f"{service.url}/status/200"):
            after = otel_context.get_current()

    assert after is before
    assert service.headers["traceparent"] == traceparent(seen.span.context)


async def test_interleaved_requests_mix_neither_span_nor_id(
    session: aiohttp.ClientSession, seen: Seen, service: Service
) -> None:
    async def ask(correlation_id: str) -> bool:
        before = otel_context.get_current()
        with LogContext(correlation_id):
            async with session.get(f"{service.url}/hang?{correlation_id}") as response:
                await response.read()
        return otel_context.get_current() is before

    async def both() -> None:
        while len(service.asked) < 2:
            await asyncio.to_thread(service.is_asked.wait, DEADLINE)
        service.release.set()

    assert await asyncio.wait_for(asyncio.gather(ask("a"), ask("b"), both()), DEADLINE) == [True, True, None]
    spans = {str((span.attributes or {})["url.full"]): span for span in seen.spans}
    assert {asked.path[-1] for asked in service.asked} == {"a", "b"}
    for asked in service.asked:
        assert asked.headers["x-correlation-id"] == asked.path[-1]
        assert asked.headers["traceparent"] == traceparent(spans[service.url + asked.path].context)


async def test_a_request_made_for_a_request_has_its_correlation_id_and_its_trace(
    session: aiohttp.ClientSession, seen: Seen, service: Service
) -> None:
    async def call() -> None:
        async with session.get(f"{service.url}/status/200") as response:
            await response.read()

    await expect_context_of_a_request(seen, service, call)


@pytest.fixture
def contrib(seen: Seen) -> Iterator[None]:
    instrumentor = AioHttpClientInstrumentor()
    instrumentor.instrument(tracer_provider=seen.provider)
    yield
    instrumentor.uninstrument()


async def check_that_the_span_is_contribs(session: aiohttp.ClientSession, seen: Seen, service: Service) -> None:
    before = otel_context.get_current()
    with LogContext("c-1"):
        async with session, session.get(f"{service.url}/status/200") as response:
            await response.read()

    assert seen.span.instrumentation_scope is not None
    assert seen.span.instrumentation_scope.name == "opentelemetry.instrumentation.aiohttp_client"
    assert service.headers["traceparent"] == traceparent(seen.span.context)
    assert service.headers["x-correlation-id"] == "c-1"
    assert [status for _, _, status in seen.counts] == ["200"]
    assert otel_context.get_current() is before


@pytest.mark.usefixtures("contrib")
async def test_there_is_no_second_span_where_contrib_makes_one(seen: Seen, service: Service) -> None:
    await check_that_the_span_is_contribs(session_with(**seen.options), seen, service)


@pytest.mark.parametrize("ours_first", [True, False])
async def test_there_is_no_second_span_beside_contribs_own_trace_config(
    seen: Seen, service: Service, ours_first: bool
) -> None:
    configs = [trace_config(**seen.options), create_trace_config(tracer_provider=seen.provider)]
    session = aiohttp.ClientSession(trace_configs=configs if ours_first else configs[::-1])

    await check_that_the_span_is_contribs(session, seen, service)


def test_a_wrong_option_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="propagate_to"):
        trace_config(propagate_to="api.example.com")


async def test_an_error_of_ours_does_not_reach_the_request(
    service: Service, reported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(session: aiohttp.ClientSession) -> None:
        raise LookupError

    monkeypatch.setattr(errors, "_last_logged", {})
    monkeypatch.setattr(aiohttp.ClientSession, "trace_configs", property(fail))
    async with session_with() as session, session.get(f"{service.url}/status/200") as response:
        assert await response.text() == "ok"

    assert reported[0] == "_Hooks.started"


def test_without_aiohttp_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.delitem(sys.modules, trace_config.__module__)

    with pytest.raises(MissingExtraError, match=r"pip install 'asgi-obs\[aiohttp\]'"):
        importlib.import_module(trace_config.__module__)


async def test_without_contrib_there_is_a_span(
    session: aiohttp.ClientSession, seen: Seen, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, create_trace_config.__module__)
    async with session.get(f"{service.url}/status/200") as response:
        await response.read()

    assert len(seen.spans) == 1
