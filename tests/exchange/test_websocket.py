"""Handshake, messages and close of WebSocket exchanges."""

from __future__ import annotations

import asyncio

import pytest

from asgi_obs.exchange import ExchangeMiddleware, WebSocketExchange
from asgi_obs.testing import websocket_scope

CONNECT = {"type": "websocket.connect"}
ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close", "code": 1000}
RECEIVE = object()
DENIAL = {"type": "websocket.http.response.start", "status": 401, "headers": []}


def text(data):
    return {"type": "websocket.send", "text": data}


def received(**data):
    return {"type": "websocket.receive", **data}


def left(code):
    return {"type": "websocket.disconnect", "code": code}


def session(*steps, error=None):
    """An application that sends every message of `steps`, and receives where it says RECEIVE."""

    async def app(scope, receive, send):
        await receive()
        for step in steps:
            if step is RECEIVE:
                await receive()
            else:
                await send(step)
        if error is not None:
            raise error

    return app


@pytest.fixture
def observe(server, recorder):
    """Serve one session by an application; return its exchange."""

    def run(app, *incoming, **options) -> WebSocketExchange:
        served = server([CONNECT, *incoming], **options)
        served.run(ExchangeMiddleware(app, observers=[recorder]), websocket_scope("/ws"))
        assert len(recorder.ended) == 1
        return recorder.ended[0]

    return run


def judged(exchange):
    return exchange.outcome, exchange.status, exchange.close_code


# Sessions that go well


def test_a_session_that_the_application_closes_has_its_code(observe):
    exchange = observe(session(ACCEPT, {"type": "websocket.close", "code": 3001}))

    assert judged(exchange) == ("completed", 101, "3001")
    assert exchange.accepted is True
    assert (exchange.method, exchange.path) == ("GET", "/ws")


def test_a_close_without_a_code_is_a_normal_close(observe):
    assert judged(observe(session(ACCEPT, {"type": "websocket.close"}))) == ("completed", 101, "1000")


@pytest.mark.parametrize("code", [1000, 1001, 4000])
def test_a_session_that_the_client_closes_has_its_code(observe, code):
    assert judged(observe(session(ACCEPT, RECEIVE), left(code))) == ("completed", 101, str(code))


def test_a_client_that_closes_without_a_code_is_a_1005(observe):
    assert judged(observe(session(ACCEPT, RECEIVE), {"type": "websocket.disconnect"})) == ("completed", 101, "1005")


def test_messages_and_bytes_are_counted_both_ways(observe):
    incoming = [received(text="héé€"), received(bytes=b"\xff\x00"), received(text="ascii", bytes=None)]
    outgoing = [text("🎈"), {"type": "websocket.send", "bytes": b"123", "text": None}]

    exchange = observe(session(ACCEPT, RECEIVE, RECEIVE, RECEIVE, *outgoing, CLOSE), *incoming)

    assert (exchange.messages_in, exchange.bytes_in) == (3, len("héé€".encode()) + 2 + 5)
    assert (exchange.messages_out, exchange.bytes_out) == (2, 4 + 3)


def test_text_that_is_no_valid_unicode_is_counted(observe, reports):
    exchange = observe(session(ACCEPT, RECEIVE, CLOSE), received(text="\ud800"))

    assert (exchange.messages_in, exchange.bytes_in, reports) == (1, 3, [])


def test_a_message_without_content_is_counted(observe, reports):
    exchange = observe(session(ACCEPT, RECEIVE, CLOSE), received(text=None, bytes=None))

    assert (exchange.messages_in, exchange.bytes_in, reports) == (1, 0, [])


def test_every_message_is_shown_to_observers(observe, recorder):
    observe(session(ACCEPT, RECEIVE, text("out"), CLOSE), received(text="in"))

    assert recorder.messages == [ACCEPT, received(text="in"), text("out")]
    assert recorder.events == ["start", "response_start", *["message"] * 3, "end", "return", "undo"]


def test_the_clock_of_a_session_runs_from_the_handshake_to_the_close(observe, clock):
    async def app(scope, receive, send):
        await receive()
        clock.now += 1
        await send(ACCEPT)
        clock.now += 30
        await send(CLOSE)
        clock.now += 60

    exchange = observe(app)

    assert (exchange.time_to_first_byte, exchange.duration) == (1.0, 31.0)


def test_the_end_of_a_session_is_when_the_client_closed(observe, clock, recorder):
    async def app(scope, receive, send):
        await receive()
        await send(ACCEPT)
        clock.now += 30
        await receive()
        assert recorder.events[-1] == "end"
        clock.now += 60

    exchange = observe(app, left(1000))

    assert exchange.duration == 30.0
    assert recorder.at_return[0]["late_exception"] is None


