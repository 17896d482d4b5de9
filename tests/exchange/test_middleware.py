"""Opening and joining an exchange; the context it is found in."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import sys
import threading
from dataclasses import dataclass

import anyio
import anyio.to_thread
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import (
    SCOPE_KEY,
    Exchange,
    ExchangeMiddleware,
    current_exchange,
    failed_exchange,
    running_exchange,
    within_exchange,
)
from asgi_obs.testing import drive, http_scope, websocket_scope
from asgi_obs.types import Observer

START = {"type": "http.response.start", "status": 200, "headers": []}
DONE = {"type": "http.response.body", "body": b"ok"}


async def plain(scope, receive, send):
    await send(START)
    await send(DONE)
    return "returned"


def stranger(app):
    """A middleware of somebody else that hands everything on."""

    async def pass_on(scope, receive, send):
        return await app(scope, receive, send)

    return pass_on


def copying(app):
    """One that hands on a copy of the scope."""

    async def pass_on(scope, receive, send):
        return await app(dict(scope), receive, send)

    return pass_on


def directly(app):
    return app


BETWEEN = pytest.mark.parametrize("between", [directly, stranger, copying], ids=lambda function: function.__name__)


class Watching(ExchangeMiddleware, Observer):
    """The shape of every middleware here: its own observer."""

    def __init__(self, app, events, name=""):
        self.events = events
        self.name = name
        super().__init__(app, observers=(self,))

    def on_start(self, exchange):
        self.events.append(f"{self.name}start")
        return lambda: self.events.append(f"{self.name}undo")

    def on_response_start(self, exchange, message):
        self.events.append(f"{self.name}response_start")

    def on_end(self, exchange):
        self.events.append(f"{self.name}end")

    def on_return(self, exchange):
        self.events.append(f"{self.name}return")


class Second(Watching): ...


class Third(Watching): ...


class Fourth(Watching): ...


# What passes through


@pytest.mark.parametrize("kind", ["lifespan", "webtransport"])
def test_lifespan_and_unknown_scopes_pass_through_untouched(kind):
    got = []

    async def app(*args):
        got.extend(args)
        assert current_exchange() is None
        return "returned"

    arguments = ({"type": kind}, object(), object())
    result = asyncio.run(ExchangeMiddleware(app)(*arguments))

    assert result == "returned"
    assert all(a is b for a, b in zip(got, arguments, strict=True))
    assert got[0] == {"type": kind}


class Closing(Observer):
    def __init__(self, sent, error=None):
        self.sent = sent
        self.error = error

    async def on_shutdown(self):
        await asyncio.sleep(0)  # another task may run meanwhile
        self.sent.append({"type": "closing"})
        if self.error is not None:
            raise self.error


def lifespan(last_words):
    async def app(scope, receive, send):
        await send({"type": "lifespan.startup.complete"})
        await send({"type": last_words})
        return "returned"

    return app


@pytest.mark.parametrize("last_words", ["lifespan.shutdown.complete", "lifespan.shutdown.failed"])
@BETWEEN
def test_observers_hear_of_a_shutdown_before_the_server_does_and_from_the_inside_out(last_words, between):
    sent = []

    async def send(message):
        sent.append(message)

    class Inner(Closing):
        async def on_shutdown(self):
            self.sent.append({"type": "closing inside"})

    inner = ExchangeMiddleware(lifespan(last_words), observers=[Inner(sent)])
    app = ExchangeMiddleware(between(inner), observers=[Closing(sent)])
    assert asyncio.run(app({"type": "lifespan"}, object(), send)) == "returned"
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "closing inside",
        "closing",
        last_words,
    ]


def test_a_shutdown_goes_on_when_an_observer_fails(caplog):
    sent = []

    async def send(message):
        sent.append(message)

    observers = [Closing(sent), Closing(sent, LookupError("closed already"))]
    app = ExchangeMiddleware(lifespan("lifespan.shutdown.complete"), observers=observers)
    asyncio.run(app({"type": "lifespan"}, object(), send))
    assert [message["type"] for message in sent[1:]] == ["closing", "closing", "lifespan.shutdown.complete"]
    assert "Closing.on_shutdown failed" in caplog.text


@BETWEEN
def test_what_the_application_returns_is_passed_on(server, between):
    app = ExchangeMiddleware(between(Watching(plain, [])))

    assert server().run(app, http_scope()).result == "returned"


def test_the_scope_is_left_as_it_was_found(server):
    scope = http_scope()
    before = {key: value.copy() if isinstance(value, (dict, list)) else value for key, value in scope.items()}

    server().run(ExchangeMiddleware(plain), scope)

    assert scope == before


def test_every_key_of_the_scope_reaches_the_application(server):
    scope = http_scope(extensions={"http.response.push": {}}, unheard_of=object())
    expected = dict(scope)
    got = {}

    async def app(scope, receive, send):
        got.update(scope)

    server().run(ExchangeMiddleware(app), scope)

    assert isinstance(got.pop(SCOPE_KEY), Exchange)
    assert got == expected


def test_it_works_without_observers_and_under_trio(server):
    async def main():
        served = server()
        return await served.serve(ExchangeMiddleware(plain), http_scope())

    assert anyio.run(main, backend="trio").sent == [START, DONE]


# Wrong options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"app": None}, "app=None is not valid: expected an ASGI application"),
        ({"app": plain, "route_resolver": 5}, "route_resolver=5 is not valid: expected a callable that takes a scope"),
    ],
)
def test_a_wrong_option_is_rejected_with_what_is_allowed(options, message):
    with pytest.raises(ConfigurationError) as caught:
        ExchangeMiddleware(**options)

    assert str(caught.value) == message


# Open once, join further in


@BETWEEN
def test_four_middlewares_wrap_receive_and_send_once(server, between):
    seen = []

    async def app(scope, receive, send):
        seen.append((scope[SCOPE_KEY], receive, send))

    events = []
    stack = Fourth(between(Third(between(Second(between(Watching(app, events)), events)), events)), events)
    server().run(stack, http_scope())

    [(exchange, receive, send)] = seen
    assert (receive, send) == (exchange.receive, exchange.send)


@BETWEEN
def test_starts_run_inwards_and_ends_outwards_whatever_is_in_between(server, between):
    events = []
    stack = between(Watching(plain, events, "inner "))
    stack = Third(between(Second(stack, events, "middle ")), events, "outer ")

    server().run(stack, http_scope())

    assert [event for event in events if event.endswith("response_start")] == [
        "outer response_start",
        "middle response_start",
        "inner response_start",
    ]
    assert [event for event in events if not event.endswith("response_start")] == [
        "outer start",
        "middle start",
        "inner start",
        "inner end",
        "middle end",
        "outer end",
        *(["inner undo", "middle undo"] if between is not directly else []),
        "inner return",
        "middle return",
        "outer return",
        *(["inner undo", "middle undo"] if between is directly else []),
        "outer undo",
    ]


@BETWEEN
def test_an_observer_further_in_sees_the_same_exchange(server, recorder, make_recorder, between):
    inner = make_recorder()
    app = ExchangeMiddleware(between(ExchangeMiddleware(plain, observers=[inner])), observers=[recorder])

    server().run(app, http_scope())

    assert recorder.ended == inner.ended
    assert recorder.ended[0].bytes_out == 2


@BETWEEN
def test_a_stack_serves_many_requests_alike(server, make_recorder, between):
    outer, inner = make_recorder(), make_recorder()
    app = ExchangeMiddleware(between(ExchangeMiddleware(plain, observers=[inner])), observers=[outer])

    for _ in range(3):
        server().run(app, http_scope())

    assert outer.events == ["start", "response_start", "end", "return", "undo"] * 3
    assert sorted(inner.events) == sorted(outer.events)
    assert len(set(outer.ended)) == 3


@BETWEEN
def test_an_inner_middleware_can_be_shared_by_two_stacks(server, make_recorder, between):
    first, second, shared = make_recorder(), make_recorder(), make_recorder()
    inner = between(ExchangeMiddleware(plain, observers=[shared]))
    stacks = [ExchangeMiddleware(inner, observers=[outer]) for outer in (first, second)]

    for app in stacks * 2:
        server().run(app, http_scope())

    assert (len(first.ended), len(second.ended), len(shared.ended)) == (2, 2, 4)


@BETWEEN
def test_the_route_resolver_of_an_inner_middleware_counts_alike(server, recorder, between):
    """Whether two middlewares stand side by side or have a stranger in between must not change a label."""
    inner = ExchangeMiddleware(plain, route_resolver=lambda scope: "/resolved")

    server().run(ExchangeMiddleware(between(inner), observers=[recorder]), http_scope())

    assert recorder.at_end[0]["route"] == "/resolved"


@BETWEEN
def test_the_route_resolver_of_the_outermost_is_the_one_that_is_asked(server, recorder, between):
    inner = ExchangeMiddleware(plain, route_resolver=lambda scope: "/inner")
    outer = ExchangeMiddleware(between(inner), observers=[recorder], route_resolver=lambda scope: "/outer")

    server().run(outer, http_scope())

    assert recorder.at_end[0]["route"] == "/outer"


def test_a_subclass_with_a_call_of_its_own_is_not_skipped(server):
    calls = []

    class Counting(ExchangeMiddleware):
        async def __call__(self, scope, receive, send):
            calls.append(scope["path"])
            return await super().__call__(scope, receive, send)

    served = server().run(ExchangeMiddleware(Counting(plain)), http_scope("/a"))

    assert (calls, served.result) == (["/a"], "returned")


def test_hundreds_of_stacks_live_in_one_process(server):
    events = []
    stacks = [Second(stranger(Watching(plain, events, f"{n} ")), events, f"{n} ") for n in range(300)]

    for app in stacks:
        server().run(app, http_scope())

    assert events.count("299 end") == 2
    assert len(events) == 300 * 2 * 5


# The same middleware twice


@BETWEEN
def test_the_second_of_one_kind_does_nothing_and_that_is_said_once(server, caplog, between):
    events = []

    def build():
        return Watching(between(Watching(plain, events, "inner ")), events, "outer ")

    for app in (build(), build()):
        server().run(app, http_scope())
        server().run(app, http_scope())

    assert [event for event in events if event.startswith("inner")] == []
    assert events.count("outer end") == 4
    assert caplog.messages == ["Watching is in the stack twice: the inner one does nothing"]


@BETWEEN
def test_the_very_same_observer_twice_is_called_once(server, recorder, caplog, between):
    app = ExchangeMiddleware(between(ExchangeMiddleware(plain, observers=[recorder])), observers=[recorder])

    server().run(app, http_scope())

    assert len(recorder.ended) == 1
    assert caplog.messages == []


@BETWEEN
def test_two_observers_of_the_users_own_kind_are_both_called(server, make_recorder, between):
    outer, inner = make_recorder(), make_recorder()

    app = ExchangeMiddleware(between(ExchangeMiddleware(plain, observers=[inner])), observers=[outer])
    server().run(app, http_scope())

    assert (len(outer.ended), len(inner.ended)) == (1, 1)


@dataclass
class Tally(Observer):
    ended: int = 0

    def on_end(self, exchange):
        self.ended += 1


@BETWEEN
def test_two_observers_that_compare_equal_are_both_called(server, between):
    """A dataclass is equal to another as long as both have counted nothing."""
    outer, inner = Tally(), Tally()

    app = ExchangeMiddleware(between(ExchangeMiddleware(plain, observers=[inner])), observers=[outer])
    server().run(app, http_scope())

    assert (outer.ended, inner.ended) == (1, 1)


# Copied scopes


def test_a_joined_middleware_below_a_copied_scope_sees_the_copy(server):
    seen = []

    class Looking(Observer):
        def on_start(self, exchange):
            seen.append((exchange.scope is exchange.inner_scope, exchange.inner_scope.get("added")))

    def adding(app):
        async def pass_on(scope, receive, send):
            await app({**scope, "added": 1}, receive, send)

        return pass_on

    server().run(ExchangeMiddleware(adding(ExchangeMiddleware(plain, observers=[Looking()]))), http_scope())

    assert seen == [(False, 1)]


def test_no_scope_holds_its_exchange_after_the_request(server):
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)

    scope = http_scope()
    server().run(ExchangeMiddleware(copying(ExchangeMiddleware(app))), scope)

    assert scopes[0] is not scope
    assert SCOPE_KEY not in scope
    assert SCOPE_KEY not in scopes[0]


def test_one_scope_can_be_served_twice(server, recorder):
    app, scope = ExchangeMiddleware(plain, observers=[recorder]), http_scope()

    server().run(app, scope)
    server().run(app, scope)

    assert len(set(recorder.ended)) == 2


# The context


def test_outside_a_request_there_is_no_exchange():
    assert current_exchange() is None


def test_after_a_request_there_is_no_exchange():
    async def main():
        await drive(ExchangeMiddleware(plain), http_scope())
        return current_exchange()

    assert asyncio.run(main()) is None


def test_after_a_request_that_failed_there_is_no_exchange():
    async def app(scope, receive, send):
        raise ValueError("x")

    async def main():
        with pytest.raises(ValueError, match="x"):
            await drive(ExchangeMiddleware(app), http_scope())
        return current_exchange()

    assert asyncio.run(main()) is None


def paths_of(app, path="/", scope=None):
    """The exchange's path in every place that called `note_path`; "none" where there was no exchange."""
    _seen.clear()
    error = None
    try:
        asyncio.run(drive(app, scope or http_scope(path)))
    except RuntimeError as caught:
        error = caught
    return dict(_seen), error


