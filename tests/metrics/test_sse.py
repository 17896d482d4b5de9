import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from asgi_obs.exchange import current_exchange
from asgi_obs.metrics import MetricsMiddleware
from asgi_obs.metrics.sse import MAX_LINE, EventParser
from asgi_obs.testing import drive, http_scope
from asgi_obs.types import ASGIApp, Message, Receive, Scope, Send

Samples = Callable[..., dict[str, float]]

START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream; charset=utf-8")],
}


def types_of(*chunks: bytes) -> list[str]:
    parser = EventParser()
    return [event_type for chunk in chunks for event_type in parser.feed(chunk)]


def streams(registry: CollectorRegistry, *chunks: bytes) -> ASGIApp:
    async def stream(request: Request) -> Response:
        return StreamingResponse(iter(chunks), media_type="text/event-stream")

    return MetricsMiddleware(Starlette(routes=[Route("/topics/{topic}", stream)]), registry=registry)


def test_an_event_without_a_type_is_a_message() -> None:
    assert types_of(b"data: hello\n\n") == ["message"]


def test_the_event_field_names_the_type() -> None:
    assert types_of(b"event: added\ndata: 1\n\nevent:removed\nid: 7\ndata: 2\n\ndata: 3\n\n") == [
        "added",
        "removed",
        "message",
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_lines_end_in_each_of_the_three_ways(end: bytes) -> None:
    assert types_of(end.join([b"event: added", b"data: 1", b"", b"data: 2", b"", b""])) == ["added", "message"]


def test_comments_are_no_events() -> None:
    assert types_of(b": ping\n\n", b":\n\n", b": ping\ndata: 1\n\n") == ["message"]


def test_what_has_no_data_is_no_event() -> None:
    assert types_of(b"event: ping\n\n", b"id: 1\n\n", b"retry: 100\n\n", b"\n\n\n") == []


def test_a_type_without_data_does_not_stick_to_the_next_event() -> None:
    assert types_of(b"event: ping\n\ndata: 1\n\n") == ["message"]


def test_several_lines_of_data_are_one_event() -> None:
    assert types_of(b"data: a\ndata: b\ndata\n\n") == ["message"]


def test_empty_data_is_data() -> None:
    assert types_of(b"data\n\ndata:\n\n") == ["message", "message"]


def test_of_several_types_the_last_counts() -> None:
    assert types_of(b"event: a\nevent: b\ndata: 1\n\nevent: a\nevent:\ndata: 1\n\n") == ["b", "message"]


def test_an_event_that_is_not_finished_does_not_count() -> None:
    assert types_of(b"data: 1\n") == []


def test_a_byte_order_mark_at_the_start_is_skipped() -> None:
    assert types_of(b"\xef\xbb\xbfdata: 1\n\n\xef\xbb\xbfdata: 2\n\n") == ["message"]


@pytest.mark.parametrize("name", [b"a b", b"\xff", b"x" * 65, b"x" * 100_000, b"-a", b'"', b"  a"], ids=len)
def test_a_type_that_cannot_be_a_label_is_grouped(name: bytes) -> None:
    assert types_of(b"event: " + name + b"\ndata: 1\n\n") == ["__other__"]


def test_the_longest_type_is_kept_whole() -> None:
    assert types_of(b"event: " + b"x" * 64 + b"\ndata: 1\n\n") == ["x" * 64]


def test_a_field_whose_name_only_begins_like_another_is_ignored() -> None:
    assert types_of(b"database: 1\n\nevents: a\ndata: 1\n\n Data: 1\n\n") == ["message"]


events = st.lists(
    st.sampled_from(
        [b"data: 1", b"event: a", b"event: b", b"", b"", b": c", b"id: 9", b"data: " + b"x" * 200, b"\xef\xbb\xbf"]
    )
)


@given(lines=events, ends=st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=1), data=st.data())
def test_where_the_chunks_are_cut_makes_no_difference(lines: list[bytes], ends: list[bytes], data: Any) -> None:
    body = b"".join(line + ends[number % len(ends)] for number, line in enumerate(lines))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)))))
    chunks = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert types_of(*chunks) == types_of(body)


hostile = st.sampled_from([b"event:", b"data", b":", b"\r", b"\n", b"\n\n", b"\x00", b"\xef\xbb\xbf", b"a"])


@given(st.lists(st.binary(max_size=300) | hostile | hostile.map(lambda part: part * 1_000), max_size=20))
@example([b"event:" + b"a" * 64, b"\r", b"\ndata", b"\r", b"\r"])
def test_no_bytes_break_or_grow_the_parser(chunks: list[bytes]) -> None:
    parser = EventParser()
    for chunk in chunks:
        for event_type in parser.feed(chunk):
            assert 0 < len(event_type) <= 64
            assert event_type.isascii()
    assert len(parser._line) <= MAX_LINE


def test_an_endless_line_does_not_grow_the_parser() -> None:
    parser = EventParser()
    for _ in range(1_000):
        parser.feed(b"x" * 10_000)
    assert sys.getsizeof(parser._line) < 200


def test_events_are_counted_by_type(registry: CollectorRegistry, samples: Samples) -> None:
    app = streams(registry, b"event: added\nda", b"ta: 1\n\n: ping\n\n", b"data: 2\n\ndata: 3\n", b"\n")
    asyncio.run(drive(app, http_scope("/topics/a")))
    assert samples("sse_events") == {
        'sse_events_sent_total{event_type="added"}': 1.0,
        'sse_events_sent_total{event_type="message"}': 2.0,
    }