def test_a_client_that_closes_with_1011_is_not_waited_for(observe, recorder):
    async def app(scope, receive, send):
        await receive()
        await send(ACCEPT)
        await receive()
        assert recorder.events[-1] == "end"

    assert judged(observe(app, left(1011))) == ("completed", 101, "1011")


# Handshakes that are refused


def test_a_bare_close_denies_the_handshake(observe):
    exchange = observe(session(CLOSE))

    assert judged(exchange) == ("completed", 403, "denied")
    assert exchange.accepted is False


def test_a_denial_response_denies_with_its_status(observe):
    last = {"type": "websocket.http.response.body", "body": b"cd"}

    exchange = observe(session(DENIAL, {**last, "body": b"ab", "more_body": True}, last))

    assert judged(exchange) == ("completed", 401, "denied")
    assert exchange.bytes_out == 4


def test_a_denial_response_that_is_not_finished_is_incomplete(observe):
    assert judged(observe(session(DENIAL))) == ("incomplete", 401, "denied")


def test_a_denial_with_a_5xx_waits_for_the_exception_behind_it(observe, recorder):
    error = ValueError("behind the denial")
    steps = [{**DENIAL, "status": 500}, {"type": "websocket.http.response.body"}]

    exchange = observe(session(*steps, error=error))

    assert judged(exchange) == ("error", 500, "1011")
    assert recorder.at_end[0]["exception"] is error


# Clients that vanish


def test_a_vanished_client_is_a_1006(observe):
    assert judged(observe(session(ACCEPT, RECEIVE), left(1006))) == ("client_disconnected", 101, "1006")


@pytest.mark.parametrize("code", [1000, 1006])
def test_a_client_that_leaves_during_the_handshake_is_a_499(observe, code):
    assert judged(observe(session(RECEIVE), left(code))) == ("client_disconnected", 499, str(code))


@pytest.mark.parametrize("refused", [text("x"), CLOSE], ids=["message", "close"])
def test_an_os_error_out_of_send_is_a_client_that_vanished(observe, refused):
    exchange = observe(session(ACCEPT, refused), refuse=lambda m: OSError("gone") if m is refused else None)

    assert judged(exchange) == ("client_disconnected", 101, "1006")
    assert exchange.messages_out == 0


def test_an_os_error_out_of_the_accept_is_a_499(observe):
    exchange = observe(session(ACCEPT), refuse=lambda _: OSError("gone"))

    assert judged(exchange) == ("client_disconnected", 499, "1006")


def test_the_exception_that_tells_of_a_closed_session_is_no_late_error(observe, recorder):
    class WebSocketDisconnect(Exception): ...

    exchange = observe(session(ACCEPT, RECEIVE, error=WebSocketDisconnect()), left(1000))

    assert judged(exchange) == ("completed", 101, "1000")
    assert recorder.at_return[0]["late_exception"] is None


# Applications that fail


def test_an_application_that_raises_before_the_accept_is_a_1011(observe, recorder):
    error = ValueError("x")

    exchange = observe(session(error=error))

    assert judged(exchange) == ("error", 500, "1011")
    assert recorder.at_end[0]["exception"] is error


def test_an_application_that_raises_after_the_accept_is_a_1011(observe):
    assert judged(observe(session(ACCEPT, error=ValueError("x")))) == ("error", 101, "1011")


def test_a_close_with_1011_waits_for_the_exception_behind_it(observe, recorder):
    error = ValueError("behind the close")

    exchange = observe(session(ACCEPT, {"type": "websocket.close", "code": 1011}, error=error))

    assert judged(exchange) == ("error", 101, "1011")
    assert recorder.at_end[0]["exception"] is error


def test_an_application_that_returns_without_a_close_is_incomplete(observe):
    assert judged(observe(session(ACCEPT))) == ("incomplete", 101, "1006")


def test_an_application_that_returns_without_an_answer_is_incomplete(observe):
    assert judged(observe(session())) == ("incomplete", 500, "denied")


def test_a_session_that_the_server_cancels_is_going_away(observe):
    assert judged(observe(session(ACCEPT, error=asyncio.CancelledError()))) == ("cancelled", 101, "1001")


def test_a_handshake_that_the_server_cancels_is_a_503(observe):
    assert judged(observe(session(error=asyncio.CancelledError()))) == ("cancelled", 503, "1001")


def test_an_error_after_the_close_is_not_the_sessions(observe, recorder):
    error = ValueError("in the background")

    exchange = observe(session(ACCEPT, CLOSE, error=error))

    assert judged(exchange) == ("completed", 101, "1000")
    assert recorder.at_end[0]["exception"] is None
    assert recorder.at_return[0]["late_exception"] is error


