"""Observers: which hooks are called, in which order, and what happens when they fail."""

from __future__ import annotations

import functools

import pytest

from asgi_obs import errors
from asgi_obs.exchange import ExchangeMiddleware
from asgi_obs.exchange.hooks import Hooks
from asgi_obs.testing import http_scope, websocket_scope
from asgi_obs.types import Observer

EVENT_STREAM = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream")],
}
DONE = {"type": "http.response.body", "body": b"data: 1\n\n"}


class Failing(Observer):
    """Every hook raises, also what the start hook returns."""

    def on_start(self, exchange):
        return self.undo

    def undo(self):
        raise ValueError("undo")

    def on_response_start(self, exchange, message):
        raise ValueError("on_response_start")

    def on_message(self, exchange, message):
        raise ValueError("on_message")

    def on_body(self, exchange, message):
        raise ValueError("on_body")

    def on_end(self, exchange):
        raise ValueError("on_end")

    def on_return(self, exchange):
        raise ValueError("on_return")


class FailingStart(Observer):
    def on_start(self, exchange):
        raise ValueError("on_start")


class Unnamed(Observer):
    """Hooks that are callables, but not functions: they have no `__qualname__`. This one takes no exchange."""

    on_start = on_response_start = on_message = on_body = on_end = on_return = staticmethod(
        functools.partial(int, "not a number")
    )


async def http_app(scope, receive, send):
    await receive()
    await send(EVENT_STREAM)
    await send(DONE)
    return "returned"


async def websocket_app(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "x"})
    await send({"type": "websocket.close"})
    return "returned"


REQUESTS = [
    pytest.param(http_app, http_scope, [{"type": "http.request"}], id="http"),
    pytest.param(websocket_app, websocket_scope, [{"type": "websocket.connect"}], id="websocket"),
]


@pytest.mark.parametrize(("app", "make_scope", "incoming"), REQUESTS)
@pytest.mark.parametrize(
    "failing", [Failing(), FailingStart(), Unnamed()], ids=lambda observer: type(observer).__name__
)
def test_observers_whose_every_hook_raises_change_nothing(server, recorder, failing, app, make_scope, incoming):
    bare = server(incoming).run(app, make_scope())

    observed = server(incoming).run(ExchangeMiddleware(app, observers=[failing, recorder, failing]), make_scope())

    assert (observed.sent, observed.result, observed.error) == (bare.sent, "returned", None)
    assert recorder.events == ["start", "response_start", "message", "message", "end", "return", "undo"]


def test_every_failure_of_a_hook_is_counted_with_its_place(server, reports):
    app = ExchangeMiddleware(http_app, observers=[FailingStart(), Failing()])

    server().run(app, http_scope())

    assert reports == [
        "FailingStart.on_start",
        "Failing.on_body",
        "Failing.on_response_start",
        "Failing.on_message",
        "Failing.on_body",
        "Failing.on_message",
        "Failing.on_end",
        "Failing.on_return",
        "Failing.undo",
    ]


def test_a_listener_of_reports_that_raises_changes_nothing_for_the_request(server, monkeypatch):
    def listener(component):
        raise ValueError("the counter is broken, too")

    monkeypatch.setattr(errors, "_listeners", [listener])

    served = server().run(ExchangeMiddleware(http_app, observers=[Failing()]), http_scope())

    assert (served.error, served.result, served.sent[1:]) == (None, "returned", [DONE])


def test_the_applications_error_survives_hooks_that_raise(server):
    error = KeyError("mine")

    async def app(scope, receive, send):
        raise error

    served = server().run(ExchangeMiddleware(app, observers=[Failing()]), http_scope())

    assert served.error is error


def test_starts_run_from_the_outside_in_and_ends_from_the_inside_out(server, make_recorder):
    events = []
    observers = [make_recorder("outer ", events), make_recorder("inner ", events)]

    server().run(ExchangeMiddleware(http_app, observers=observers), http_scope())

    assert events == [
        "outer start",
        "inner start",
        "outer response_start",
        "inner response_start",
        "outer message",
        "inner message",
        "outer message",
        "inner message",
        "inner end",
        "outer end",
        "inner return",
        "outer return",
        "inner undo",
        "outer undo",
    ]


def test_a_hook_that_is_not_overridden_is_not_called():
    class OnlyEnd(Observer):
        def on_end(self, exchange): ...

    hooks = Hooks([OnlyEnd()])

    others = (hooks.start, hooks.response_start, hooks.message, hooks.body, hooks.returned)
    assert (len(hooks.end), others) == (1, ((), (), (), (), ()))


class Bodies(Observer):
    """Writes down what it sees of bodies, and the bytes that were counted by then."""

    def __init__(self):
        self.seen = []

    def on_body(self, exchange, message):
        self.seen.append((message, exchange.bytes_in, exchange.bytes_out))


def test_every_piece_of_a_body_is_seen_when_it_has_passed_as_the_object_it_is(server):
    asked = [{"type": "http.request", "body": b"a", "more_body": True}, {"type": "http.request", "body": b"bc"}]
    answered = [{"type": "http.response.body", "body": b"d", "more_body": True}, {"type": "http.response.body"}]

    async def app(scope, receive, send):
        for _ in asked:
            await receive()
        for message in [EVENT_STREAM, *answered]:
            await send(message)

    bodies = Bodies()
    server(asked).run(ExchangeMiddleware(app, observers=[bodies]), http_scope())

    assert [counts for _, *counts in bodies.seen] == [[1, 0], [3, 0], [3, 1], [3, 1]]
    assert all(seen is passed for (seen, *_), passed in zip(bodies.seen, asked + answered, strict=True))


def test_a_piece_that_the_server_refused_is_not_seen(server):
    bodies = Bodies()
    refusing = server([], refuse=lambda message: ValueError() if message is DONE else None)

    async def app(scope, receive, send):
        await send(EVENT_STREAM)
        await send(DONE)

    refusing.run(ExchangeMiddleware(app, observers=[bodies]), http_scope())

    assert bodies.seen == []


@pytest.mark.parametrize(
    ("method", "message"),
    [("HEAD", DONE), ("GET", {"type": "http.response.pathsend", "path": __file__})],
    ids=["HEAD", "pathsend"],
)
def test_what_is_no_body_or_not_sent_by_us_is_not_seen(server, method, message):
    bodies = Bodies()

    async def app(scope, receive, send):
        await send(EVENT_STREAM)
        await send(message)

    server([]).run(ExchangeMiddleware(app, observers=[bodies]), http_scope("/", method))

    assert bodies.seen == []


def test_an_observer_need_not_be_a_subclass_of_observer(server):
    seen = []

    class Duck:
        def on_end(self, exchange):
            seen.append(exchange.status)

    server().run(ExchangeMiddleware(http_app, observers=[Duck()]), http_scope())

    assert seen == [200]


def test_an_observer_can_replace_the_headers_of_the_response(server):
    class Adding(Observer):
        def on_response_start(self, exchange, message):
            message["headers"] = [*message["headers"], (b"a", b"b")]

    served = server().run(ExchangeMiddleware(http_app, observers=[Adding()]), http_scope())

    assert served.sent[0]["headers"] == [*EVENT_STREAM["headers"], (b"a", b"b")]
    assert len(EVENT_STREAM["headers"]) == 1
