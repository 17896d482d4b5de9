"""The parts that requests are made of, and what a span says of each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

from asgi_obs.types import Message
from tests.tracing.oracle import (
    KNOWN_METHODS,
    PARENT_ID,
    TRACE_ID,
    Caller,
    Case,
    Headers,
    Host,
    OutOfStock,
    Sent,
    Story,
    Unreadable,
)


def start(status: int, **more: Any) -> Message:
    """The start of a response."""
    return {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/\xff")], **more}


def body(more: bool = False) -> Message:
    """A piece of a response."""
    return {"type": "http.response.body", "body": b"piece", "more_body": more}


def closed(kind: str, code: int | None = None) -> tuple[Message, ...]:
    """A client that sends nothing and leaves."""
    return ({"type": f"{kind}.disconnect", **({} if code is None else {"code": code})},)


TRAILERS: Final = {"type": "http.response.trailers", "headers": [], "more_trailers": False}
FILE: Final = {"type": "http.response.pathsend", "path": str(Path(__file__))}
ACCEPT: Final = {"type": "websocket.accept"}
TEXT: Final = {"type": "websocket.send", "text": "hello"}
CLOSE: Final = {"type": "websocket.close", "code": 1000}
DENIED: Final = {"type": "websocket.http.response.body", "body": b"no"}

_STOCK: Final = f"{OutOfStock.__module__}.OutOfStock"


def _deny(status: int) -> Message:
    return {"type": "websocket.http.response.start", "status": status, "headers": []}


ANSWERS: Final = (
    *(Story((start(status), body()), status) for status in (200, 204, 301, 404, 499)),
    Story((start(500), body()), 500, "500"),
    Story((start(503), body()), 503, "503"),
    Story(("receive", start(200), body(True), body(True), body()), 200),
    Story((start(200, trailers=True), body(), TRAILERS), 200),
    Story((start(103), start(200), body()), 200),
    Story((start(200), FILE), 200),
    Story((start(200), body(), OutOfStock), 200),
)
FAILURES: Final = (
    Story((OutOfStock,), 500, _STOCK, "OutOfStock: none left"),
    Story((ValueError,), 500, "ValueError", "ValueError: password=******"),
    Story((Unreadable,), 500, f"{OutOfStock.__module__}.Unreadable", "Unreadable: <unprintable Unreadable>"),
    Story((start(200), OutOfStock), 200, _STOCK, "OutOfStock: none left"),
    Story((start(200), body(True), ValueError), 200, "ValueError", "ValueError: password=******"),
    Story((start(200, trailers=True), body(), OutOfStock), 200, _STOCK, "OutOfStock: none left"),
    Story((start(500), body(), OutOfStock), 500, _STOCK, "OutOfStock: none left"),
    Story((), 500, "incomplete"),
    Story((start(200),), 200, "incomplete"),
    Story((start(200), body(True)), 200, "incomplete"),
    Story((asyncio.CancelledError,), 503, "cancelled"),
    Story(("receive",), 499, incoming=closed("http")),
    Story((start(200), body(True), "receive"), 200, incoming=closed("http")),
    Story((start(200), body(True), asyncio.CancelledError), 200, "cancelled"),
)
SESSIONS: Final = (
    Story(("receive", ACCEPT, TEXT, CLOSE), 101),
    Story(("receive", ACCEPT, CLOSE), 101),
    Story((ACCEPT, "receive"), 101, incoming=closed("websocket", 1000)),
    Story((ACCEPT, TEXT, "receive"), 101, incoming=closed("websocket", 1006)),
    Story((CLOSE,), 403),
    Story((_deny(401), DENIED), 401),
    Story((_deny(503), DENIED), 503, "503"),
    Story((OutOfStock,), 500, _STOCK, "OutOfStock: none left"),
    Story((ACCEPT, TEXT, OutOfStock), 101, _STOCK, "OutOfStock: none left"),
    Story((ACCEPT, TEXT), 101, "incomplete"),
)

PATHS: Final = (
    Sent("/", "/"),
    Sent("/items/7", "/items/7"),
    Sent("/api/café/日本", "/api/café/日本"),
    Sent("/a b//c", "/a b//c"),
    Sent("//evil[/x", "//evil[/x"),
    Sent("/reset/token=hunter2hunter2", "/reset/token=******", "secret"),
    Sent("/a\udcff", "/a?", "surrogate"),
)
ROUTES: Final = (None, "/items/{item_id}", "/")
ROOTS: Final = ("", "", "/proxy")
METHODS: Final = (*KNOWN_METHODS, "get", "Post", "BREW", "PROPFIND", "M-SEARCH")
QUERIES: Final = (
    Sent(b"", None),
    Sent(b"a=1&b=%20x", "a=1&b=%20x"),
    Sent(b"q=a+b;c", "q=a+b;c"),
    Sent("q=café".encode(), "q=café"),
    Sent(b"q=1&access_token=hunter2", "q=1&access_token=******", "secret"),
    Sent(b"AWSAccessKeyId=AKIA&Signature=abc%3D&x=1", "AWSAccessKeyId=REDACTED&Signature=REDACTED&x=1", "signed"),
    Sent(b"sv=1&sig=abc", "sv=1&sig=REDACTED", "signed"),
    Sent(b"X-Goog-Signature=ff", "X-Goog-Signature=REDACTED", "signed"),
    Sent(b"q=caf\xe9", "q=café", "bytes", breaks=True),
)
AGENTS: Final = (
    Sent(None, None),
    Sent(b"curl/8.5.0", "curl/8.5.0"),
    Sent("Käfer/1.0".encode(), "Käfer/1.0"),
    Sent(b"Mozilla/5.0 (compatible; Googlebot/2.1)", "Mozilla/5.0 (compatible; Googlebot/2.1)"),
    Sent(b"", "", "empty"),
    Sent(b"app/1 token=hunter2hunter2", "app/1 token=******", "secret"),
    Sent(b"K\xe4fer\\n", "Käfer\\n", "bytes"),
    Sent(b"K\xe4fer\\x", "Käfer\\x", "bytes", breaks=True),
)
HOSTS: Final = (
    Host(None),
    Host(b"shop.example", "shop.example"),
    Host(b"shop.example:8443", "shop.example", 8443),
    Host(b"192.0.2.1:80", "192.0.2.1", 80),
    Host(b"[2001:db8::1]:8080", "2001:db8::1", 8080),
    Host(b"[::1]", "::1"),
    Host(b"no host at all"),
    Host(b""),
    Host(b"caf\xe9.example"),
    Host(b"caf\xe9\\x", breaks=True),
)
SERVERS: Final = (("testserver", 80), ("10.0.0.1", 8080), ("::1", 8000), ("/run/app.sock", None), None)
CLIENTS: Final = (("203.0.113.7", 50_000), ("2001:db8::7", 443), ("", 0), None)

_PARENT: Final = f"00-{TRACE_ID}-{PARENT_ID}".encode()
_LATER: Final = b"01" + _PARENT[2:]


def _callers() -> Iterator[Caller]:
    def called(value: bytes, *states: bytes) -> Headers:
        return ((b"traceparent", value), *((b"tracestate", state) for state in states))

    yield Caller()
    yield Caller(called(_PARENT + b"-01"), True)
    yield Caller(called(b" \t" + _PARENT + b"-01 "), True)
    yield Caller(called(_PARENT + b"-00"), True, sampled=False)
    yield Caller(called(_PARENT + b"-ff", b"a=1"), True, state="a=1")
    yield Caller(
        called(_PARENT + b"-01", b"rojo=00f067aa0ba902b7 , t@v=x y"), True, state="rojo=00f067aa0ba902b7,t@v=x y"
    )
    yield Caller(called(_PARENT + b"-01", b"a=1", b"b=2,"), True, state="a=1,b=2")
    for void in (
        b"a=1,b",
        b"A=1",
        b"a=1,a=2",
        b"a=\xff",
        b"a=" + b"x" * 600,
        b",".join(b"k%d=1" % n for n in range(33)),
    ):
        yield Caller(called(_PARENT + b"-01", void), True)
    yield Caller(called(_LATER + b"-01-more"), True)
    yield Caller(called(_LATER + b"-01-m\xffre"), reason="later")
    yield Caller(called(b"cc" + _PARENT[2:] + b"-01-" + b"x" * 300), reason="later")
    for wrong in (
        b"",
        b"00-xyz",
        b"\xff" * 70,
        _PARENT.upper() + b"-01",
        _PARENT + b"-01-more",
        b"ff" + _PARENT[2:] + b"-01",
    ):
        yield Caller(called(wrong, b"a=1"))
    yield Caller(called(b"00-" + b"0" * 32 + b"-" + PARENT_ID.encode() + b"-01"))
    yield Caller(called(_PARENT + b"-01") + called(b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"), reason="several")
    yield Caller(called(_LATER + b"-01-x") + called(_LATER + b"-01-y"), reason="several")


CALLERS: Final = tuple(_callers())


def _bag(*values: bytes) -> Headers:
    return tuple((b"baggage", value) for value in values)


BAGS: Final = (
    Sent((), {}),
    Sent(_bag(b"user=7, plan = gold"), {"user": "7", "plan": "gold"}),
    Sent(_bag(b"name=a%20b"), {"name": "a b"}),
    Sent(_bag(b"user=7;ttl=1"), {"user": "7"}, "properties"),
    Sent(_bag(b"a=1", b"b=2"), {"a": "1", "b": "2"}, "several"),
    Sent(_bag(b",".join(b"k%d=1" % n for n in range(70))), {f"k{n}": "1" for n in range(64)}, "many"),
    Sent(_bag(b"no member,=1,a=1"), {"a": "1"}),
    Sent(_bag(b"a=\xff,b=1"), {"b": "1"}),
    Sent(_bag(b"a=" + b"x" * 9000), {}),
    Sent(_bag(b",".join(b"k%d=%s" % (n, b"x" * 200) for n in range(60))), {}),
)


def case_of(seed: int) -> Case:
    """One of the requests; the same for the same seed."""
    pick = Random(seed).choice  # noqa: S311 - not a secret
    kind = pick(("http", "http", "http", "websocket"))
    schemes = {"http": ("http", "https", None), "websocket": ("ws", "wss", None)}
    return Case(
        story=pick(pick((ANSWERS, FAILURES)) if kind == "http" else SESSIONS),
        kind=kind,
        method=pick(METHODS) if kind == "http" else "GET",
        path=pick(PATHS),
        query=pick(QUERIES),
        agent=pick(AGENTS),
        host=pick(HOSTS),
        server=pick(SERVERS),
        client=pick(CLIENTS),
        scheme=pick(schemes[kind]),
        http_version=pick(("1.0", "1.1", "2", None)),
        root_path=pick(ROOTS),
        route=pick(ROUTES),
        caller=pick(CALLERS),
        bag=pick(BAGS),
        more=pick(((), ((b"x-odd", bytes(range(128, 256))),))),
    )