# Two tasks on one session


def test_a_message_that_is_sent_while_the_close_is_on_its_way_does_not_end_the_session(server, recorder):
    accepted = asyncio.Event()

    async def app(scope, receive, send):
        await receive()
        await send(ACCEPT)
        close = asyncio.create_task(send(CLOSE))
        await asyncio.sleep(0)
        await send(text("last words"))
        accepted.set()
        await close

    async def hold_the_close(message):
        if message is CLOSE:
            await accepted.wait()

    served = server([CONNECT], on_send=hold_the_close)
    served.run(ExchangeMiddleware(app, observers=[recorder]), websocket_scope())

    assert [message["type"] for message in served.sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert judged(recorder.ended[0]) == ("completed", 101, "1000")
    assert recorder.ended[0].messages_out == 1


def test_a_message_that_is_refused_because_of_the_close_does_not_undo_it(server, recorder):
    refused = asyncio.Event()
    late = text("too late")

    async def app(scope, receive, send):
        await receive()
        await send(ACCEPT)
        close = asyncio.create_task(send(CLOSE))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError):
            await send(late)
        refused.set()
        await close

    async def hold_the_close(message):
        if message is CLOSE:
            await refused.wait()

    served = server([CONNECT], on_send=hold_the_close, refuse=lambda m: RuntimeError() if m is late else None)
    served.run(ExchangeMiddleware(app, observers=[recorder]), websocket_scope())

    assert judged(recorder.ended[0]) == ("completed", 101, "1000")


def test_the_disconnect_that_our_own_close_sets_off_changes_nothing(server, recorder):
    waiting = []

    async def app(scope, receive, send):
        await receive()
        await send(ACCEPT)
        waiting.append(asyncio.create_task(receive()))
        await send(CLOSE)

    async def answer(message):
        if message is CLOSE:
            await waiting[0]

    served = server([CONNECT, left(1006)], on_send=answer)
    served.run(ExchangeMiddleware(app, observers=[recorder]), websocket_scope())

    assert judged(recorder.ended[0]) == ("completed", 101, "1000")


# What does not belong


@pytest.mark.parametrize("message", [None, 5, [], {}, {"type": []}, {"type": "websocket.of_tomorrow"}])
def test_a_malformed_message_reaches_the_server_as_it_is(server, message):
    served = server([CONNECT]).run(ExchangeMiddleware(session(message, ACCEPT, CLOSE)), websocket_scope())

    assert served.error is None
    assert served.sent[0] is message


@pytest.mark.parametrize("message", [None, {}, received(text=5)])
def test_a_malformed_received_message_is_reported_and_reaches_the_application(server, reports, message):
    got = []

    async def app(scope, receive, send):
        got.append(await receive())

    server([message]).run(ExchangeMiddleware(app), websocket_scope())

    assert got == [message]
    assert reports == ["WebSocketExchange.receive"]


def test_a_malformed_sent_message_is_reported(observe, reports):
    exchange = observe(session(ACCEPT, text(5), CLOSE))

    assert judged(exchange) == ("completed", 101, "1000")
    assert reports == ["WebSocketExchange.send"]


def test_messages_after_the_end_count_for_nothing(observe):
    exchange = observe(session(ACCEPT, CLOSE, text("late"), {"type": "websocket.close", "code": 4000}))

    assert judged(exchange) == ("completed", 101, "1000")
    assert exchange.messages_out == 0


def test_a_denial_body_before_its_start_ends_nothing(observe):
    assert observe(session({"type": "websocket.http.response.body", "body": b""})).outcome == "incomplete"


def test_a_second_disconnect_changes_nothing(observe):
    exchange = observe(session(ACCEPT, RECEIVE, RECEIVE), left(1000), left(1006))

    assert judged(exchange) == ("completed", 101, "1000")


def test_messages_pass_through_as_the_very_objects_that_were_sent(server):
    messages = [ACCEPT, text("a"), CLOSE]

    served = server([CONNECT]).run(ExchangeMiddleware(session(*messages)), websocket_scope())

    assert served.sent == messages
    assert [a is b for a, b in zip(served.sent, messages, strict=True)][1:] == [True, True]


def test_a_close_by_the_application_with_a_code_of_none_is_a_normal_close(observe):
    assert judged(observe(session(ACCEPT, {"type": "websocket.close", "code": None}))) == ("completed", 101, "1000")


def test_a_close_by_the_client_with_a_code_of_none_is_a_1005(observe):
    assert judged(observe(session(ACCEPT, RECEIVE), left(None))) == ("completed", 101, "1005")
