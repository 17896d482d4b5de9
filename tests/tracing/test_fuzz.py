"""What a caller sends as trace context never breaks a request, costs memory, or is written to a log."""

from __future__ import annotations

import asyncio
import gc
import logging
import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import TracerProvider

from asgi_obs import TracingMiddleware, errors
from asgi_obs.testing import drive, http_scope
from asgi_obs.tracing.carrier import well_formed
from asgi_obs.types import Scope
from tests.tracing.oracle import PARENT_ID, SETTINGS, TRACE_ID, Caller, Case, Headers, Sent, observe, ours, unwrapped
from tests.tracing.oracle_requests import ANSWERS, BAGS, CALLERS

PARENT: Final = f"00-{TRACE_ID}-{PARENT_ID}-01".encode()
LARGE: Final = 100_000
STORY: Final = ANSWERS[0]


class Everything(logging.Handler):
    """Keeps the text of every record, with its arguments and its exception."""

    def __init__(self) -> None:
        super().__init__(1)
        self.texts: list[str] = []
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "asyncio":  # which loop it is
            self.texts.append(f"{record.name} {self.format(record)} {record.args!r}")


@pytest.fixture(scope="module")
def log() -> Iterator[Everything]:
    """All that any logger says, at any level."""
    root = logging.getLogger()
    level, handler = root.level, Everything()
    root.addHandler(handler)
    root.setLevel(1)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


class Raises(TextMapPropagator):
    """A propagator that fails, and says on what."""

    fields = frozenset[str]()  # type: ignore[assignment]

    def extract(self, carrier: Any, context: Context | None = None, getter: Any = None) -> Context:
        raise ValueError([getter.get(carrier, name) for name in (*getter.keys(carrier), *W3C)])

    def inject(self, carrier: Any, context: Context | None = None, setter: Any = None) -> None:
        raise AssertionError  # pragma: no cover - nothing goes out here


