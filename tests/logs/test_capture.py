"""Headers and bodies in the line of a request, and nothing of it in the way of the request."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_obs import errors
from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import Exchange, ExchangeMiddleware
from asgi_obs.logs import RequestLoggingMiddleware, StructuredLogFormatter
from asgi_obs.logs.capture import Capture
from asgi_obs.redaction import redactor_of
from asgi_obs.settings import Settings
from asgi_obs.testing import drive, http_scope, websocket_scope
from asgi_obs.types import ASGIApp, Message, Observer, Receive, Scope, Send

JSON = (b"content-type", b"application/json")
TEXT = (b"content-type", b"text/plain")
FORM = (b"content-type", b"application/x-www-form-urlencoded")
EVENTS = (b"content-type", b"text/event-stream")

KINDS = ["application/json", "application/problem+json", "application/x-www-form-urlencoded", "text/*", "image/png"]


def body(data: Any, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def start(*headers: tuple[bytes, bytes], status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def answering(*messages: Message) -> ASGIApp:
    """An application that reads its whole request and sends these messages."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        for message in messages:
            await send(message)

    return app


@pytest.fixture
def line_of(sink: Any, logger: logging.Logger) -> Callable[..., dict[str, Any]]:
    """The line of a request to an application, with what was captured."""
    logger.setLevel(logging.INFO)

    def line_of(app: ASGIApp, scope: Scope | None = None, incoming: Any = None, **options: Any) -> dict[str, Any]:
        app = RequestLoggingMiddleware(app, logger=logger.name, capture=Capture(**options), settings=Settings())
        asyncio.run(drive(app, scope or http_scope("/x"), incoming))
        line: dict[str, Any] = sink.line
        return line

    return line_of


@pytest.fixture
def request_body(line_of: Any) -> Callable[..., dict[str, Any]]:
    """What is captured of a request body, by field."""

    def request_body(*chunks: bytes, kind: Any = JSON, headers: Any = (), **options: Any) -> dict[str, Any]:
        incoming = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
        incoming.append({"type": "http.request"})
        scope = http_scope("/x", "POST", [*headers, *([kind] if kind else [])])
        line = line_of(answering(start(), body(b"")), scope, incoming, **{"request_body": KINDS, **options})
        return {name: value for name, value in line.items() if name.startswith("request_body")}

    return request_body


@pytest.fixture
def response_body(line_of: Any) -> Callable[..., dict[str, Any]]:
    """What is captured of a response body, by field."""

    def response_body(*messages: Message, scope: Scope | None = None, **options: Any) -> dict[str, Any]:
        line = line_of(answering(*messages), scope, **{"response_body": KINDS, **options})
        return {name: value for name, value in line.items() if name.startswith("response_body")}

    return response_body


def test_nothing_is_captured_unless_it_is_asked_for(line_of: Any) -> None:
    app = answering(start(JSON, (b"content-length", b"2")), body(b"{}"))

    line = line_of(app, http_scope("/x", "POST", [JSON]), [{"type": "http.request", "body": b"{}"}])

    assert [name for name in line if name.startswith(("request_", "response_"))] == []


def test_headers_are_captured_by_allow_list_in_any_case(line_of: Any) -> None:
    scope = http_scope("/x", headers=[(b"accept", b"a/b"), (b"x-a", b"1"), (b"x-a", b"2"), (b"x-b", b"3")])

    line = line_of(
        answering(start((b"ETag", b"e"), (b"Server", b"s")), body(b"")),
        scope,
        request_headers=["Accept", "X-A", "X-Missing"],
        response_headers=["etag"],
    )

    assert line["request_headers"] == {"accept": "a/b", "x-a": "1, 2"}
    assert line["response_headers"] == {"etag": "e"}


def test_headers_that_are_not_there_make_no_field(line_of: Any) -> None:
    line = line_of(answering(start(), body(b"")), request_headers=["x-a"], response_headers=["x-b"])

    assert not {"request_headers", "response_headers"} & line.keys()


def test_a_response_that_never_started_has_no_headers(line_of: Any) -> None:
    assert "response_headers" not in line_of(answering(), response_headers=["etag"])


@pytest.mark.parametrize("name", ["authorization", "cookie", "x-api-key", "proxy-authorization", "x-auth-token"])
def test_sensitive_headers_are_masked_although_they_were_asked_for(line_of: Any, name: str) -> None:
    line = line_of(
        answering(start((b"set-cookie", b"sid=1")), body(b"")),
        http_scope("/x", headers=[(name.encode(), b"hunter2")]),
        request_headers=[name],
        response_headers=["set-cookie"],
    )

    assert line["request_headers"] == {name: "******"}
    assert line["response_headers"] == {"set-cookie": "******"}