_seen: dict[str, str] = {}


def note_path(place):
    exchange = current_exchange()
    _seen[place] = "none" if exchange is None else exchange.path


async def note_dependency():
    note_path("async dependency")


def note_sync_dependency():
    note_path("sync dependency")


async def note_background():
    note_path("async background")


def fastapi_app():
    app = FastAPI()

    @app.get("/async", dependencies=[Depends(note_dependency), Depends(note_sync_dependency)])
    async def handler(background: BackgroundTasks):
        note_path("handler")
        background.add_task(note_background)
        background.add_task(note_path, "sync background")
        await asyncio.create_task(note_in_a_task())
        await anyio.to_thread.run_sync(note_path, "thread pool")

    @app.get("/sync")
    def sync_handler():
        note_path("sync handler")

    @app.get("/raises")
    async def raising():
        raise LookupError

    @app.get("/fails")
    async def failing():
        raise RuntimeError

    @app.exception_handler(LookupError)
    async def handle(request, error):
        note_path("exception handler")
        return PlainTextResponse("handled")

    @app.exception_handler(Exception)
    async def handle_all(request, error):
        note_path("last exception handler")
        return PlainTextResponse("failed", status_code=500)

    return app


async def note_in_a_task():
    note_path("created task")


def behind_base_http_middleware(app):
    async def dispatch(request, call_next):
        note_path("dispatch")
        return await call_next(request)

    return BaseHTTPMiddleware(app, dispatch=dispatch)


