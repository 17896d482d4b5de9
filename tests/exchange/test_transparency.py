"""Whatever an application sends: a server sees the same from it with and without us.

The servers here are as strict as uvicorn: they raise on what is out of order or of the wrong type, and after that
they go on, so that what an application does next is compared, too.
"""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from asgi_obs import errors
from asgi_obs.correlation import CorrelationIdMiddleware
from asgi_obs.exchange import ExchangeMiddleware
from asgi_obs.testing import http_scope, websocket_scope
from asgi_obs.types import Observer

KEY = b"x-correlation-id"


class StrictHttp:
    """An HTTP server: start, then bodies or files until one is the last, then trailers if they were announced."""

    extensions = ("http.response.early_hint", "http.response.push", "http.response.debug")
    bodies = ("http.response.body", "http.response.pathsend", "http.response.zerocopysend")
    leaves = "http.disconnect"

    def __init__(self, incoming: list[Any]) -> None:
        self.incoming = iter(incoming)
        self.state = "expecting start"
        self.trailers = False
        self.received: list[Any] = []

    async def receive(self) -> Any:
        return next(self.incoming, {"type": self.leaves})

    async def send(self, message: Any) -> None:
        kind = message["type"]
        if kind not in self.extensions:
            self.advance(kind, message)
        self.received.append(message)

    def advance(self, kind: Any, message: Any) -> None:
        if self.state == "expecting start" and kind == "http.response.start":
            check_headers(message.get("headers", ()))
            self.trailers = bool(message.get("trailers"))
            if not 100 <= message["status"] < 600:
                raise ValueError(f"status {message['status']}")
            self.state = "expecting body" if message["status"] >= 200 else self.state
        elif self.state == "expecting body" and kind in self.bodies:
            len(message.get("body", b""))
            if not message.get("more_body", False):
                self.state = "expecting trailers" if self.trailers else "complete"
        elif self.state == "expecting trailers" and kind == "http.response.trailers":
            check_headers(message["headers"])
            self.state = self.state if message.get("more_trailers") else "complete"
        else:
            raise RuntimeError(f"{self.state}, but got {kind!r}")


class StrictWebSocket(StrictHttp):
    """A WebSocket server with the denial response extension."""

    extensions = ()
    leaves = "websocket.disconnect"

    def advance(self, kind: Any, message: Any) -> None:
        step = (self.state, kind)
        if step == ("expecting start", "websocket.accept"):
            check_headers(message.get("headers", ()))
            self.state = "open"
        elif step == ("expecting start", "websocket.http.response.start"):
            check_headers(message.get("headers", ()))
            self.state = "expecting body"
        elif step == ("expecting body", "websocket.http.response.body"):
            self.state = self.state if message.get("more_body") else "complete"
        elif step == ("open", "websocket.send"):
            len(message["text"] if message.get("bytes") is None else message["bytes"])
        elif kind == "websocket.close" and self.state != "complete":
            self.state = "complete"
        else:
            raise RuntimeError(f"{self.state}, but got {kind!r}")


def check_headers(headers: Any) -> None:
    for name, value in headers:
        if not isinstance(name, bytes) or not isinstance(value, bytes) or b"\n" in name + value:
            raise TypeError(f"not a header: {name!r}: {value!r}")


class Act:
    """An application that follows a list of steps and writes down what happens to it."""

    def __init__(self, steps: list[Any]) -> None:
        self.steps = steps
        self.happened: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        for name, argument in self.steps:
            if name == "raise":
                raise argument
            try:
                self.happened.append(await receive() if name == "receive" else await send(argument))
            except Exception as error:
                self.happened.append((type(error), str(error)))
                if name == "send or die":
                    raise
        return "returned"


class Everything(Observer):
    """Has every hook, so that every branch that calls hooks is run."""

    def on_start(self, exchange): ...

    def on_response_start(self, exchange, message): ...

    def on_message(self, exchange, message): ...

    def on_body(self, exchange, message): ...

    def on_end(self, exchange):
        self.exchange = exchange

    def on_return(self, exchange): ...


def outcome(app, act, scope, server):
    """All that can be seen of one run. Nothing here ever has to wait, so no event loop is needed."""
    ended: Any
    try:
        app(scope, server.receive, server.send).send(None)
    except StopIteration as stop:
        ended = stop.value
    except Exception as error:
        ended = (type(error), str(error))
    return ended, act.happened, [without_id(message) for message in server.received], server.state


def without_id(message):
    if isinstance(message, dict) and isinstance(message.get("headers"), list) and message["type"] in WITH_HEADERS:
        pairs = [tuple(pair) for pair in message["headers"]]
        return {**message, "headers": [pair for pair in pairs if pair[0].lower() != KEY]}
    return {**message, "headers": []} if message["type"] in WITH_HEADERS else message


WITH_HEADERS = ("http.response.start", "websocket.accept", "websocket.http.response.start")

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 600) | st.binary(max_size=4) | st.text(max_size=4) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
HEADER = st.tuples(st.binary(max_size=12) | st.just(b"content-type"), st.binary(max_size=12))
# What the application says under the name of ours is replaced, so it must not be what the server trips over.
OWN_ID = st.tuples(st.sampled_from([KEY, KEY.upper()]), st.just(b"its own"))
HEADERS = st.lists(HEADER | HEADER.map(list) | OWN_ID, max_size=4)
HTTP_TYPES = [
    "http.response.start",
    "http.response.body",
    "http.response.pathsend",
    "http.response.zerocopysend",
    "http.response.trailers",
    *StrictHttp.extensions,
]
WEBSOCKET_TYPES = [
    "websocket.accept",
    "websocket.send",
    "websocket.close",
    "websocket.http.response.start",
    "websocket.http.response.body",
]
FIELDS = {
    "status": st.sampled_from([200, 204, 500, 103]) | ANYTHING,
    "headers": HEADERS | ANYTHING,
    "trailers": st.booleans() | ANYTHING,
    "body": st.binary(max_size=8) | ANYTHING,
    "more_body": st.booleans() | ANYTHING,
    "more_trailers": st.booleans() | ANYTHING,
    "path": st.just("/no/such/file") | ANYTHING,
    "file": ANYTHING,
    "count": ANYTHING,
    "offset": ANYTHING,
    "text": st.text(max_size=4) | ANYTHING,
    "bytes": st.binary(max_size=4) | ANYTHING,
    "code": st.integers(1000, 4999) | ANYTHING,
    "unheard_of": ANYTHING,
}


