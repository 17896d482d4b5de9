from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from starlette.applications import Starlette
from starlette.authentication import SimpleUser
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_obs import errors
from asgi_obs.correlation import CorrelationIdMiddleware
from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import Exchange, current_exchange
from asgi_obs.logs import LogContext, RequestLoggingMiddleware, StructuredLogFormatter, bind
from asgi_obs.logs.capture import Capture
from asgi_obs.logs.sampling import Sampling
from asgi_obs.settings import Settings
from asgi_obs.testing import drive, http_scope, websocket_scope
from asgi_obs.types import ASGIApp, Message, Receive, Scope, Send
from tests.spans import span_context

pytestmark = pytest.mark.anyio

Work = Callable[[], Any]


def responding(status: int = 200, body: bytes = b"hello", work: Work = lambda: None) -> ASGIApp:
    """An application that reads its request, does some work and answers."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        work()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    return app


def raising(error: BaseException) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return app


@pytest.fixture
def serve(logger: logging.Logger) -> Callable[..., Any]:
    """Drive an application in the middleware, in the test's logger at INFO."""
    logger.setLevel(logging.INFO)

    async def serve(app: ASGIApp, scope: Scope | None = None, incoming: Any = None, **options: Any) -> None:
        middleware = RequestLoggingMiddleware(app, logger=logger.name, **options)
        await drive(CorrelationIdMiddleware(middleware, generator=lambda: "c-1"), scope or http_scope("/x"), incoming)

    return serve


async def test_what_a_request_asked_of_databases_is_told_in_its_line(serve: Any, sink: Any) -> None:
    def ask() -> None:
        exchange = current_exchange()
        assert exchange is not None
        exchange.use_database("0000000000000001", 0.0012345)
        exchange.use_database("0000000000000002", 0.001)

    await serve(responding(work=ask))

    assert (sink.line["db_queries"], sink.line["db_duration_ms"]) == (2, 2.234)


async def test_a_request_without_a_database_says_nothing_of_one(serve: Any, sink: Any) -> None:
    await serve(responding())

    assert sink.line.keys() & {"db_queries", "db_duration_ms"} == set()


async def test_a_request_has_one_line_with_all_that_is_known(serve: Any, sink: Any) -> None:
    scope = http_scope(
        "/items/3",
        "POST",
        [(b"user-agent", b"curl/8"), (b"authorization", b"Bearer x")],
        query_string=b"page=2&token=x",
    )
    await serve(responding(201), scope, [{"type": "http.request", "body": b"abc"}])
    line = sink.line
    assert line["message"] == "POST /items/3 201"
    assert (line["level"], line["correlation_id"], line["outcome"]) == ("INFO", "c-1", "completed")
    assert (line["method"], line["path"], line["status_code"]) == ("POST", "/items/3", 201)
    assert (line["query"], line["client_ip"], line["user_agent"]) == ("page=2&token=******", "203.0.113.7", "curl/8")
    assert (line["http_version"], line["scheme"], line["authenticated"]) == ("1.1", "http", True)
    assert (line["bytes_in"], line["bytes_out"]) == (3, 5)
    assert 0 <= line["ttfb_ms"] <= line["duration_ms"]
    assert not {"error", "context", "route", "user_id"} & line.keys()
    assert "Bearer" not in sink.text


async def test_the_fields_are_attributes_of_the_record(serve: Any, sink: Any) -> None:
    await serve(responding(), http_scope("/x", query_string=b"token=x"))
    (record,) = sink.records
    assert (record.path, record.status_code, record.query) == ("/x", 200, "token=******")


async def test_what_is_not_there_is_left_out(serve: Any, sink: Any) -> None:
    await serve(responding(), http_scope(client=None))
    assert not {"client_ip", "user_agent", "query"} & sink.line.keys()