@pytest.mark.parametrize("between", [directly, copying, behind_base_http_middleware], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("path", "places"),
    [
        (
            "/async",
            {
                "async dependency",
                "sync dependency",
                "handler",
                "created task",
                "thread pool",
                "async background",
                "sync background",
            },
        ),
        ("/sync", {"sync handler"}),
        ("/raises", {"exception handler"}),
        ("/fails", {"last exception handler"}),
    ],
)
def test_the_current_exchange_is_found_everywhere(between, path, places):
    seen, _ = paths_of(ExchangeMiddleware(between(ExchangeMiddleware(fastapi_app()))), path)
    seen.pop("dispatch", None)

    assert seen == dict.fromkeys(places, path)


def test_the_current_exchange_is_found_by_middlewares_further_in():
    seen, _ = paths_of(ExchangeMiddleware(behind_base_http_middleware(plain)), "/a")

    assert seen == {"dispatch": "/a"}


def test_the_current_exchange_is_found_in_the_background_task_of_a_response():
    def endpoint(request):
        return PlainTextResponse("ok", background=BackgroundTask(note_path, "background"))

    seen, _ = paths_of(ExchangeMiddleware(Starlette(routes=[Route("/a", endpoint)])), "/a")

    assert seen == {"background": "/a"}


def test_what_a_thread_binds_reaches_the_end(server, recorder):
    def in_a_thread():
        assert threading.current_thread() is not threading.main_thread()
        current_exchange().bind(user_id="u1")

    async def app(scope, receive, send):
        await anyio.to_thread.run_sync(in_a_thread)
        await plain(scope, receive, send)

    server().run(ExchangeMiddleware(app, observers=[recorder]), http_scope())

    assert recorder.at_end[0]["fields"] == {"user_id": "u1"}