W3C: Final = ("traceparent", "tracestate", "baggage")
B3: Final = ("b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "x-b3-flags")

SEEDS: Final = (
    b"",
    PARENT,
    PARENT[:-2] + b"00",
    b"01" + PARENT[2:] + b"-later",
    b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
    b"user=7;ttl=1,plan=gold",
    b"%00%ff=%e2%82",
    f"{TRACE_ID}-{PARENT_ID}-1".encode(),
    TRACE_ID.encode(),
    PARENT_ID.encode(),
    b"hostile\r\n",
)


def mutated(value: bytes, place: int, inserted: bytes) -> bytes:
    place %= len(value) + 1
    return value[:place] + inserted + value[place + 1 :]


VALUES: Final = st.one_of(
    st.binary(max_size=300),
    st.sampled_from(SEEDS),
    st.builds(mutated, st.sampled_from(SEEDS), st.integers(0, 300), st.binary(max_size=3)),
    st.builds(
        lambda unit, size: unit * (size // len(unit)),
        st.sampled_from((b"x", b"\xff", b",", b"=", b"a=1,", b";")),
        st.integers(0, LARGE),
    ),
)


def headers_of(names: Iterable[str]) -> st.SearchStrategy[Headers]:
    single = st.lists(st.tuples(st.sampled_from([name.encode() for name in names]), VALUES), max_size=8)
    many = st.builds(
        lambda name, value, count: [(name, value)] * count,
        st.sampled_from([name.encode() for name in names]),
        st.sampled_from(SEEDS),
        st.integers(0, 300),
    )
    return st.builds(lambda one, more: tuple(one + more), single, many | st.just([]))


def raw_in(text: str, headers: Headers) -> list[str]:
    """The values in a text that nobody should believe."""
    values = {value.decode("latin-1") for _, value in headers}
    believed = {value for value in values if any(well_formed(name, value) for name in (*W3C, "b3"))}
    for value in sorted(believed, key=len, reverse=True):
        text = text.replace(value.strip(), "")
    return [value for value in values - believed if len(value) > 3 and (value in text or repr(value)[1:-1] in text)]


def case_with(headers: Headers) -> Case:
    return Case(STORY, client=("203.0.113.7", 50_000), more=headers)


quick: Final = hypothesis(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(headers=headers_of(W3C))
@example(headers=((b"traceparent", PARENT), (b"tracestate", b"a=1,secretvalue")))
@example(headers=((b"baggage", b"x" * LARGE),))
@example(headers=((b"baggage", b"key=" + b"v" * 5000),))
@example(headers=((b"baggage", b",".join(b"k%d=v" % n for n in range(200))),))
@example(headers=((b"baggage", b",".join(b"k%d=%s" % (n, b"v" * 200) for n in range(60))),))
@example(headers=((b"traceparent", PARENT), *[(b"tracestate", b"k=1")] * 300))
def test_no_trace_context_breaks_a_request_or_is_logged(log: Everything, headers: Headers) -> None:
    log.texts.clear()

    found = observe(case_with(headers), ours())

    assert found["the request"] == observe(case_with(headers), unwrapped)["the request"]
    # Nothing at all, so nothing raw: what may not be logged is not shown to those who would.
    assert log.texts == []


@quick
@given(headers=headers_of(W3C), trusted=st.booleans())
def test_nothing_reaches_the_application_but_what_is_well_formed(headers: Headers, trusted: bool) -> None:
    found = observe(case_with(headers), ours(trust_incoming=trusted))

    assert len(found.get("trace state", "")) <= 512
    assert len(found["baggage"]) <= 64
    assert sum(map(len, found["baggage"].values())) <= 8192


@quick
@given(headers=headers_of((*B3, "baggage")))
def test_no_b3_breaks_a_request_or_is_logged(log: Everything, headers: Headers) -> None:
    b3 = pytest.importorskip("opentelemetry.propagators.b3", reason="opentelemetry-propagator-b3 is not installed")
    log.texts.clear()

    found = observe(case_with(headers), ours(propagator=b3.B3MultiFormat()))

    assert found["the request"] == observe(case_with(headers), unwrapped)["the request"]
    assert log.texts == []


def test_b3_is_continued() -> None:
    b3 = pytest.importorskip("opentelemetry.propagators.b3", reason="opentelemetry-propagator-b3 is not installed")
    headers = ((b"b3", f"{TRACE_ID}-{PARENT_ID}-1".encode()), (b"traceparent", b"00-" + b"a" * 32 + PARENT[35:]))

    assert observe(case_with(headers), ours(propagator=b3.B3SingleFormat()))["parent"] == (TRACE_ID, PARENT_ID, 1)


@quick
@given(headers=headers_of((*W3C, *B3)))
def test_a_propagator_that_fails_breaks_nothing_and_logs_nothing_raw(log: Everything, headers: Headers) -> None:
    log.texts.clear()
    errors._last_logged.clear()

    found = observe(case_with(headers), ours(propagator=Raises()))

    assert found["the request"] == observe(case_with(headers), unwrapped)["the request"]
    assert (found["name"], found["parent"], found["baggage"]) == ("GET", None, {})
    [text] = log.texts
    assert raw_in(text, headers) == []


def raises(scope: Scope) -> bool:
    raise LookupError(scope["client"])


UNTRUSTED: Final = {"nobody": False, "others": ["10.0.0.0/8", "fd00::/8"], "a function that fails": raises}


@pytest.mark.parametrize("trust", UNTRUSTED.values(), ids=UNTRUSTED)
@pytest.mark.parametrize(("caller", "bag"), list(product(CALLERS, BAGS)))
def test_who_is_not_trusted_gets_a_new_trace_with_a_link(caller: Caller, bag: Sent, trust: Any) -> None:
    found = observe(Case(STORY, client=("203.0.113.7", 1), caller=caller, bag=bag), ours(trust_incoming=trust))

    assert (found["name"], found["parent"], found["trace state"], found["baggage"]) == ("GET", None, "", {})
    links = [(link.context, link.attributes) for link in found["links"]]
    told = [(f"{context.trace_id:032x}", f"{context.span_id:016x}", context.is_remote) for context, _ in links]
    assert told == [(TRACE_ID, PARENT_ID, True)] * caller.continued
    assert [(context.trace_state.to_header(), dict(attributes or {})) for context, attributes in links] == [
        ("", {})
    ] * caller.continued


@quick
@given(headers=headers_of(W3C), trust=st.sampled_from(list(UNTRUSTED.values())))
def test_who_is_not_trusted_never_continues_a_trace(headers: Headers, trust: Any) -> None:
    found = observe(case_with(headers), ours(trust_incoming=trust))

    assert (found["name"], found["parent"], found["trace state"], found["baggage"]) == ("GET", None, "", {})


@pytest.mark.parametrize(
    ("client", "trust"),
    [
        (("203.0.113.7", 1), True),
        (("10.1.2.3", 1), ["10.0.0.0/8"]),
        (("::ffff:10.1.2.3", 1), ["10.0.0.0/8"]),
        (None, lambda scope: scope["client"] is None),
    ],
    ids=["everybody", "a network", "a network, as IPv6", "a function"],
)
def test_who_is_trusted_is_the_parent(client: Any, trust: Any) -> None:
    case = Case(STORY, client=client, more=((b"traceparent", PARENT), (b"tracestate", b"a=1"), (b"baggage", b"user=7")))

    found = observe(case, ours(trust_incoming=trust))

    assert (found["parent"], found["trace state"], found["baggage"]) == ((TRACE_ID, PARENT_ID, 1), "a=1", {"user": "7"})


REQUESTS: Final = 400
KEPT: Final = 64 * 1024
"""Bytes that may be kept after as many requests, whose headers are a hundred times as long."""


def hostile(number: int) -> Headers:
    """Headers that no other request has."""
    mark = b"%032x" % (number + 1)
    member = b"k%d=%s," % (number, mark)
    return (
        (b"traceparent", b"00-" + mark + b"-" + mark[16:] + b"-01" if number % 2 else mark * 500),
        (b"tracestate", member * (10 if number % 3 else 2_000)),
        (b"baggage", b"%s=%s" % (mark, mark * (5 if number % 5 else 3_000))),
        *[(b"baggage", member)] * (number % 7),
    )


@pytest.mark.parametrize("trust", [True, ["10.0.0.0/8"]], ids=["trusted", "untrusted"])
def test_no_memory_is_kept_of_it(trust: Any) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    app = TracingMiddleware(Case(STORY).app({}), tracer_provider=provider, settings=SETTINGS, trust_incoming=trust)

    async def serve(numbers: Iterable[int]) -> int:
        for number in numbers:
            await drive(app, http_scope(headers=hostile(number)))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    async def grown() -> int:
        await serve(range(REQUESTS))
        before = await serve(range(REQUESTS, REQUESTS + 50))
        return await serve(range(REQUESTS + 50, 2 * REQUESTS)) - before

    tracemalloc.start()
    try:
        kept = asyncio.run(grown())
    finally:
        tracemalloc.stop()
        provider.shutdown()

    sent = sum(len(value) for number in range(REQUESTS) for _, value in hostile(number))
    assert kept < KEPT < sent / 100
