"""Correlation IDs: where they come from, where they go, and what never gets in."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
import threading
import uuid

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Request
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.routing import Mount, Route, WebSocketRoute

from asgi_obs import correlation, errors
from asgi_obs.correlation import (
    CorrelationIdMiddleware,
    get_correlation_id,
    hex_id,
    is_valid_correlation_id,
    ulid,
    uuid4,
    uuid7,
)
from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import ExchangeMiddleware, current_exchange
from asgi_obs.testing import drive, http_scope, websocket_scope
from asgi_obs.types import Observer

KEY = b"x-correlation-id"
VALID = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,128}")
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture(autouse=True)
def reports(monkeypatch):
    """The components whose errors were reported."""
    seen = []
    monkeypatch.setattr(errors, "_listeners", [seen.append])
    monkeypatch.setattr(errors, "_last_logged", {})
    return seen


async def plain(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"1"), (b"b", b"2")]})
    await send({"type": "http.response.body", "body": b""})


def ids(message, key=KEY):
    return [value for name, value in message.get("headers", []) if name.lower() == key]


def answer(app, *inbound, scope=None, key=KEY):
    """Serve a request with these inbound IDs; return the start of the response."""
    scope = scope or http_scope(headers=[(key, value) for value in inbound])
    return asyncio.run(drive(app, scope))[0]


def echoed(app, *inbound, **options):
    """The one ID of the response."""
    [value] = ids(answer(app, *inbound, **options))
    return value


# In and out


def test_a_valid_inbound_id_is_echoed():
    assert echoed(CorrelationIdMiddleware(plain), b"req-1/a:b@c~d+e=f.g_h") == b"req-1/a:b@c~d+e=f.g_h"


def test_a_request_without_an_id_gets_a_uuid4():
    assert UUID4.fullmatch(echoed(CorrelationIdMiddleware(plain)).decode())


def test_every_request_gets_an_id_of_its_own():
    app = CorrelationIdMiddleware(plain)

    assert len({echoed(app) for _ in range(100)}) == 100


@pytest.mark.parametrize("bad", [b"", b" ", b"a b", b"a,b", b"a\r\nb: c", b"\xc3\xa9", b"x" * 129, b"<script>", b"a\n"])
def test_a_rejected_id_is_replaced(bad):
    assert UUID4.fullmatch(echoed(CorrelationIdMiddleware(plain), bad).decode())


def test_the_longest_allowed_id_is_kept():
    assert echoed(CorrelationIdMiddleware(plain), b"x" * 128) == b"x" * 128


def test_of_several_inbound_ids_the_first_valid_one_counts():
    assert echoed(CorrelationIdMiddleware(plain), b"not valid", b"first", b"second") == b"first"


def test_another_header_can_be_chosen():
    app = CorrelationIdMiddleware(plain, header="X-Request-ID")
    start = answer(app, b"mine", key=b"x-request-id")

    assert ids(start, b"x-request-id") == [b"mine"]
    assert ids(start) == []


def test_another_generator_can_be_chosen():
    assert echoed(CorrelationIdMiddleware(plain, generator=lambda: "made")) == b"made"


def test_another_validator_can_be_chosen():
    app = CorrelationIdMiddleware(plain, validator=lambda value: value == "é")

    assert echoed(app, b"valid-for-others", b"\xe9") == b"\xe9"
    assert echoed(app, b"valid-for-others") != b"valid-for-others"


def test_a_scope_without_headers_or_state_gets_an_id():
    scope = http_scope()
    del scope["headers"], scope["state"]

    assert UUID4.fullmatch(echoed(CorrelationIdMiddleware(plain), scope=scope).decode())


def test_the_request_headers_are_left_alone():
    scope = http_scope(headers=[(b"a", b"1")])
    headers = scope["headers"]
    asyncio.run(drive(CorrelationIdMiddleware(plain), scope))

    assert scope["headers"] is headers
    assert headers == [(b"a", b"1")]


def test_the_id_is_written_into_the_request_headers_when_asked_for():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["headers"])
        await plain(scope, receive, send)

    given_headers = [(b"a", b"1"), (KEY, b"not valid"), (KEY, b"good"), (b"b", b"2")]
    scope = http_scope(headers=given_headers)
    asyncio.run(drive(CorrelationIdMiddleware(app, request_header=True), scope))

    assert seen == [[(b"a", b"1"), (b"b", b"2"), (KEY, b"good")]]
    assert len(given_headers) == 4


# The response


def test_the_applications_own_id_is_replaced_and_other_headers_keep_their_order():
    headers = [(b"z", b"1"), (b"X-Correlation-ID", b"own"), (b"a", b"2"), [KEY, b"own, too"], (b"z", b"3")]
    before = list(headers)

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})

    start = answer(CorrelationIdMiddleware(app), b"mine")

    assert start["headers"] == [(b"z", b"1"), (b"a", b"2"), (b"z", b"3"), (KEY, b"mine")]
    assert headers == before


def test_the_applications_own_message_is_not_changed():
    message = {"type": "http.response.start", "status": 200}

    async def app(scope, receive, send):
        await send(message)
        await send({"type": "http.response.body"})

    assert echoed(CorrelationIdMiddleware(app), b"mine") == b"mine"
    assert message == {"type": "http.response.start", "status": 200}


def test_headers_that_can_be_read_only_once_are_kept():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": iter([(b"a", b"1")])})
        await send({"type": "http.response.body"})

    assert answer(CorrelationIdMiddleware(app), b"mine")["headers"] == [(b"a", b"1"), (KEY, b"mine")]


def framework():
    async def endpoint(request):
        return PlainTextResponse("ok", headers={"X-Correlation-ID": "own"})

    async def redirect(request):
        return RedirectResponse("/ok")

    async def fails(request):
        raise ValueError("x")

    async def talk(websocket):
        await websocket.accept(headers=[(b"X-Correlation-ID", b"own")])
        await websocket.close()

    async def deny(websocket):
        await websocket.send_denial_response(PlainTextResponse("no", status_code=401))

    routes = [
        Route("/ok", endpoint),
        Route("/redirect", redirect),
        Route("/fails", fails),
        Route("/slash/", endpoint),
        Mount("/mount", routes=[Route("/ok", endpoint)]),
        WebSocketRoute("/talk", talk),
        WebSocketRoute("/deny", deny),
    ]
    return Starlette(routes=routes)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/ok", 200), ("/redirect", 307), ("/slash", 307), ("/nowhere", 404), ("/mount/ok", 200), ("/mount/nowhere", 404)],
)
def test_every_response_carries_the_id_once(path, status):
    start = answer(CorrelationIdMiddleware(framework()), scope=http_scope(path, headers=[(KEY, b"mine")]))

    assert (start["status"], ids(start)) == (status, [b"mine"])


def test_a_method_that_is_not_allowed_is_answered_with_the_id():
    start = answer(CorrelationIdMiddleware(framework()), scope=http_scope("/ok", "DELETE", [(KEY, b"mine")]))

    assert (start["status"], ids(start)) == (405, [b"mine"])


def test_a_500_of_the_framework_carries_the_id():
    sent = []

    async def send(message):
        sent.append(message)

    with pytest.raises(ValueError, match="x"):
        asyncio.run(CorrelationIdMiddleware(framework())(http_scope("/fails", headers=[(KEY, b"mine")]), None, send))

    assert (sent[0]["status"], ids(sent[0])) == (500, [b"mine"])


@pytest.mark.parametrize(("path", "kind"), [("/talk", "websocket.accept"), ("/deny", "websocket.http.response.start")])
def test_the_answer_to_a_websocket_handshake_carries_the_id_once(path, kind):
    extensions = {"websocket.http.response": {}}
    scope = websocket_scope(path, headers=[(KEY, b"mine")], extensions=extensions)

    start = answer(CorrelationIdMiddleware(framework()), scope=scope)

    assert (start["type"], ids(start)) == (kind, [b"mine"])


def test_a_bare_denial_of_a_websocket_is_left_as_it_is():
    start = answer(CorrelationIdMiddleware(framework()), scope=websocket_scope("/nowhere", headers=[(KEY, b"mine")]))

    assert start["type"] == "websocket.close"
    assert "headers" not in start


def test_the_response_to_an_exchange_that_lost_its_id_is_left_as_it_is():
    async def app(scope, receive, send):
        current_exchange().correlation_id = None
        await plain(scope, receive, send)

    assert ids(answer(CorrelationIdMiddleware(app), b"mine")) == []


# Where the application finds it


seen: dict[str, str | None] = {}


def see(place):
    seen[place] = get_correlation_id()


def see_sync_dependency():
    see("sync dependency")


async def see_async_dependency():
    see("async dependency")


async def see_in_a_task():
    see("task")


def fastapi_app():
    app = FastAPI()

    @app.get("/async", dependencies=[Depends(see_sync_dependency), Depends(see_async_dependency)])
    async def handler(request: Request, background: BackgroundTasks):
        see("handler")
        seen["request.state"] = request.state.correlation_id
        seen["exchange"] = current_exchange().correlation_id
        await asyncio.create_task(see_in_a_task())
        await asyncio.to_thread(see, "thread")
        background.add_task(see, "background")

    @app.get("/sync")
    def sync_handler():
        see("sync handler")

    @app.get("/raises")
    async def raises():
        raise LookupError

    @app.exception_handler(LookupError)
    async def handle(request, error):
        see("exception handler")
        return PlainTextResponse("handled")

    return app


def behind_base_http_middleware(app):
    async def dispatch(request, call_next):
        response = await call_next(request)
        see("dispatch")
        return response

    return BaseHTTPMiddleware(app, dispatch=dispatch)


@pytest.mark.parametrize(
    "outside", [CorrelationIdMiddleware, lambda app: CorrelationIdMiddleware(behind_base_http_middleware(app))]
)
@pytest.mark.parametrize(
    ("path", "places"),
    [
        (
            "/async",
            {
                "sync dependency",
                "async dependency",
                "handler",
                "request.state",
                "exchange",
                "task",
                "thread",
                "background",
            },
        ),
        ("/sync", {"sync handler"}),
        ("/raises", {"exception handler"}),
    ],
)
def test_the_id_is_found_everywhere_in_a_request(outside, path, places):
    seen.clear()
    answer(outside(fastapi_app()), scope=http_scope(path, headers=[(KEY, b"mine")]))
    seen.pop("dispatch", None)

    assert seen == dict.fromkeys(places, "mine")


def test_the_id_is_found_in_a_base_http_middleware_after_the_response():
    seen.clear()
    answer(CorrelationIdMiddleware(behind_base_http_middleware(plain)), b"mine")

    assert seen == {"dispatch": "mine"}


def test_outside_a_request_there_is_no_id():
    async def main():
        before = get_correlation_id()
        await drive(CorrelationIdMiddleware(plain), http_scope())
        return before, get_correlation_id()

    assert asyncio.run(main()) == (None, None)


def test_in_an_exchange_without_the_middleware_there_is_no_id():
    async def app(scope, receive, send):
        see("handler")

    seen.clear()
    asyncio.run(drive(ExchangeMiddleware(app), http_scope()))

    assert seen == {"handler": None}


def test_the_state_reaches_an_application_below_a_copied_scope():
    states = []

    async def app(scope, receive, send):
        states.append(scope["state"]["correlation_id"])

    async def copying(scope, receive, send):
        copy = dict(scope)
        del copy["state"]
        await CorrelationIdMiddleware(app)(copy, receive, send)

    asyncio.run(drive(ExchangeMiddleware(copying), http_scope(headers=[(KEY, b"mine")])))

    assert states == ["mine"]


def test_two_interleaved_requests_never_mix():
    async def main():
        arrived = [asyncio.Event(), asyncio.Event()]
        found = []

        async def app(scope, receive, send):
            arrived[int(scope["path"][1:])].set()
            for event in arrived:
                await event.wait()
            found.append((scope["path"], get_correlation_id(), scope["state"]["correlation_id"]))
            await plain(scope, receive, send)

        stack = CorrelationIdMiddleware(app)
        scopes = [http_scope(f"/{n}", headers=[(KEY, b"id-%d" % n)]) for n in range(2)]
        starts = await asyncio.gather(*(drive(stack, scope) for scope in scopes))
        return sorted(found), [ids(messages[0]) for messages in starts]

    assert asyncio.run(main()) == (
        [("/0", "id-0", "id-0"), ("/1", "id-1", "id-1")],
        [[b"id-0"], [b"id-1"]],
    )


# Callables of the user that fail


def test_a_generator_that_raises_is_reported_and_replaced(reports):
    def generator():
        raise ValueError("x")

    assert UUID4.fullmatch(echoed(CorrelationIdMiddleware(plain, generator=generator)).decode())
    assert reports == ["CorrelationIdMiddleware.generator"]


def test_a_validator_that_raises_is_reported_and_rejects(reports):
    def validator(value):
        raise ValueError("x")

    assert UUID4.fullmatch(echoed(CorrelationIdMiddleware(plain, validator=validator), b"mine").decode())
    assert reports == ["CorrelationIdMiddleware.validator"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("header", ""),
        ("header", "two words"),
        ("header", "X-Ünicode"),
        ("header", "a\r\nb"),
        ("header", "a:"),
        ("header", b"bytes"),
        ("header", None),
        ("generator", None),
        ("generator", "uuid4"),
        ("validator", None),
        ("validator", True),
    ],
)
def test_a_wrong_option_is_rejected_with_what_is_allowed(option, value):
    with pytest.raises(ConfigurationError, match=f"{option}=.* is not valid: expected a ") as caught:
        CorrelationIdMiddleware(plain, **{option: value})

    assert (caught.value.option, caught.value.value) == (option, value)


def test_options_are_keyword_only():
    with pytest.raises(TypeError, match="positional"):
        CorrelationIdMiddleware(plain, "X-Request-ID")


# Hostile values


class Records(logging.Handler):
    def __init__(self):
        super().__init__(logging.DEBUG)
        self.lines = []
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))

    def emit(self, record):
        self.lines.append(self.format(record) + repr(record.__dict__))


@settings(deadline=None)
@given(st.lists(st.binary(max_size=140) | st.from_regex(VALID, fullmatch=True), min_size=1, max_size=3))
def test_whatever_comes_in_a_valid_id_goes_out_and_no_bad_one_is_logged(inbound):
    records, logger = Records(), logging.getLogger("asgi_obs")
    level = logger.level
    logger.addHandler(records)
    logger.setLevel(logging.DEBUG)
    try:
        value = echoed(CorrelationIdMiddleware(plain), *inbound)
    finally:
        logger.removeHandler(records)
        logger.setLevel(level)

    valid = [item for item in inbound if VALID.fullmatch(item)]
    assert (value == valid[0]) if valid else UUID4.fullmatch(value.decode())
    bad = [item.decode("latin-1") for item in inbound if len(item) > 10 and not VALID.fullmatch(item)]
    assert not any(item in line or repr(item)[1:-1] in line for item in bad for line in records.lines)


def test_a_rejected_id_is_logged_without_its_value(caplog):
    with caplog.at_level(logging.DEBUG, logger="asgi_obs"):
        echoed(CorrelationIdMiddleware(plain), b"evil value")

    assert caplog.messages == ["inbound correlation ID rejected: 10 bytes"]


@pytest.mark.parametrize("value", ["a" * 128, "0", "A-Z.a_z~:/+=@"])
def test_a_valid_id_is_told(value):
    assert is_valid_correlation_id(value) is True


@pytest.mark.parametrize("value", ["", "a" * 129, "a\n", "٣", "ﬁ", "a b", "a;b", '"', "\x00"])
def test_an_invalid_id_is_told(value):
    assert is_valid_correlation_id(value) is False


# Generators


GENERATORS = pytest.mark.parametrize("generate", [uuid4, uuid7, ulid, hex_id], ids=lambda function: function.__name__)


@GENERATORS
def test_generated_ids_are_unique(generate):
    assert len({generate() for _ in range(100_000)}) == 100_000


@GENERATORS
def test_generated_ids_are_unique_over_threads(generate):
    made = [[] for _ in range(4)]
    threads = [
        threading.Thread(target=lambda mine: mine.extend(generate() for _ in range(20_000)), args=(mine,))
        for mine in made
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set().union(*made)) == 80_000


@GENERATORS
def test_generated_ids_pass_the_default_validator(generate):
    assert all(is_valid_correlation_id(generate()) for _ in range(1_000))


@GENERATORS
def test_a_forked_child_makes_ids_of_its_own(generate):
    """In a process of its own: forking one with threads, as that of the tests may be, is asking for trouble."""
    program = f"""