def test_middlewares_added_to_starlette_are_joined_and_fused(server, recorder):
    app = Starlette(
        routes=[Route("/a", lambda request: PlainTextResponse("ok"))],
        middleware=[
            Middleware(ExchangeMiddleware, observers=[recorder]),
            Middleware(behind_base_http_middleware),
            Middleware(ExchangeMiddleware, observers=[recorder]),
        ],
    )

    served = server().run(app, http_scope("/a"))

    assert served.sent[0]["status"] == 200
    assert [(exchange.route, exchange.bytes_out) for exchange in recorder.ended] == [("/a", 2)]


# Requests at once


def test_two_interleaved_requests_never_mix(server, recorder):
    seen = []

    async def main():
        arrived = {"/a": asyncio.Event(), "/b": asyncio.Event()}

        async def app(scope, receive, send):
            path = scope["path"]
            current_exchange().bind(mine=path)
            arrived[path].set()
            for event in arrived.values():
                await event.wait()
            await send({**START, "status": 200 if path == "/a" else 404})
            await asyncio.sleep(0)
            await send({**DONE, "body": path.encode() * (1 if path == "/a" else 5)})
            seen.append((path, current_exchange().path))

        stack = ExchangeMiddleware(stranger(ExchangeMiddleware(app)), observers=[recorder])
        await asyncio.gather(*(server().serve(stack, http_scope(path)) for path in arrived))

    asyncio.run(main())

    assert sorted(seen) == [("/a", "/a"), ("/b", "/b")]
    assert sorted((e.path, e.status, e.bytes_out, e.fields["mine"]) for e in recorder.ended) == [
        ("/a", 200, 2, "/a"),
        ("/b", 404, 10, "/b"),
    ]