def messages(types):
    known = st.fixed_dictionaries({"type": st.sampled_from(types)}, optional=FIELDS)
    return known | st.fixed_dictionaries({}, optional={**FIELDS, "type": ANYTHING}) | ANYTHING


def steps(types):
    sends = st.tuples(st.sampled_from(["send", "send", "send or die"]), messages(types))
    others = st.sampled_from([("receive", None), ("raise", ValueError("x")), ("raise", OSError("x"))])
    return st.lists(sends | sends | sends | others, max_size=8)


def incoming(types):
    return st.lists(messages(types), max_size=3)


def assert_transparent(plan, arriving, scope, server):
    bare_act, act, observed_act = Act(plan), Act(plan), Act(plan)
    bare = outcome(bare_act, bare_act, dict(scope), server(arriving))
    with_id = outcome(CorrelationIdMiddleware(act), act, dict(scope), server(arriving))
    watching = ExchangeMiddleware(observed_act, observers=[Everything()])
    observed = outcome(watching, observed_act, dict(scope), server(arriving))

    assert repr(with_id) == repr(bare)  # by their text: a NaN is not equal to itself
    assert repr(observed) == repr(bare)


def sends(*messages):
    return [("send", {"type": kind, **more}) for kind, more in messages]


START = ("http.response.start", {"status": 200, "headers": [(b"a", b"b")]})
BODY = ("http.response.body", {"body": b"x"})
HINT = ("http.response.early_hint", {})
FAILED_START = ("http.response.start", {"status": 700})
NO_HEADER = ("http.response.start", {"status": 200, "headers": [(b"a", b"\n")]})
WITH_TRAILERS = ("http.response.start", {"status": 200, "trailers": True})
TRAILERS = ("http.response.trailers", {"headers": []})
ACCEPT = ("websocket.accept", {})
TEXT = ("websocket.send", {"text": "x"})
CLOSE = ("websocket.close", {})
DENIAL = ("websocket.http.response.start", {"status": 401, "headers": []})
DENIAL_BODY = ("websocket.http.response.body", {"body": b"x"})


@example(sends(HINT, FAILED_START, START, BODY, BODY), [], "GET")
@example(sends(NO_HEADER), [], "GET")
@example([*sends(WITH_TRAILERS, BODY, TRAILERS), ("receive", None)], [], "GET")
@settings(deadline=None, max_examples=300)
@given(steps(HTTP_TYPES), incoming(["http.request", "http.disconnect"]), st.sampled_from(["GET", "HEAD"]))
def test_any_http_messages_have_the_same_effect_with_and_without_us(plan, arriving, method):
    assert_transparent(plan, arriving, http_scope(method=method), StrictHttp)


@example(sends(ACCEPT, TEXT, CLOSE, TEXT), [])
@example([*sends(DENIAL, DENIAL_BODY, CLOSE), ("send or die", None), ("raise", OSError("x"))], [])
@settings(deadline=None, max_examples=300)
@given(steps(WEBSOCKET_TYPES), incoming(["websocket.connect", "websocket.receive", "websocket.disconnect"]))
def test_any_websocket_messages_have_the_same_effect_with_and_without_us(plan, arriving):
    assert_transparent(plan, arriving, websocket_scope(), StrictWebSocket)


@settings(deadline=None)
@given(HEADERS | ANYTHING, HEADERS)
def test_any_request_headers_have_the_same_effect_with_and_without_us(request_headers, response_headers):
    start = {"type": "http.response.start", "status": 200, "headers": response_headers}
    plan = [("send", start), ("send", {"type": "http.response.body"})]

    assert_transparent(plan, [], {**http_scope(), "headers": request_headers}, StrictHttp)


@settings(deadline=None)
@given(
    st.integers(200, 599),
    HEADERS.filter(lambda headers: not any(b"\n" in name + value for name, value in headers)),
    st.lists(st.binary(max_size=8), max_size=4),
    st.booleans(),
)
def test_a_legal_response_is_completed_and_nothing_is_reported(status, headers, chunks, trailers):
    start = {"type": "http.response.start", "status": status, "headers": headers, "trailers": trailers}
    bodies = [{"type": "http.response.body", "body": chunk, "more_body": True} for chunk in chunks]
    last = [{"type": "http.response.body"}]
    closing = [{"type": "http.response.trailers", "headers": headers}] if trailers else []
    act = Act([("send or die", message) for message in [start, *bodies, *last, *closing]])
    reports: list[str] = []
    everything = Everything()

    errors.on_report(reports.append)
    outcome(ExchangeMiddleware(act, observers=[everything]), act, http_scope(), StrictHttp([]))

    exchange = everything.exchange
    assert (exchange.outcome, exchange.status) == ("completed", status)
    assert exchange.bytes_out == sum(map(len, chunks))
    assert reports == []