import os
from asgi_obs.correlation import {generate.__name__} as generate
generate()
reading, writing = os.pipe()
child = os.fork()
made = "\\n".join(generate() for _ in range(2_000))
if child == 0:
    with open(writing, "w") as pipe:
        pipe.write(made)
    os._exit(0)
os.close(writing)
with open(reading) as pipe:
    theirs = set(pipe.read().split())
os.waitpid(child, 0)
assert len(theirs) == 2_000, len(theirs)
assert not theirs & set(made.split()), "the same IDs"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_the_library_can_be_imported_where_processes_cannot_be_forked():
    program = "import os; del os.fork, os.register_at_fork; from asgi_obs.correlation import uuid4; print(uuid4())"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert UUID4.fullmatch(done.stdout.strip())


def test_a_uuid4_is_a_random_one():
    made = [uuid.UUID(uuid4()) for _ in range(1_000)]

    assert {(item.version, item.variant) for item in made} == {(4, uuid.RFC_4122)}
    assert varying_bits(item.int for item in made) == 122


def test_a_uuid7_sorts_by_time(monkeypatch):
    made = at_times(monkeypatch, uuid7)
    parsed = [uuid.UUID(item) for item in made]

    assert {(item.version, item.variant) for item in parsed} == {(7, uuid.RFC_4122)}
    assert made == sorted(made)
    assert [item.int >> 80 for item in parsed] == MILLISECONDS
    assert varying_bits(uuid.UUID(uuid7()).int for _ in range(1_000)) >= 74