def test_a_request_made_inside_a_request_has_an_exchange_of_its_own(server, recorder):
    seen = []

    async def app(scope, receive, send):
        if scope["path"] == "/outer":
            await drive(stack, http_scope("/inner"))
        seen.append(current_exchange().path)
        await plain(scope, receive, send)

    stack = ExchangeMiddleware(app, observers=[recorder])
    server().run(stack, http_scope("/outer"))

    assert seen == ["/inner", "/outer"]
    assert [exchange.path for exchange in recorder.ended] == ["/inner", "/outer"]


def abandoned(stack):
    """A request in a context of its own that waits for something that never comes."""

    class Never:
        def __await__(self):
            yield

    async def receive():
        await Never()

    request = stack(http_scope("/abandoned"), receive, None)
    contextvars.copy_context().run(request.send, None)
    return request


async def waiting(scope, receive, send):
    await receive()


def test_a_request_that_is_closed_inside_another_one_leaves_it_alone(server):
    """The garbage collector closes an abandoned coroutine wherever it happens to run: in the middle of a request."""
    seen = []

    async def app(scope, receive, send):
        abandoned(ExchangeMiddleware(waiting)).close()
        seen.append(current_exchange().path)

    server().run(ExchangeMiddleware(app), http_scope("/alive"))

    assert seen == ["/alive"]