def test_a_stream_is_counted_by_route_and_outcome(registry: CollectorRegistry, samples: Samples) -> None:
    app = streams(registry, b"data: 1\n\n")
    asyncio.run(drive(app, http_scope("/topics/a")))
    asyncio.run(drive(app, http_scope("/topics/b")))
    assert samples("sse_connection_duration_seconds_count", "sse_connections") == {
        'sse_connection_duration_seconds_count{endpoint="/topics/{topic}",outcome="completed"}': 2.0,
        "sse_connections_active": 0.0,
    }


def test_a_stream_and_its_events_show_while_it_is_open(registry: CollectorRegistry, samples: Samples) -> None:
    seen: list[dict[str, float]] = []

    def look() -> None:
        seen.append(samples("sse_events", "sse_connections"))

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        look()
        await send(START)
        look()
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        look()
        await send({"type": "http.response.body"})

    asyncio.run(drive(MetricsMiddleware(stream, registry=registry), http_scope("/")))
    look()
    event = 'sse_events_sent_total{event_type="message"}'
    assert seen == [
        {"sse_connections_active": 0.0},
        {"sse_connections_active": 1.0},
        {"sse_connections_active": 1.0, event: 1.0},
        {"sse_connections_active": 0.0, event: 1.0},
    ]


def test_a_client_that_leaves_ends_the_stream(registry: CollectorRegistry, samples: Samples) -> None:
    async def main() -> None:
        chunks = 0

        async def send(message: Message) -> None:
            nonlocal chunks
            chunks += message["type"] == "http.response.body"
            if chunks == 2:
                raise OSError("client gone")

        async def receive() -> Message:
            raise AssertionError  # pragma: no cover - this application reads nothing

        async def stream(scope: Scope, receive: Receive, send: Send) -> None:
            await send(START)
            while True:
                await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})

        await MetricsMiddleware(stream, registry=registry)(http_scope("/"), receive, send)

    with pytest.raises(OSError, match="client gone"):
        asyncio.run(main())
    assert samples("sse_") == {
        "sse_connections_active": 0.0,
        'sse_events_sent_total{event_type="message"}': 1.0,
        'sse_connection_duration_seconds_count{endpoint="__unmatched__",outcome="client_disconnected"}': 1.0,
        'sse_connection_duration_seconds_sum{endpoint="__unmatched__",outcome="client_disconnected"}': pytest.approx(
            0, abs=60
        ),
    }


def test_a_head_request_opens_no_stream(registry: CollectorRegistry, samples: Samples) -> None:
    asyncio.run(drive(streams(registry, b"data: 1\n\n"), http_scope("/topics/a", "HEAD")))
    assert samples("sse_") == {"sse_connections_active": 0.0}


def test_a_start_that_comes_twice_opens_one_stream(registry: CollectorRegistry, samples: Samples) -> None:
    async def twice(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(START)
        await send({"type": "http.response.body"})

    asyncio.run(drive(MetricsMiddleware(twice, registry=registry), http_scope("/")))
    assert samples("sse_connections_active") == {"sse_connections_active": 0.0}


def test_hostile_event_types_make_no_more_series_than_the_cap(registry: CollectorRegistry, samples: Samples) -> None:
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for number in range(500):
            body = b"event: e%d\ndata: 1\n\n" % number
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body"})

    asyncio.run(drive(MetricsMiddleware(stream, registry=registry, max_series=20), http_scope("/")))
    counted = samples("sse_events")
    assert len(counted) <= 20
    assert sum(counted.values()) == 500.0


def test_interleaved_streams_do_not_mix(registry: CollectorRegistry, samples: Samples) -> None:
    async def main() -> None:
        first_waits, second_is_done = asyncio.Event(), asyncio.Event()

        async def first() -> AsyncIterator[bytes]:
            yield b"event: first\nda"
            first_waits.set()
            await second_is_done.wait()
            yield b"ta: 1\n\n"

        def second() -> Iterator[bytes]:
            yield b"ta: 1\n\nevent: second\ndata: 2\n\n"

        async def stream(request: Request) -> Response:
            content = first() if request.url.path == "/first" else second()
            return StreamingResponse(content, media_type="text/event-stream")

        routes = [Route("/first", stream), Route("/second", stream)]
        app = MetricsMiddleware(Starlette(routes=routes), registry=registry)
        task = asyncio.create_task(drive(app, http_scope("/first")))
        await first_waits.wait()
        await drive(app, http_scope("/second"))
        assert samples("sse_connections") == {"sse_connections_active": 1.0}
        second_is_done.set()
        await task

    asyncio.run(main())
    assert samples("sse_events", "sse_connections") == {
        'sse_events_sent_total{event_type="first"}': 1.0,
        'sse_events_sent_total{event_type="second"}': 1.0,
        "sse_connections_active": 0.0,
    }


def test_an_operational_stream_is_not_counted(registry: CollectorRegistry, samples: Samples) -> None:
    async def ops(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = current_exchange()
        assert exchange is not None
        exchange.operational = True
        await send(START)
        await send({"type": "http.response.body", "body": b"data: 1\n\n"})

    asyncio.run(drive(MetricsMiddleware(ops, registry=registry), http_scope("/")))
    assert samples("sse_") == {"sse_connections_active": 0.0}