def test_a_ulid_sorts_by_time(monkeypatch):
    made = at_times(monkeypatch, ulid)

    assert all(re.fullmatch(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", item) for item in made)
    assert made == sorted(made)
    assert [from_crockford(item) >> 80 for item in made] == MILLISECONDS
    assert varying_bits(from_crockford(ulid()) for _ in range(1_000)) >= 80


def test_a_hex_id_is_32_random_digits():
    assert all(re.fullmatch(r"[0-9a-f]{32}", hex_id()) for _ in range(1_000))
    assert varying_bits(int(hex_id(), 16) for _ in range(1_000)) == 128


MILLISECONDS = [0, 1, 1_600_000_000_000, 1_600_000_000_001, 2**47, 2**48 - 1]


def at_times(monkeypatch, generate):
    """What is generated in each of the milliseconds."""

    class Clock:
        now = 0

        def time_ns(self):
            return self.now * 1_000_000 + 999_999

    clock = Clock()
    with monkeypatch.context() as patch:
        patch.setattr(correlation, "time", clock)
        made = []
        for clock.now in MILLISECONDS:
            made.append(generate())
    return made


def from_crockford(text):
    number = 0
    for character in text:
        number = number * 32 + "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(character)
    return number


def varying_bits(numbers):
    """How many bits are not the same in all of them."""
    ones, zeros = 0, 0
    for number in numbers:
        ones |= number
        zeros |= ~number
    return (ones & zeros).bit_count()


# Together with others


def test_the_middleware_twice_echoes_one_id():
    app = CorrelationIdMiddleware(CorrelationIdMiddleware(plain, generator=lambda: "inner"), generator=lambda: "outer")

    assert echoed(app) == b"outer"


def test_an_observer_further_out_finds_the_id_at_the_end():
    found = []

    class Looking(Observer):
        def on_end(self, exchange):
            found.append(exchange.correlation_id)

    async def stranger(scope, receive, send):
        await inner(dict(scope), receive, send)

    inner = CorrelationIdMiddleware(plain)
    answer(ExchangeMiddleware(stranger, observers=[Looking()]), b"mine")

    assert found == ["mine"]


def test_it_can_be_added_to_starlette_and_joins_there():
    app = framework()
    app.add_middleware(CorrelationIdMiddleware, header="X-Request-ID")

    start = answer(CorrelationIdMiddleware(app, header="X-Request-ID"), scope=http_scope("/ok", headers=[]))

    assert len(ids(start, b"x-request-id")) == 1


@pytest.mark.parametrize("made", [None, 7, "", "two\r\nlines", "caf\xe9", "\u20ac"])
def test_a_generator_that_makes_no_header_value_is_reported_and_replaced(reports, made):
    sent = echoed(CorrelationIdMiddleware(plain, generator=lambda: made))

    assert UUID4.fullmatch(sent.decode())
    assert reports == ["CorrelationIdMiddleware.generator"]


def test_what_is_not_printable_is_not_kept_whatever_the_validator_says():
    assert UUID4.fullmatch(echoed(CorrelationIdMiddleware(plain, validator=lambda text: True), b"a\x1b[2Jb").decode())
