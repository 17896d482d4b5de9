"""Status, first byte, end, outcome and bytes of HTTP exchanges."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import pytest

from asgi_obs.exchange import ExchangeMiddleware, HttpExchange
from asgi_obs.testing import http_scope

OK = {"type": "http.response.start", "status": 200, "headers": []}
DONE = {"type": "http.response.body", "body": b""}
DISCONNECT = {"type": "http.disconnect"}
EVENT_STREAM = {**OK, "headers": [(b"content-type", b"text/event-stream; charset=utf-8")]}


def body(data, more=False):
    return {"type": "http.response.body", "body": data, "more_body": more}


def start(status, **more):
    return {"type": "http.response.start", "status": status, "headers": [], **more}


def sending(*messages, error=None):
    """An application that sends these messages, and then raises `error` if there is one."""

    async def app(scope, receive, send):
        for message in messages:
            await send(message)
        if error is not None:
            raise error

    return app


def reading(*messages, reads=1, error=None):
    """The same, after reading so many messages."""
    after = sending(*messages, error=error)

    async def app(scope, receive, send):
        for _ in range(reads):
            await receive()
        await after(scope, receive, send)

    return app


@pytest.fixture
def observe(server, recorder):
    """Serve one request by an application; return its exchange."""

    def run(app, scope=None, incoming=None, **options) -> HttpExchange:
        server(incoming, **options).run(ExchangeMiddleware(app, observers=[recorder]), scope or http_scope())
        assert len(recorder.ended) == 1
        assert recorder.at_end[0]["outcome"] == recorder.ended[0].outcome
        return recorder.ended[0]

    return run


# What the exchange knows of a request that goes well


def test_a_plain_response_is_completed_with_its_status_and_body_sizes(observe):
    incoming = [
        {"type": "http.request", "body": b"abc", "more_body": True},
        {"type": "http.request", "body": b"de", "more_body": False},
    ]

    exchange = observe(reading(start(201), body(b"1234567"), reads=2), http_scope("/a", "POST"), incoming)

    assert (exchange.outcome, exchange.status) == ("completed", 201)
    assert (exchange.bytes_in, exchange.bytes_out) == (5, 7)
    assert (exchange.method, exchange.path) == ("POST", "/a")


def test_a_body_that_the_application_does_not_read_is_not_counted(observe):
    assert observe(sending(OK, DONE), incoming=[{"type": "http.request", "body": b"abc"}]).bytes_in == 0


def test_a_request_message_without_a_body_counts_nothing(observe):
    assert observe(reading(OK, DONE), incoming=[{"type": "http.request"}]).bytes_in == 0


def test_bytes_are_counted_from_messages_and_not_from_content_length(observe):
    declared = {**OK, "headers": [(b"content-length", b"999")]}

    scope = http_scope(headers=[(b"content-length", b"888")])
    exchange = observe(reading(declared, body(b"abc")), scope, [{"type": "http.request", "body": b"xy"}])

    assert (exchange.bytes_in, exchange.bytes_out) == (2, 3)


def test_every_chunk_of_a_stream_counts(observe):
    exchange = observe(sending(OK, body(b"ab", more=True), body(b"", more=True), body(b"cde", more=True), DONE))

    assert (exchange.outcome, exchange.bytes_out) == ("completed", 5)


def test_a_body_message_without_a_body_ends_the_response(observe):
    exchange = observe(sending(OK, {"type": "http.response.body"}))

    assert (exchange.outcome, exchange.bytes_out) == ("completed", 0)


@pytest.mark.parametrize("status", [204, 304])
def test_a_response_without_content_is_completed(observe, status):
    exchange = observe(sending(start(status), DONE))

    assert (exchange.outcome, exchange.status, exchange.bytes_out) == ("completed", status, 0)


def test_the_body_of_a_head_response_is_not_counted(observe):
    exchange = observe(sending(OK, body(b"never sent")), http_scope(method="HEAD"))

    assert (exchange.outcome, exchange.bytes_out) == ("completed", 0)


def test_an_informational_response_is_not_the_response(observe, clock):
    async def app(scope, receive, send):
        await send(start(103))
        clock.now += 1
        await send(start(200))
        await send(DONE)

    exchange = observe(app)

    assert (exchange.status, exchange.time_to_first_byte) == (200, 1.0)


def test_switching_protocols_is_a_final_status(observe):
    assert observe(sending(start(101), DONE)).status == 101


# The clock


def test_the_first_byte_is_when_the_start_was_handed_to_the_server(observe, clock):
    async def app(scope, receive, send):
        clock.now += 2
        await send(OK)
        await send(DONE)

    async def slow(message):
        clock.now += 10

    assert observe(app, on_send=slow).time_to_first_byte == 2.0


def test_the_end_is_when_the_server_accepted_the_last_message(observe, clock):
    async def app(scope, receive, send):
        await send(OK)
        clock.now += 3
        await send(body(b"x", more=True))
        await send(DONE)

    async def slow(message):
        clock.now += 10

    assert observe(app, on_send=slow).duration == 33.0


def test_background_work_is_not_part_of_the_duration(observe, clock):
    async def app(scope, receive, send):
        clock.now += 1
        await send(OK)
        await send(DONE)
        clock.now += 60

    exchange = observe(app)

    assert exchange.duration == 1.0
    assert exchange.returned_at - exchange.started_at == 61.0


def test_a_response_that_never_finishes_ends_when_the_application_returns(observe, clock):
    async def app(scope, receive, send):
        await send(OK)
        clock.now += 5

    assert observe(app).duration == 5.0


def test_without_a_response_there_is_no_first_byte(observe):
    exchange = observe(sending())

    assert exchange.first_byte_at is None
    assert exchange.time_to_first_byte is None


# When ends run


def test_the_end_runs_before_background_work(observe, recorder):
    async def app(scope, receive, send):
        await send(OK)
        await send(DONE)
        recorder.events.append("background")

    observe(app)

    assert recorder.events == ["start", "response_start", "end", "background", "return", "undo"]


def test_the_end_of_a_5xx_waits_for_the_exception_behind_it(observe, recorder):
    error = ValueError("behind the response")

    exchange = observe(sending(start(500), DONE, error=error))

    assert recorder.at_end[0]["exception"] is error
    assert recorder.at_return[0]["late_exception"] is None
    assert (exchange.outcome, exchange.status) == ("error", 500)


def test_a_5xx_that_waits_has_the_duration_of_its_response(observe, clock):
    async def app(scope, receive, send):
        clock.now += 1
        await send(start(503))
        await send(DONE)
        clock.now += 60

    exchange = observe(app)

    assert (exchange.outcome, exchange.status, exchange.duration) == ("completed", 503, 1.0)


def test_an_error_in_background_work_is_not_the_requests(observe, recorder):
    error = ValueError("in the background")

    exchange = observe(sending(OK, DONE, error=error))

    assert (exchange.outcome, exchange.status) == ("completed", 200)
    assert (recorder.at_end[0]["exception"], recorder.at_end[0]["late_exception"]) == (None, None)
    assert recorder.at_return[0]["late_exception"] is error


def test_a_client_that_leaves_during_background_work_is_no_late_error(observe, recorder):
    class ClientDisconnect(Exception): ...

    observe(sending(OK, DONE, error=ClientDisconnect()))

    assert recorder.at_return[0]["late_exception"] is None


def test_a_server_that_stops_during_background_work_is_no_late_error(observe, recorder):
    assert observe(sending(OK, DONE, error=asyncio.CancelledError())).outcome == "completed"
    assert recorder.at_return[0]["late_exception"] is None


# Applications that fail


def test_an_application_that_raises_before_the_response_is_a_500(observe, recorder):
    error = ValueError("x")

    exchange = observe(sending(error=error))

    assert (exchange.outcome, exchange.status) == ("error", 500)
    assert recorder.at_end[0]["exception"] is error


def test_an_application_that_raises_after_the_response_started_keeps_the_status_it_sent(observe):
    exchange = observe(sending(OK, body(b"ab", more=True), error=ValueError("x")))

    assert (exchange.outcome, exchange.status, exchange.bytes_out) == ("error", 200, 2)


def test_an_application_that_returns_without_a_response_is_a_500(observe):
    exchange = observe(sending())

    assert (exchange.outcome, exchange.status) == ("incomplete", 500)


def test_a_response_that_is_not_finished_is_incomplete(observe):
    exchange = observe(sending(start(206), body(b"ab", more=True)))

    assert (exchange.outcome, exchange.status) == ("incomplete", 206)


def test_a_last_message_that_the_server_refuses_does_not_complete_the_response(observe, recorder):
    error = RuntimeError("Response content shorter than Content-Length")

    exchange = observe(sending(OK, DONE), refuse=lambda m: error if m is DONE else None)

    assert exchange.outcome == "error"
    assert recorder.at_end[0]["exception"] is error


def test_a_start_that_the_server_refuses_is_not_the_status(observe):
    error = RuntimeError("Invalid HTTP header value.")

    exchange = observe(sending(start(201), DONE), refuse=lambda _: error)

    assert (exchange.outcome, exchange.status, exchange.first_byte_at) == ("error", 500, None)


# Clients that leave


def test_a_client_that_leaves_before_the_response_is_a_499(observe):
    exchange = observe(reading(), incoming=[DISCONNECT])

    assert (exchange.outcome, exchange.status) == ("client_disconnected", 499)


def test_a_response_to_a_client_that_left_before_it_started_is_a_499(observe):
    exchange = observe(reading(OK, DONE), incoming=[DISCONNECT])

    assert (exchange.outcome, exchange.status) == ("client_disconnected", 499)


def test_a_client_that_leaves_in_mid_stream_keeps_the_status_that_was_sent(observe):
    async def app(scope, receive, send):
        await send(OK)
        await send(body(b"abc", more=True))
        await receive()

    exchange = observe(app, incoming=[DISCONNECT])

    assert (exchange.outcome, exchange.status, exchange.bytes_out) == ("client_disconnected", 200, 3)


def test_a_client_that_leaves_after_the_response_changes_nothing(observe):
    async def app(scope, receive, send):
        await send(OK)
        await send(DONE)
        await receive()

    assert observe(app, incoming=[DISCONNECT]).outcome == "completed"


def test_a_client_that_leaves_after_a_5xx_changes_nothing(observe):
    async def app(scope, receive, send):
        await send(start(500))
        await send(DONE)
        await receive()

    exchange = observe(app, incoming=[DISCONNECT])

    assert (exchange.outcome, exchange.status) == ("completed", 500)


def test_an_os_error_after_the_response_changes_nothing(observe):
    late = body(b"late")

    async def app(scope, receive, send):
        await send(start(500))
        await send(DONE)
        with pytest.raises(OSError, match="gone"):
            await send(late)

    exchange = observe(app, refuse=lambda m: OSError("gone") if m is late else None)

    assert (exchange.outcome, exchange.status) == ("completed", 500)


def test_the_disconnect_that_the_last_message_sets_off_is_not_a_client_that_left(observe):
    """As uvicorn does: `receive` says `http.disconnect` as soon as the response is complete."""
    received = []

    async def app(scope, receive, send):
        await send(OK)
        received.append(asyncio.create_task(receive()))
        await send(DONE)

    async def listen(message):
        if message is DONE:
            await received[0]

    assert observe(app, incoming=[DISCONNECT], on_send=listen).outcome == "completed"


@pytest.mark.parametrize("last", [body(b"abc", more=True), DONE], ids=["in the middle", "at the end"])
def test_an_os_error_out_of_send_is_a_client_that_left(observe, last):
    error = OSError("gone")

    exchange = observe(sending(OK, last), refuse=lambda m: error if m is last else None)

    assert (exchange.outcome, exchange.status, exchange.bytes_out) == ("client_disconnected", 200, 0)


def test_an_os_error_out_of_the_start_is_a_499(observe):
    exchange = observe(sending(OK), refuse=lambda _: BrokenPipeError())

    assert (exchange.outcome, exchange.status) == ("client_disconnected", 499)


def test_an_os_error_that_the_application_handles_is_a_client_that_left(observe):
    async def app(scope, receive, send):
        await send(OK)
        with pytest.raises(OSError, match="gone"):
            await send(DONE)

    exchange = observe(app, refuse=lambda m: OSError("gone") if m is DONE else None)

    assert exchange.outcome == "client_disconnected"


def test_an_os_error_of_the_application_itself_is_an_error(observe):
    assert observe(sending(error=ConnectionRefusedError("database"))).outcome == "error"


def test_an_error_that_has_nothing_to_do_with_the_client_that_left_is_an_error(observe):
    exchange = observe(reading(error=ValueError("x")), incoming=[DISCONNECT])

    assert (exchange.outcome, exchange.status) == ("error", 500)


def test_a_cancellation_after_the_client_left_is_the_clients(observe):
    exchange = observe(reading(error=asyncio.CancelledError()), incoming=[DISCONNECT])

    assert (exchange.outcome, exchange.status) == ("client_disconnected", 499)


# Servers that stop


def cancel_a_request(server, recorder, app):
    async def main():
        started = asyncio.Event()

        async def waiting(scope, receive, send):
            await app(scope, receive, send)
            started.set()
            await receive()

        served = server([])
        task = asyncio.create_task(served.serve(ExchangeMiddleware(waiting, observers=[recorder]), http_scope()))
        await started.wait()
        task.cancel()
        await task
        return served.error

    return asyncio.run(main())


def test_a_request_that_the_server_cancels_is_a_503(server, recorder):
    error = cancel_a_request(server, recorder, sending())

    assert isinstance(error, asyncio.CancelledError)
    assert (recorder.ended[0].outcome, recorder.ended[0].status) == ("cancelled", 503)
    assert recorder.at_end[0]["exception"] is error


def test_a_stream_that_the_server_cancels_keeps_its_status(server, recorder):
    cancel_a_request(server, recorder, sending(OK, body(b"x", more=True)))

    assert (recorder.ended[0].outcome, recorder.ended[0].status) == ("cancelled", 200)


# Event streams


def test_the_start_and_every_chunk_of_an_event_stream_are_shown(observe, recorder):
    chunks = [body(b"data: 1\n\n", more=True), body(b"data: 2\n\n", more=True), DONE]

    exchange = observe(sending(EVENT_STREAM, *chunks))

    assert exchange.event_stream is True
    assert recorder.messages == [EVENT_STREAM, *chunks]


def test_the_chunks_of_other_streams_are_not_shown(observe, recorder):
    exchange = observe(sending(OK, body(b"x", more=True), DONE))

    assert exchange.event_stream is False
    assert recorder.messages == []


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"content-type", b"text/event-stream")], True),
        ([[b"Content-Type", b"text/event-stream"]], True),
        ([(b"content-type", b"Text/Event-Stream")], True),
        ([(b"cache-control", b"no-store"), (b"content-type", b"text/event-stream; charset=utf-8")], True),
        ([(b"content-type", b"text/plain")], False),
        ([(b"content-type2", b"text/event-stream")], False),
        ([(b"x-content-typ", b"text/event-stream"), (b"x-contenttyp", b"text/event-stream")], False),
        ([], False),
    ],
)
def test_an_event_stream_is_told_by_its_content_type(observe, headers, expected):
    assert observe(sending({**OK, "headers": headers}, DONE)).event_stream is expected


def test_a_start_without_headers_is_no_event_stream(observe):
    exchange = observe(sending({"type": "http.response.start", "status": 200}, DONE))

    assert (exchange.status, exchange.event_stream) == (200, False)


# Extensions


def test_a_file_sent_by_path_counts_with_its_size_and_ends_the_response(observe, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 321)

    exchange = observe(sending(OK, {"type": "http.response.pathsend", "path": str(path)}))

    assert (exchange.outcome, exchange.bytes_out) == ("completed", 321)


def test_a_file_sent_by_path_to_a_head_request_counts_nothing(observe, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")

    exchange = observe(sending(OK, {"type": "http.response.pathsend", "path": str(path)}), http_scope(method="HEAD"))

    assert (exchange.outcome, exchange.bytes_out) == ("completed", 0)


def test_a_file_that_cannot_be_measured_is_reported_and_ends_the_response(observe, reports, tmp_path):
    exchange = observe(sending(OK, {"type": "http.response.pathsend", "path": str(tmp_path / "gone")}))

    assert (exchange.outcome, exchange.bytes_out) == ("completed", 0)
    assert reports == ["HttpExchange.send"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"count": 10}, 10),
        ({"count": 0}, 0),
        ({"offset": 30, "count": 10}, 10),
        ({"offset": 30}, 70),
        ({"offset": None, "count": None}, 100),
        ({}, 100),
    ],
)
def test_a_file_sent_by_descriptor_counts_what_is_sent_of_it(observe, options, expected):
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 100)
        file.seek(0)
        message = {"type": "http.response.zerocopysend", "file": file, **options}
        exchange = observe(sending(OK, {**message, "more_body": True}, DONE))

    assert (exchange.outcome, exchange.bytes_out) == ("completed", expected)


def test_a_file_sent_without_an_offset_counts_from_its_current_position(observe):
    """ASGI: without an offset the file "will be read from the current position"."""

    async def copy_the_file(message):
        if message["type"] == "http.response.zerocopysend":
            message["file"].read()

    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(b"x" * 100)
        os.lseek(file.fileno(), 40, os.SEEK_SET)
        message = {"type": "http.response.zerocopysend", "file": file}
        exchange = observe(sending(OK, message), on_send=copy_the_file)

    assert (exchange.outcome, exchange.bytes_out) == ("completed", 60)


def test_a_response_with_trailers_ends_with_the_last_of_them(observe, clock):
    async def app(scope, receive, send):
        await send(start(200, trailers=True))
        await send(body(b"abc"))
        clock.now += 1
        await send({"type": "http.response.trailers", "headers": [(b"a", b"b")], "more_trailers": True})
        clock.now += 1
        await send({"type": "http.response.trailers", "headers": []})
        clock.now += 1

    exchange = observe(app)

    assert (exchange.outcome, exchange.duration, exchange.bytes_out) == ("completed", 2.0, 3)


def test_a_response_whose_trailers_are_missing_is_incomplete(observe):
    assert observe(sending(start(200, trailers=True), DONE)).outcome == "incomplete"


@pytest.mark.parametrize(
    "extra",
    [
        {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]},
        {"type": "http.response.push", "path": "/a.css", "headers": []},
        {"type": "http.response.debug", "info": {"template": "a.html"}},
        {"type": "http.response.of_tomorrow", "body": b"12345", "more_body": False},
    ],
    ids=lambda message: message["type"],
)
def test_messages_of_extensions_pass_through_and_count_for_nothing(server, recorder, extra):
    messages = [extra, OK, extra, body(b"ab", more=True), extra, DONE]

    served = server().run(ExchangeMiddleware(sending(*messages), observers=[recorder]), http_scope())

    assert served.sent == messages
    assert all(got is extra for got in served.sent[::2][:2])
    assert (recorder.ended[0].outcome, recorder.ended[0].bytes_out) == ("completed", 2)


@pytest.fixture
def one_of_each(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    return [
        start(200, trailers=True),
        body(b"a", more=True),
        {"type": "http.response.pathsend", "path": str(path)},
        {"type": "http.response.trailers", "headers": []},
    ]


def test_every_message_is_the_applications_own(server, one_of_each):
    served = server().run(ExchangeMiddleware(sending(*one_of_each)), http_scope())

    assert [a is b for a, b in zip(served.sent, one_of_each, strict=True)] == [True] * 4


def test_only_the_start_is_copied_for_observers_that_may_change_it(server, recorder, one_of_each):
    served = server().run(ExchangeMiddleware(sending(*one_of_each), observers=[recorder]), http_scope())

    assert served.sent == one_of_each
    assert [a is b for a, b in zip(served.sent, one_of_each, strict=True)] == [False, True, True, True]


def test_received_messages_are_the_servers_own():
    message = {"type": "http.request", "body": b"", "more_body": False}
    got = []

    async def app(scope, receive, send):
        got.append(await receive())

    async def receive():
        return message

    asyncio.run(ExchangeMiddleware(app)(http_scope(), receive, None))

    assert got[0] is message


# What does not belong


def test_messages_after_the_end_count_for_nothing(observe):
    exchange = observe(sending(OK, body(b"abc"), body(b"late"), start(500)))

    assert (exchange.outcome, exchange.status, exchange.bytes_out) == ("completed", 200, 3)


def test_a_body_before_the_start_counts_for_nothing(observe):
    exchange = observe(sending(DONE, body(b"abc")))

    assert (exchange.outcome, exchange.status, exchange.bytes_out) == ("incomplete", 500, 0)


def test_a_second_start_does_not_change_the_status(observe):
    assert observe(sending(OK, start(404), DONE)).status == 200


@pytest.mark.parametrize("message", [None, 5, "text", [], {}, {"type": []}, {"type": None}, object()])
def test_a_malformed_message_reaches_the_server_as_it_is(server, message):
    served = server().run(ExchangeMiddleware(sending(message, OK, DONE)), http_scope())

    assert served.error is None
    assert served.sent[0] is message


@pytest.mark.parametrize("status", [None, "two hundred", []])
def test_a_malformed_status_is_reported_and_reaches_the_server(observe, reports, recorder, status):
    exchange = observe(sending(start(status), DONE))

    assert "HttpExchange.send" in reports
    assert (exchange.outcome, exchange.status) == ("incomplete", 500)


def test_a_malformed_body_is_reported(observe, reports):
    assert observe(sending(OK, body(None))).outcome == "completed"
    assert reports == ["HttpExchange.send"]


@pytest.mark.parametrize("message", [None, {}, {"type": "http.request", "body": 5}])
def test_a_malformed_request_message_is_reported_and_reaches_the_application(server, reports, message):
    got = []

    async def app(scope, receive, send):
        got.append(await receive())

    server([message]).run(ExchangeMiddleware(app), http_scope())

    assert got == [message]
    assert reports == ["HttpExchange.receive"]


def test_unknown_request_messages_change_nothing(observe):
    exchange = observe(reading(OK, DONE), incoming=[{"type": "http.of_tomorrow"}])

    assert (exchange.outcome, exchange.bytes_in) == ("completed", 0)


def test_a_header_iterator_is_left_for_the_server_to_read(server, recorder):
    """ASGI says `Iterable`: a server, or a middleware outside, that reads it with the first body must find it whole."""
    pairs = [(b"content-type", b"text/plain"), (b"a", b"b")]
    app = ExchangeMiddleware(sending({**OK, "headers": iter(pairs)}, DONE), observers=[recorder])

    served = server().run(app, http_scope())

    assert list(served.sent[0]["headers"]) == pairs


def test_a_message_that_is_sent_while_the_last_one_is_on_its_way_does_not_end_the_response(server, recorder, clock):
    hint = {"type": "http.response.push", "path": "/a", "headers": []}
    hinted = asyncio.Event()

    async def app(scope, receive, send):
        await send(OK)
        last = asyncio.create_task(send(body(b"abc")))
        await asyncio.sleep(0)
        await send(hint)
        clock.now += 1
        hinted.set()
        await last

    async def wait_for_the_hint(message):
        if message["type"] == "http.response.body":
            await hinted.wait()

    server(on_send=wait_for_the_hint).run(ExchangeMiddleware(app, observers=[recorder]), http_scope())

    assert (recorder.ended[0].bytes_out, recorder.ended[0].duration) == (3, 1.0)


def test_a_message_that_is_refused_because_of_the_last_one_does_not_undo_it(server, recorder):
    refused = asyncio.Event()
    late = body(b"late")

    async def app(scope, receive, send):
        await send(OK)
        last = asyncio.create_task(send(DONE))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError):
            await send(late)
        refused.set()
        await last

    async def hold_the_last(message):
        if message is DONE:
            await refused.wait()

    served = server(on_send=hold_the_last, refuse=lambda m: RuntimeError() if m is late else None)
    served.run(ExchangeMiddleware(app, observers=[recorder]), http_scope())

    assert recorder.ended[0].outcome == "completed"


def test_a_relative_path_can_be_sent(observe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_bytes(b"12")

    assert observe(sending(OK, {"type": "http.response.pathsend", "path": "file"})).bytes_out == 2


def test_more_body_of_none_is_none_at_all(observe):
    exchange = observe(sending(OK, {"type": "http.response.body", "body": b"123", "more_body": None}))

    assert (exchange.outcome, exchange.bytes_out) == ("completed", 3)