async def test_the_route_is_the_template(sink: Any, logger: logging.Logger) -> None:
    async def item(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    app = Starlette(
        routes=[Route("/items/{item_id:int}", item)],
        middleware=[Middleware(RequestLoggingMiddleware, logger=logger.name)],
    )
    logger.setLevel(logging.INFO)
    await drive(app, http_scope("/items/3"))
    assert (sink.line["route"], sink.line["path"]) == ("/items/{item_id}", "/items/3")


@pytest.mark.parametrize(
    ("status", "options", "level"),
    [
        (200, {}, "INFO"),
        (302, {"warn_client_errors": True}, "INFO"),
        (404, {}, "INFO"),
        (404, {"warn_client_errors": True}, "WARN"),
        (500, {}, "ERROR"),
        (503, {"warn_client_errors": True}, "ERROR"),
    ],
)
async def test_the_level_follows_the_status(serve: Any, sink: Any, status: int, options: Any, level: str) -> None:
    await serve(responding(status), **options)
    assert (sink.line["level"], sink.line["status_code"]) == (level, status)
    assert "error" not in sink.line


async def test_an_application_that_raises_is_an_error(serve: Any, sink: Any) -> None:
    with pytest.raises(ValueError, match="bad"):
        await serve(raising(ValueError("bad http://u:p@h")))
    line = sink.line
    assert (line["level"], line["outcome"], line["status_code"], line["correlation_id"]) == (
        "ERROR",
        "error",
        500,
        "c-1",
    )
    assert (line["error"]["type"], line["error"]["message"]) == ("ValueError", "bad http://******@h")
    assert "in app" in line["error"]["stack"]
    assert sink.records[0].exc_info[0] is ValueError


async def test_a_response_that_is_left_unfinished_is_an_error(serve: Any, sink: Any) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    await serve(app)
    assert (sink.line["level"], sink.line["outcome"], sink.line["error"]["type"]) == (
        "ERROR",
        "incomplete",
        "incomplete",
    )


async def test_a_client_that_leaves_is_no_error(serve: Any, sink: Any) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await serve(app, incoming=[{"type": "http.disconnect"}])
    line = sink.line
    assert (line["level"], line["outcome"], line["status_code"]) == ("INFO", "client_disconnected", 499)
    assert not {"error", "ttfb_ms"} & line.keys()


async def test_what_was_bound_is_in_the_line(serve: Any, sink: Any) -> None:
    def work() -> None:
        bind(user_id="u", request_id=5, workspace_id="w", status_code=1, password="x", url="http://u:p@h")

    await serve(responding(work=work))
    line = sink.line
    assert (line["user_id"], line["request_id"], line["status_code"]) == ("u", 5, 200)
    assert line["context"] == {"workspace_id": "w", "status_code": 1, "password": "******", "url": "http://******@h"}


async def test_ids_alone_make_no_context(serve: Any, sink: Any) -> None:
    await serve(responding(work=lambda: bind(user_id=["http://u:p@h"])))
    assert sink.line["user_id"] == "['http://******@h']"
    assert "context" not in sink.line


async def test_the_user_is_that_of_the_scope_unless_one_is_bound(serve: Any, sink: Any) -> None:
    await serve(responding(), http_scope(user=SimpleUser("ann")))
    await serve(responding(work=lambda: bind(user_id="bound")), http_scope(user=SimpleUser("ann")))
    await serve(responding(), http_scope(), user_id=lambda exchange: exchange.path + "!")
    await serve(responding(), http_scope(), user_id=lambda exchange: None)
    assert [line.get("user_id") for line in sink.lines] == ["ann", "bound", "/!", None]


async def test_a_user_that_cannot_be_told_does_not_cost_the_line(
    serve: Any, sink: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [reported.append])

    def broken(exchange: Exchange) -> str:
        raise KeyError("sub")

    await serve(responding(), user_id=broken)
    assert "user_id" not in sink.line
    assert reported == ["RequestLoggingMiddleware.user_id"]


async def test_the_client_is_told_by_trusted_proxies_only(serve: Any, sink: Any) -> None:
    headers = [(b"x-forwarded-for", b"6.6.6.6, 198.51.100.1")]
    await serve(responding(), http_scope(headers=headers))
    await serve(responding(), http_scope(headers=headers), trusted_proxies=["203.0.113.0/24"])
    assert [line["client_ip"] for line in sink.lines] == ["203.0.113.7", "198.51.100.1"]


async def test_the_settings_say_what_is_redacted(serve: Any, sink: Any) -> None:
    await serve(responding(), http_scope(query_string=b"iban=1&a=2"), settings=Settings(sensitive_fields=("iban",)))
    assert sink.records[0].query == sink.line["query"] == "iban=******&a=2"


async def test_what_the_client_wrote_is_redacted_in_message_path_and_user_agent(serve: Any, sink: Any) -> None:
    headers = [(b"user-agent", b"bot http://u:p@h")]
    await serve(responding(), http_scope("/http://u:p@h", headers=headers))
    (record,) = sink.records
    assert (record.msg, record.path) == ("GET /http://******@h 200", "/http://******@h")
    assert record.user_agent == "bot http://******@h"


async def test_a_token_in_the_path_is_redacted(serve: Any, sink: Any) -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
    await serve(responding(), http_scope(f"/reset/{token}"))
    (record,) = sink.records
    assert (record.msg, record.path) == ("GET /reset/****** 200", "/reset/******")


async def test_the_formatter_redacts_what_the_middleware_let_pass(serve: Any, sink: Any) -> None:
    await serve(responding(), http_scope(query_string=b"iban=1&pin=2"), settings=Settings(sensitive_fields=("pin",)))
    sink.setFormatter(StructuredLogFormatter(settings=Settings(sensitive_fields=("iban",))))
    assert sink.format(sink.records[0]).count("iban=******&pin=******") == 1


async def test_a_formatter_with_a_word_for_our_own_fields_redacts_them(serve: Any, sink: Any) -> None:
    sink.setFormatter(StructuredLogFormatter(settings=Settings(sensitive_fields=("client",))))
    await serve(responding())
    assert sink.line["client_ip"] == "******"


async def test_a_filter_that_scrubs_the_record_is_respected(serve: Any, sink: Any) -> None:
    def scrub(record: logging.LogRecord) -> bool:
        record.client_ip = "0.0.0.0"
        record.msg = 5
        return True

    sink.addFilter(scrub)
    await serve(responding())
    assert (sink.line["client_ip"], sink.line["message"]) == ("0.0.0.0", "5")


async def test_a_filter_that_replaces_only_the_message_is_respected(serve: Any, sink: Any) -> None:
    def scrub(record: logging.LogRecord) -> bool:
        record.msg = ["GET"]
        return True

    sink.addFilter(scrub)
    await serve(responding())
    assert sink.line["message"] == "['GET']"


async def test_a_line_within_a_context_has_its_fields(serve: Any, sink: Any) -> None:
    with LogContext("job", worker=7):
        await serve(responding())
    assert (sink.line["correlation_id"], sink.line["context"]) == ("c-1", {"worker": 7})


async def test_a_line_has_the_trace_of_the_exchange_or_of_the_current_span(serve: Any, sink: Any) -> None:
    def traced() -> None:
        exchange = current_exchange()
        assert exchange is not None
        exchange.span_context = span_context()

    with TracerProvider().get_tracer("t").start_as_current_span("outer") as span:
        await serve(responding(work=traced))
        await serve(responding())
    first, second = sink.lines
    assert (first["trace_id"], first["span_id"]) == ("a" * 32, "b" * 16)
    assert second["trace_id"] == f"{span.get_span_context().trace_id:032x}"


async def test_an_end_in_a_task_without_the_context_has_the_ids_all_the_same(serve: Any, sink: Any) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        import contextvars

        async def respond() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        await contextvars.Context().run(asyncio.get_running_loop().create_task, respond())

    await serve(app)
    assert sink.line["correlation_id"] == "c-1"


async def test_the_start_has_a_line_at_debug(serve: Any, sink: Any, logger: logging.Logger) -> None:
    logger.setLevel(logging.DEBUG)
    await serve(responding())
    started, ended = sink.lines
    assert (started["level"], started["message"], started["correlation_id"]) == ("DEBUG", "GET /x started", "c-1")
    assert (started["method"], started["path"]) == ("GET", "/x")
    assert ended["level"] == "INFO"


async def test_nothing_is_written_below_the_level_of_the_logger(serve: Any, sink: Any, logger: logging.Logger) -> None:
    logger.setLevel(logging.WARNING)
    await serve(responding())
    await serve(responding(500))
    assert [line["status_code"] for line in sink.lines] == [500]


@pytest.mark.parametrize(("status", "written"), [(200, 0), (404, 1), (500, 1), (503, 0)])
async def test_ops_paths_are_left_out_while_they_succeed_and_when_a_probe_fails(
    serve: Any, sink: Any, status: int, written: int
) -> None:
    def mark() -> None:
        exchange = current_exchange()
        assert exchange is not None
        exchange.operational = True

    await serve(responding(status, work=mark))
    assert len(sink.lines) == written


async def test_a_background_task_that_fails_has_a_line_of_its_own(sink: Any, logger: logging.Logger) -> None:
    async def broken() -> None:
        raise RuntimeError("later")

    async def home(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x", background=BackgroundTask(broken))

    logger.setLevel(logging.INFO)
    app: ASGIApp = Starlette(routes=[Route("/a/{b}", home)])
    app = CorrelationIdMiddleware(RequestLoggingMiddleware(app, logger=logger.name), generator=lambda: "c-1")
    with pytest.raises(RuntimeError, match="later"):
        await drive(app, http_scope("/a/1"))
    request, task = sink.lines
    assert (request["level"], request["outcome"]) == ("INFO", "completed")
    assert (task["level"], task["message"], task["correlation_id"]) == ("ERROR", "background task failed", "c-1")
    assert (task["method"], task["path"], task["route"]) == ("GET", "/a/1", "/a/{b}")
    assert (task["error"]["type"], task["error"]["message"]) == ("RuntimeError", "later")


async def test_a_background_task_without_a_route_has_a_line_too(serve: Any, sink: Any) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await responding()(scope, receive, send)
        raise RuntimeError("later")

    with pytest.raises(RuntimeError, match="later"):
        await serve(app)
    assert "route" not in sink.lines[1]


async def test_a_websocket_session_has_one_line_with_its_messages_and_close_code(serve: Any, sink: Any) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.send", "text": "hello"})
        await send({"type": "websocket.close", "code": 1000})

    await serve(
        app, websocket_scope("/chat"), [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hi"}]
    )
    line = sink.line
    assert (line["message"], line["level"], line["scheme"]) == ("WebSocket /chat 1000", "INFO", "ws")
    assert (line["close_code"], line["messages_in"], line["messages_out"]) == ("1000", 1, 1)
    assert (line["status_code"], line["bytes_in"], line["bytes_out"]) == (101, 2, 5)


async def test_a_websocket_whose_application_raises_is_an_error(serve: Any, sink: Any) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        await serve(app, websocket_scope("/chat"))
    assert (sink.line["level"], sink.line["close_code"], sink.line["error"]["type"]) == ("ERROR", "1011", "ValueError")


async def test_two_requests_at_once_never_mix(sink: Any, logger: logging.Logger) -> None:
    logger.setLevel(logging.INFO)
    turns = {"/a": asyncio.Event(), "/b": asyncio.Event()}
    other = {"/a": "/b", "/b": "/a"}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        bind(user_id=path, mine=path)
        turns[path].set()
        await turns[other[path]].wait()
        await responding(200, path.encode() * 2)(scope, receive, send)

    middleware = RequestLoggingMiddleware(app, logger=logger.name)
    await asyncio.gather(*(drive(middleware, http_scope(path, client=(path, 1))) for path in turns))
    assert len(sink.lines) == 2
    for line in sink.lines:
        assert line["user_id"] == line["client_ip"] == line["context"]["mine"] == line["path"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("logger", ""),
        ("logger", None),
        ("trusted_proxies", "10.0.0.1"),
        ("trusted_proxies", ["nonsense"]),
        ("user_id", "ann"),
        ("sampling", 0.5),
        ("capture", ["accept"]),
        ("settings", {}),
    ],
)
def test_a_wrong_option_is_refused(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=option):
        RequestLoggingMiddleware(responding(), **{option: value})


async def test_of_successes_a_share_is_written_and_says_so(serve: Any, sink: Any) -> None:
    for rate in (0, 0.4, 0.5, 1):  # the ID c-1 stands at 0.4585
        await serve(responding(), sampling=Sampling(rate))
    assert [line.get("sample_rate") for line in sink.lines] == [0.5, None]


@pytest.mark.parametrize("status", [404, 500])
async def test_errors_are_written_whatever_is_sampled(serve: Any, sink: Any, status: int) -> None:
    await serve(responding(status), sampling=Sampling(0))
    assert (sink.line["status_code"], "sample_rate" in sink.line) == (status, False)


async def test_a_route_that_is_sampled_is_the_template(sink: Any, logger: logging.Logger) -> None:
    async def item(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    middleware = Middleware(RequestLoggingMiddleware, logger=logger.name, sampling=Sampling({"/items/{item_id}": 0}))
    app = Starlette(routes=[Route("/items/{item_id}", item), Route("/health", item)], middleware=[middleware])
    logger.setLevel(logging.INFO)
    for path in ("/items/3", "/health"):
        await drive(app, http_scope(path))
    assert sink.line["path"] == "/health"


async def test_the_settings_say_what_is_sampled_unless_it_is_given(serve: Any, sink: Any) -> None:
    settings = Settings(log_sample_rates=(("*", 0.0),))
    await serve(responding(), settings=settings)
    assert sink.records == []
    await serve(responding(), settings=settings, sampling=Sampling())
    assert "sample_rate" not in sink.line


async def test_what_is_captured_is_in_the_line(serve: Any, sink: Any) -> None:
    capture = Capture(request_headers=["accept", "authorization"], request_body=["application/json"])
    headers = [(b"content-type", b"application/json"), (b"accept", b"a/b"), (b"authorization", b"Bearer x")]
    incoming = [{"type": "http.request", "body": b'{"user": {"token": "x", "name": "ann"}}'}]
    await serve(responding(), http_scope("/x", "POST", headers), incoming, capture=capture)
    line = sink.line
    assert line["request_headers"] == {"accept": "a/b", "authorization": "******"}
    assert line["request_body"] == {"user": {"token": "******", "name": "ann"}}


BYTES = st.binary(max_size=30)
NAMES = st.sampled_from([b"user-agent", b"cookie", b"authorization", b"x-forwarded-for", b"host"]) | BYTES
PATHS = st.text(st.characters(), max_size=30)


@given(
    path=PATHS,
    method=st.sampled_from(["GET", "HEAD"]) | PATHS,
    query=BYTES | st.builds(lambda a, b: b"token=%b&%b" % (a, b), BYTES, BYTES),
    headers=st.lists(st.tuples(NAMES, BYTES), max_size=5),
    bound=st.dictionaries(PATHS, PATHS | st.integers() | BYTES, max_size=3),
    client=st.none() | st.tuples(PATHS, st.integers()) | st.just(("10.0.0.1", 1)),
)
def test_every_request_whatever_its_bytes_has_one_valid_line(
    path: str, method: str, query: bytes, headers: Any, bound: dict[str, Any], client: Any
) -> None:
    texts: list[str] = []
    handler = logging.Handler()
    handler.setFormatter(StructuredLogFormatter("shop"))
    handler.emit = lambda record: texts.append(handler.format(record))  # type: ignore[method-assign]
    logger = logging.getLogger("test.request.hostile")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)

    def work() -> None:
        exchange = current_exchange()
        assert exchange is not None
        exchange.bind(**bound)

    app = RequestLoggingMiddleware(responding(work=work), logger=logger.name, trusted_proxies=["10.0.0.0/8"])
    asyncio.run(drive(app, http_scope(path, method, headers, query_string=query, client=client)))
    (text,) = texts
    assert len(text.splitlines()) == 1
    line: dict[str, Any] = json.loads(text)
    assert (line["status_code"], line["outcome"]) == (200, "completed")
    assert line["message"].isprintable()


async def _ignore(message: Message) -> None: ...


async def test_a_lifespan_passes_through_without_a_line(sink: Any, logger: logging.Logger) -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> Message: ...

    await RequestLoggingMiddleware(app, logger=logger.name)({"type": "lifespan"}, receive, _ignore)
    assert seen == ["lifespan"]
    assert sink.text == ""


async def test_a_request_that_was_never_answered_has_no_first_byte(serve: Any, sink: Any) -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    await serve(silent)
    assert (sink.line["outcome"], sink.line["status_code"]) == ("incomplete", 500)
    assert "ttfb_ms" not in sink.line


async def test_the_correlation_id_of_a_context_stands_in_where_the_exchange_has_none(
    sink: Any, logger: logging.Logger
) -> None:
    logger.setLevel(logging.INFO)
    with LogContext("job-7"):
        await drive(RequestLoggingMiddleware(responding(), logger=logger.name), http_scope("/x"))
    assert sink.line["correlation_id"] == "job-7"


async def test_no_span_is_looked_for_where_no_sdk_can_have_made_one(
    serve: Any, sink: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TracerProvider().get_tracer("t").start_as_current_span("outer"):
        monkeypatch.delitem(sys.modules, "opentelemetry.sdk.trace")
        await serve(responding())
    assert "trace_id" not in sink.line
