"""The fields of an exchange, and what an application's exception does to it."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from asgi_obs.exchange import ExchangeMiddleware, current_exchange
from asgi_obs.testing import drive, http_scope, websocket_scope
from asgi_obs.types import Observer


def start(status=200):
    return {"type": "http.response.start", "status": status, "headers": []}


DONE = {"type": "http.response.body", "body": b""}
DISCONNECT = {"type": "http.disconnect"}


def inside(look, scope=None):
    """What `look(exchange)` says in the middle of a request."""
    seen = []

    async def app(scope, receive, send):
        seen.append(look(current_exchange()))

    asyncio.run(drive(ExchangeMiddleware(app), scope or http_scope("/a", "PUT")))
    return seen[0]


# Fields


def test_nothing_of_the_end_is_known_before_it():
    def look(exchange):
        return (exchange.outcome, exchange.status, exchange.ended_at, exchange.returned_at, exchange.route)

    assert inside(look) == (None,) * 5


def test_the_duration_runs_until_the_end(clock):
    def look(exchange):
        clock.now += 4
        return exchange.duration, exchange.time_to_first_byte

    assert inside(look) == (4.0, None)


def test_an_http_exchange_that_has_not_responded_is_no_event_stream():
    assert inside(lambda exchange: exchange.event_stream) is False


def test_the_scope_is_the_one_of_the_server():
    scope = http_scope()

    assert inside(lambda exchange: exchange.scope is scope and exchange.inner_scope is scope, scope)


def test_a_scope_without_method_or_path_is_observed():
    scope = websocket_scope()
    del scope["path"]

    assert inside(lambda exchange: (exchange.method, exchange.path), scope) == ("GET", "")


def test_headers_are_found_by_name_and_the_last_of_several_counts():
    scope = http_scope(headers=[(b"a", b"1"), [b"b", b"2"], (b"a", b"3")])

    assert inside(lambda exchange: exchange.headers, scope) == {b"a": b"3", b"b": b"2"}


@pytest.mark.parametrize("headers", [None, 5, [5], [(b"a",)], [([], b"")]])
def test_malformed_headers_are_no_headers(headers):
    assert inside(lambda exchange: exchange.headers, {**http_scope(), "headers": headers}) == {}


def test_missing_headers_are_no_headers():
    scope = http_scope()
    del scope["headers"]

    assert inside(lambda exchange: exchange.headers, scope) == {}


def test_bound_fields_add_up_and_the_last_value_counts():
    def look(exchange):
        assert exchange.fields is None
        exchange.bind(user_id="u1", tenant="acme")
        exchange.bind(user_id="u2")
        return exchange.fields

    assert inside(look) == {"user_id": "u2", "tenant": "acme"}


def test_an_observer_finds_its_own_notes_and_nobody_elses():
    def look(exchange):
        unknown = exchange.noted("mine")
        exchange.note("mine", 1)
        exchange.note("theirs", 2)
        return unknown, exchange.noted("mine"), exchange.noted("theirs"), exchange.noted("other")

    assert inside(look) == (None, 1, 2, None)


def test_a_route_that_the_application_set_is_believed(server, recorder):
    async def app(scope, receive, send):
        current_exchange().route = "/mine/{id}"
        assert current_exchange().resolve_route() == "/mine/{id}"
        await send(start())
        await send(DONE)

    server().run(ExchangeMiddleware(app, observers=[recorder]), http_scope("/mine/1"))

    assert recorder.at_end[0]["route"] == "/mine/{id}"


def test_the_route_can_be_asked_for_before_the_end():
    class Route:
        endpoint = print
        path_format = "/a/{id}"

    def look(exchange):
        before = exchange.resolve_route()
        exchange.scope.update(endpoint=print, route=Route, router=None)
        return before, exchange.resolve_route(), exchange.route

    assert inside(look) == (None, "/a/{id}", None)


# Exceptions of the application


class Unhelpful(Exception):
    """An exception whose `exceptions` is not what that of a group is."""

    def __init__(self, exceptions):
        self.exceptions = exceptions


class Guarded(Exception):
    @property
    def exceptions(self):
        raise RuntimeError("not yet")


UNHELPFUL = [Unhelpful(5), Unhelpful({"row 1": "bad"}), Guarded()]


def names(error):
    return f"{type(error).__name__} {error.args}"


@pytest.mark.parametrize("error", UNHELPFUL, ids=names)
def test_the_error_of_an_application_whose_client_left_propagates_whatever_it_looks_like(server, recorder, error):
    async def app(scope, receive, send):
        await receive()
        raise error

    served = server([DISCONNECT]).run(ExchangeMiddleware(app, observers=[recorder]), http_scope())

    assert served.error is error
    assert [exchange.outcome for exchange in recorder.ended] == ["error"]


@pytest.mark.parametrize("error", UNHELPFUL, ids=names)
def test_the_error_of_background_work_propagates_whatever_it_looks_like(server, recorder, error):
    async def app(scope, receive, send):
        await send(start())
        await send(DONE)
        raise error

    served = server().run(ExchangeMiddleware(app, observers=[recorder]), http_scope())

    assert served.error is error
    assert recorder.at_return[0]["late_exception"] is error


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError()])
def test_an_exception_propagates_as_the_very_same_object(recorder, error):
    async def app(scope, receive, send):
        raise error

    with pytest.raises(type(error)) as caught:
        # Without an event loop, which has its own way with SystemExit: nothing here ever has to wait.
        ExchangeMiddleware(app, observers=[recorder])(http_scope(), None, None).send(None)

    assert caught.value is error
    assert (error.__cause__, error.__context__) == (None, None)
    assert recorder.at_end[0]["exception"] is error


# Memory


class Kept:
    """Something that lives as long as the exchange it is noted on."""


class Noting(Observer):
    def __init__(self):
        self.references = []

    def on_start(self, exchange):
        kept = Kept()
        exchange.note(self, kept)
        self.references.append(weakref.ref(kept))


@pytest.fixture
def without_gc():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def alive_after(noting, app, make_scope):
    """How many exchanges live on when two requests are over, each in its own task as servers have it."""

    async def request():
        try:
            await drive(app, make_scope())
        except ValueError:
            pass

    for _ in range(2):
        await asyncio.create_task(request())
    await asyncio.sleep(0)  # the callback that woke us up holds the last task
    return sum(reference() is not None for reference in noting.references)


@pytest.mark.usefixtures("without_gc")
@pytest.mark.parametrize("make_scope", [http_scope, websocket_scope])
def test_an_exchange_is_freed_without_the_garbage_collector(make_scope):
    async def app(scope, receive, send):
        await receive()

    noting = Noting()
    assert asyncio.run(alive_after(noting, ExchangeMiddleware(app, observers=[noting]), make_scope)) == 0
    assert len(noting.references) == 2


@pytest.mark.usefixtures("without_gc")
@pytest.mark.parametrize("copies", [1, 2])
def test_an_exchange_whose_scope_was_copied_is_freed_without_the_garbage_collector(copies):
    async def app(scope, receive, send):
        scope["a cycle"] = scope["asgi_obs.exchange"].inner_scope is scope

    def copying(app):
        async def copy(scope, receive, send):
            await app(dict(scope), receive, send)

        return copy

    noting, inner = Noting(), app
    for _ in range(copies):
        inner = copying(ExchangeMiddleware(inner))

    assert asyncio.run(alive_after(noting, ExchangeMiddleware(inner, observers=[noting]), http_scope)) == 0


@pytest.mark.usefixtures("without_gc")
def test_a_failed_exchange_is_freed_without_the_garbage_collector():
    """Otherwise a burst of errors keeps request bodies, scopes and frames alive until the collector's next full run."""

    async def app(scope, receive, send):
        raise ValueError("x")

    noting = Noting()
    assert asyncio.run(alive_after(noting, ExchangeMiddleware(app, observers=[noting]), http_scope)) == 0