def test_a_request_that_the_garbage_collector_closes_is_cancelled(recorder):
    request = abandoned(ExchangeMiddleware(waiting, observers=[recorder]))

    def drop():
        nonlocal request
        del request
        gc.collect()

    contextvars.copy_context().run(drop)

    assert [exchange.outcome for exchange in recorder.ended] == ["cancelled"]
    assert current_exchange() is None


# The exchange of an error


def in_a_server(app, scope):
    """Run the application as a server does: handle its error outside, in the same task."""

    async def main():
        error = None
        try:
            await drive(app, scope)
        except ValueError as caught:
            error = caught
        return failed_exchange(error), failed_exchange(ValueError("another")), failed_exchange(None)

    return asyncio.run(main())


def test_the_servers_log_finds_the_exchange_that_failed(recorder):
    async def app(scope, receive, send):
        raise ValueError("x")

    exchange, other, none = in_a_server(ExchangeMiddleware(app, observers=[recorder]), http_scope())

    assert exchange is recorder.ended[0]
    assert (other, none) == (None, None)


def test_the_servers_log_finds_the_exchange_whose_background_work_failed(recorder):
    async def app(scope, receive, send):
        await plain(scope, receive, send)
        raise ValueError("x")

    exchange, *_ = in_a_server(ExchangeMiddleware(app, observers=[recorder]), http_scope())

    assert exchange is recorder.ended[0]
    assert isinstance(recorder.at_return[0]["late_exception"], ValueError)


def test_an_error_that_is_made_later_is_not_that_of_the_exchange():
    """It may well get the address of the one that is gone."""

    async def app(scope, receive, send):
        raise ValueError("x")

    async def main():
        with pytest.raises(ValueError, match="x"):
            await drive(ExchangeMiddleware(app), http_scope())
        later = [ValueError("later") for _ in range(1_000)]
        return {failed_exchange(error) for error in later}

    assert asyncio.run(main()) == {None}


def test_without_a_failure_there_is_no_failed_exchange():
    assert failed_exchange(ValueError("x")) is None


def test_websockets_are_opened_and_joined_alike(server, recorder, make_recorder):
    inner = make_recorder()

    async def app(scope, receive, send):
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    stack = ExchangeMiddleware(copying(ExchangeMiddleware(app, observers=[inner])), observers=[recorder])
    server().run(stack, websocket_scope())

    assert recorder.ended == inner.ended


def test_the_log_of_the_library_is_named_after_it(server, caplog):
    with caplog.at_level(logging.WARNING, logger="asgi_obs"):
        Watching(Watching(plain, []), [])

    assert [record.name for record in caplog.records] == ["asgi_obs"]


def test_a_route_resolver_of_the_outermost_is_kept_when_another_joins(server, recorder):
    inner = ExchangeMiddleware(plain, route_resolver=lambda scope: "/inner")
    outer = ExchangeMiddleware(stranger(inner), observers=[recorder], route_resolver=lambda scope: "/outer")

    server().run(outer, http_scope())

    assert recorder.at_end[0]["route"] == "/outer"


def test_work_for_an_exchange_can_be_done_in_the_context_of_another():
    seen = []

    async def app(scope, receive, send):
        outer = current_exchange()
        with within_exchange(None):
            seen.append(current_exchange())
        seen.append(current_exchange() is outer)
        await plain(scope, receive, send)

    asyncio.run(drive(ExchangeMiddleware(app), http_scope()))
    assert seen == [None, True]


def test_the_exchange_that_a_thread_is_busy_with_is_found_from_its_frames(recorder):
    found = []

    async def app(scope, receive, send):
        found.append(running_exchange(sys._getframe()))
        await plain(scope, receive, send)

    asyncio.run(drive(ExchangeMiddleware(app, observers=[recorder]), http_scope()))

    assert found == recorder.ended
    assert (running_exchange(sys._getframe()), running_exchange(None)) == (None, None)