def test_urls_in_headers_are_redacted(line_of: Any) -> None:
    headers = [(b"referer", b"http://u:p@h/?token=x")]

    line = line_of(answering(start(), body(b"")), http_scope("/x", headers=headers), request_headers=["referer"])

    assert line["request_headers"] == {"referer": "http://******@h/?token=******"}


def test_the_response_headers_are_those_of_the_response_not_of_its_announcement(line_of: Any) -> None:
    app = answering(start((b"link", b"early"), status=103), start((b"link", b"final")), body(b""))

    assert line_of(app, response_headers=["link"])["response_headers"] == {"link": "final"}


def test_the_handshake_of_a_websocket_has_its_headers(line_of: Any) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept", "headers": [(b"x-b", b"2")]})
        await send({"type": "websocket.close"})

    line = line_of(app, websocket_scope("/chat", [(b"x-a", b"1")]), request_headers=["x-a"], response_headers=["x-b"])

    assert (line["request_headers"], line["response_headers"]) == ({"x-a": "1"}, {"x-b": "2"})


def test_a_json_body_is_taken_apart_and_redacted_by_key(request_body: Any) -> None:
    data = b'{"user": {"name": "ann", "password": "hunter2"}, "n": [1, {"api_key": 5}]}'

    assert request_body(data[:20], data[20:]) == {
        "request_body": {"user": {"name": "ann", "password": "******"}, "n": [1, {"api_key": "******"}]}
    }


@pytest.mark.parametrize("data", [b"{", b"\xff{}", b"[" * 4000])
def test_a_body_that_is_no_json_is_a_text(request_body: Any, data: bytes) -> None:
    assert request_body(data) == {"request_body": data.decode(errors="backslashreplace")}


def test_json_by_another_name_is_json(request_body: Any) -> None:
    assert request_body(b'{"token": 1}', kind=(b"content-type", b"Application/Problem+JSON; charset=utf-8")) == {
        "request_body": {"token": "******"}
    }


def test_a_cut_body_is_a_text_and_says_so(request_body: Any) -> None:
    assert request_body(b'{"a": ', b'"http://u:p@h"}', max_bytes=19) == {
        "request_body": '{"a": "http://******@h',
        "request_body_truncated": True,
    }


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (JSON, b'{"name": "ann", "password": "hunter22", "api_key": "hunter22"}'),
        (FORM, b"name=ann&password=hunter22&api_key=hunter22"),
        (TEXT, b"name: ann, password: hunter22, Authorization: Bearer hunter22"),
    ],
)
def test_wherever_a_body_is_cut_no_secret_is_left_of_it(request_body: Any, sink: Any, kind: Any, data: bytes) -> None:
    for max_bytes in range(1, len(data)):
        sink.stream.truncate(0)
        sink.stream.seek(0)
        found = request_body(data, kind=kind, max_bytes=max_bytes)

        assert "hun" not in found["request_body"]
        assert ("ann" in found["request_body"]) == (b"ann" in data[:max_bytes])


def test_a_body_of_just_the_size_is_whole(request_body: Any) -> None:
    assert request_body(b"[1]", b"", max_bytes=3) == {"request_body": [1]}


def test_a_form_is_redacted_by_parameter(request_body: Any) -> None:
    assert request_body(b"name=ann&pass%77ord=hunter2", kind=FORM) == {"request_body": "name=ann&pass%77ord=******"}


def test_bytes_that_are_no_text_are_escaped(request_body: Any) -> None:
    assert request_body(b"\x89PNG\xff", kind=(b"content-type", b"image/png")) == {"request_body": "\\x89PNG\\xff"}


def test_a_text_in_utf_16_is_redacted(request_body: Any) -> None:
    data = "see http://u:p@h".encode("utf-16-le")

    assert request_body(data, kind=TEXT) == {"request_body": "see http://******@h"}


@pytest.mark.parametrize(
    "kind", [None, EVENTS, (b"content-type", b""), (b"content-type", b"application/xml"), (b"content-type", b"text")]
)
def test_a_body_of_another_content_type_is_not_captured(request_body: Any, kind: Any) -> None:
    assert request_body(b"hello", kind=kind) == {}


def test_an_empty_body_makes_no_field(request_body: Any) -> None:
    assert request_body(b"") == {}


def test_a_compressed_body_is_not_captured_for_it_cannot_be_redacted(request_body: Any) -> None:
    assert request_body(b"hello", kind=TEXT, headers=[(b"content-encoding", b"gzip")]) == {}


def test_an_encoding_that_is_none_is_no_encoding(request_body: Any) -> None:
    assert request_body(b"a", kind=TEXT, headers=[(b"content-encoding", b"Identity")]) == {"request_body": "a"}


def test_of_a_request_body_there_is_what_the_application_has_read(line_of: Any) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await answering(start(), body(b""))(scope, receive, send)

    incoming = [{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.request", "body": b"cd"}]
    unread = [*incoming, {"type": "http.request", "body": b"ef"}]

    assert line_of(app, http_scope("/x", "POST", [TEXT]), unread, request_body=KINDS)["request_body"] == "abcd"


def test_a_response_body_is_captured_and_redacted(response_body: Any) -> None:
    assert response_body(start(JSON), body(b'{"secret": 1, "a": 2}')) == {"response_body": {"secret": "******", "a": 2}}


def test_a_response_of_several_pieces_with_its_length_told_is_captured(response_body: Any) -> None:
    messages = [start(TEXT, (b"Content-Length", b"4")), body(b"ab", more=True), body(memoryview(b"cd"))]

    assert response_body(*messages, max_bytes=3) == {"response_body": "abc", "response_body_truncated": True}


def test_a_response_of_several_pieces_without_a_length_is_a_stream_and_not_captured(response_body: Any) -> None:
    assert response_body(start(TEXT), body(b"ab", more=True), body(b"cd")) == {}


def test_an_event_stream_is_not_captured(response_body: Any) -> None:
    assert response_body(start(EVENTS, (b"content-length", b"9")), body(b"data: 1\n\n")) == {}


def test_the_body_that_no_server_sends_for_head_is_not_captured(response_body: Any) -> None:
    assert response_body(start(TEXT), body(b"ab"), scope=http_scope("/x", "HEAD")) == {}


def test_a_file_that_the_server_sends_is_not_captured(response_body: Any, tmp_path: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello")

    assert response_body(start(TEXT), {"type": "http.response.pathsend", "path": str(path)}) == {}


def test_a_word_for_the_field_itself_masks_it(line_of: Any, logger: logging.Logger, sink: Any) -> None:
    settings = Settings(sensitive_fields=("response_body",))
    sink.setFormatter(StructuredLogFormatter(settings=settings))
    app = RequestLoggingMiddleware(
        answering(start(FORM), body(b"a=1")),
        logger=logger.name,
        capture=Capture(response_body=KINDS),
        settings=settings,
    )

    asyncio.run(drive(app, http_scope("/x")))

    assert sink.line["response_body"] == "******"


def test_the_fields_stand_at_the_end_of_the_line(line_of: Any, sink: Any) -> None:
    scope = http_scope("/x", "POST", [TEXT])
    line_of(
        answering(start(TEXT), body(b"out")),
        scope,
        [{"type": "http.request", "body": b"in!"}],
        request_headers=["content-type"],
        response_headers=["content-type"],
        request_body=KINDS,
        response_body=KINDS,
        max_bytes=2,
    )

    assert list(sink.records[0].fields)[-6:] == [
        "request_headers",
        "response_headers",
        "request_body",
        "request_body_truncated",
        "response_body",
        "response_body_truncated",
    ]


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [seen.append])
    monkeypatch.setattr(errors, "_last_logged", {})
    return seen


def test_headers_that_cannot_be_read_do_not_cost_the_line(line_of: Any, reported: list[str]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["headers"] = [5]
        await answering(start(5), body(b""))(scope, receive, send)  # type: ignore[arg-type]

    line = line_of(app, request_headers=["a"], response_body=KINDS)

    assert line["status_code"] == 200
    assert reported == ["Capture.on_response_start", "Capture.fields"]


def test_an_exchange_that_it_did_not_see_begin_has_no_fields(reported: list[str]) -> None:
    capture = Capture(request_headers=["a"], response_body=KINDS)

    class Late(Observer):
        def on_start(self, exchange: Exchange) -> None:
            exchange.note(capture, None)

    class Reader(Observer):
        def on_end(self, exchange: Exchange) -> None:
            self.fields = capture.fields(exchange, redactor_of())

    reader = Reader()
    app = ExchangeMiddleware(answering(start(TEXT), body(b"a")), observers=[reader, capture, Late()])
    asyncio.run(drive(app, http_scope("/x", headers=[(b"a", b"1")])))

    assert (reader.fields, reported) == ({}, [])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("request_headers", "accept"),
        ("request_headers", [5]),
        ("request_headers", ["no name"]),
        ("response_headers", [b"etag"]),
        ("response_headers", iter(["etag"])),
        ("request_body", "text/plain"),
        ("request_body", ["text"]),
        ("request_body", ["*/*"]),
        ("response_body", ["text/event-stream"]),
        ("max_bytes", 0),
        ("max_bytes", True),
        ("max_bytes", "4096"),
    ],
)
def test_a_wrong_option_is_refused(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=option):
        Capture(**{option: value})


class Lines(logging.Handler):
    """Keeps the lines."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(StructuredLogFormatter("shop"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


CHUNKS = st.lists(st.binary(max_size=12) | st.sampled_from([b'{"a":', b"1}", b"[", b"\xff", b"\0"]), max_size=5)
TEXTS = [b"text/plain; charset=utf-16", b"text/event-stream", b"application/x-www-form-urlencoded"]
MEDIA_TYPES = st.sampled_from(
    [b"application/json", b"application/a+json", b"image/png", b"", b";", *TEXTS]
) | st.binary(max_size=12)
HEADERS = st.lists(
    st.tuples(st.just(b"content-type"), MEDIA_TYPES)
    | st.tuples(st.sampled_from([b"content-length", b"content-encoding", b"Cookie", b"x-a"]), st.binary(max_size=9)),
    max_size=4,
)


def run(wrap: Callable[[ASGIApp], ASGIApp], method: str, incoming: Any, outgoing: Any, headers: Any) -> Any:
    """What the application and the client see: the messages, as the same objects."""
    received: list[Message] = []
    sent: list[Message] = []
    waiting: Iterator[Message] = iter(incoming)

    async def app(scope: Scope, receive: Receive, send: Send) -> str:
        for _ in incoming:
            received.append(await receive())
        for message in outgoing:
            await send(message)
        return "returned"

    async def receive() -> Message:
        return next(waiting)

    async def send(message: Message) -> None:
        sent.append(message)

    returned = asyncio.run(wrap(app)(http_scope("/x", method, headers), receive, send))  # type: ignore[arg-type]
    return returned, received, sent


@given(
    asked=CHUNKS,
    answered=CHUNKS,
    request_headers=HEADERS,
    response_headers=HEADERS,
    method=st.sampled_from(["GET", "POST", "HEAD"]),
    max_bytes=st.integers(1, 30),
)
@example([b"a"], [b"b"], [TEXT], [TEXT, (b"content-length", b"1")], "POST", 4)
def test_application_and_client_see_what_they_would_without_it_and_the_line_is_json(
    asked: list[bytes],
    answered: list[bytes],
    request_headers: Any,
    response_headers: Any,
    method: str,
    max_bytes: int,
) -> None:
    handler = Lines()
    logger = logging.getLogger("test.capture.hostile")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    incoming = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in asked]
    incoming.append({"type": "http.request", "body": b""})
    outgoing = [start(*response_headers), *(body(chunk, more=True) for chunk in answered), body(b"")]
    capture = Capture(
        request_headers=["cookie", "x-a"],
        response_headers=["x-a"],
        request_body=KINDS,
        response_body=KINDS,
        max_bytes=max_bytes,
    )

    def captured(app: ASGIApp) -> ASGIApp:
        return RequestLoggingMiddleware(app, logger=logger.name, capture=capture)

    without = run(lambda app: app, method, incoming, outgoing, request_headers)
    with_it = run(captured, method, incoming, outgoing, request_headers)

    assert with_it == without
    assert list(map(id, with_it[1])) == list(map(id, incoming))
    assert list(map(id, with_it[2][1:])) == list(map(id, outgoing[1:]))
    (text,) = handler.lines
    assert len(text.splitlines()) == 1
    line = json.loads(text)
    assert line["request_headers"]["cookie"] == "******" if any(h[0] == b"Cookie" for h in request_headers) else True
    for name, size in (("request_body", line["bytes_in"]), ("response_body", line["bytes_out"])):
        assert (f"{name}_truncated" in line) == (name in line and size > max_bytes)
