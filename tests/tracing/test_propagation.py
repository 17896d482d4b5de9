"""Context that goes along with work: in mappings to other processes, and to other threads."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from opentelemetry import baggage, propagate, trace
from opentelemetry import context as otel_context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from asgi_obs import CorrelationIdMiddleware, LogContext
from asgi_obs.errors import ConfigurationError, SettingsError
from asgi_obs.testing import drive, http_scope
from asgi_obs.tracing.propagation import (
    CORRELATION_KEY,
    carry_context,
    current_correlation_id,
    extract_context,
    global_propagators,
    inject_context,
)
from asgi_obs.types import Receive, Scope, Send
from tests.tracing.spans import PARENT_ID, TRACE_ID

TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"
DEADLINE = 20.0

marker: ContextVar[str] = ContextVar("marker", default="unset")


class Breaks:
    """A propagator that fails."""

    fields = frozenset[str]()

    def extract(self, *_: Any, **__: Any) -> Any:
        raise LookupError("extract")

    def inject(self, *_: Any, **__: Any) -> Any:
        raise LookupError("inject")


class Hostile(dict[Any, Any]):
    """A mapping that cannot be read."""

    def items(self) -> Any:
        raise LookupError


@pytest.fixture
def broken() -> Iterator[Breaks]:
    """A global propagator that fails."""
    previous = propagate.get_global_textmap()
    breaks: Any = Breaks()
    propagate.set_global_textmap(breaks)
    yield breaks
    propagate.set_global_textmap(previous)


@pytest.fixture(autouse=True)
def own_context() -> Iterator[None]:
    """A context of the test's own, in which what it attaches stays."""
    token = otel_context.attach(otel_context.Context())
    yield
    otel_context.detach(token)


def in_trace(state: str = "") -> Any:
    caller = SpanContext(
        int(TRACE_ID, 16),
        int(PARENT_ID, 16),
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=TraceState.from_header([state] if state else []),
    )
    return trace.use_span(NonRecordingSpan(caller))


def here() -> tuple[str, str | None, dict[str, Any]]:
    """The trace, the correlation ID and the baggage that hold here."""
    trace_id = trace.get_current_span().get_span_context().trace_id
    return f"{trace_id:032x}", current_correlation_id(), dict(baggage.get_all())


NOWHERE = ("0" * 32, None, {})


def test_what_is_put_into_a_mapping_is_taken_from_it() -> None:
    carrier: dict[str, str] = {}
    with in_trace("vendor=1"), LogContext("order-7"):
        inject_context(carrier)

    with extract_context(carrier):
        inside = here()
        state = trace.get_current_span().get_span_context().trace_state.to_header()

    assert carrier == {"traceparent": TRACEPARENT, "tracestate": "vendor=1", CORRELATION_KEY: "order-7"}
    assert (inside, state) == ((TRACE_ID, "order-7", {}), "vendor=1")
    assert here() == NOWHERE


def test_where_there_is_no_context_nothing_is_put_in() -> None:
    carrier = {"job": "mail"}

    inject_context(carrier)

    assert carrier == {"job": "mail"}


def test_only_the_baggage_that_is_allowed_goes_along() -> None:
    nothing: dict[str, str] = {}
    one: dict[str, str] = {}
    for name, value in (("tenant", "acme"), ("user", "u-1")):
        otel_context.attach(baggage.set_baggage(name, value))

    inject_context(nothing)
    inject_context(one, baggage=["tenant", "absent"])

    assert (nothing, one) == ({}, {"baggage": "tenant=acme"})
    assert here()[2] == {"tenant": "acme", "user": "u-1"}


def test_a_text_allows_one_name_and_none_that_is_a_part_of_it() -> None:
    carrier: dict[str, str] = {}
    for name, value in (("tenant", "acme"), ("ten", "10")):
        otel_context.attach(baggage.set_baggage(name, value))

    inject_context(carrier, baggage="tenant")

    assert carrier == {"baggage": "tenant=acme"}


def test_baggage_that_has_come_is_there_inside_of_the_block_only() -> None:
    with extract_context({"Baggage": "tenant=acme;ttl=1,broken"}):
        assert here()[2] == {"tenant": "acme"}
    assert here() == NOWHERE


def test_inside_of_a_request_its_correlation_id_goes_along() -> None:
    carrier: dict[str, str] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        inject_context(carrier)

    asyncio.run(drive(CorrelationIdMiddleware(app), http_scope(headers=[(b"x-correlation-id", b"abc-1")])))

    assert carrier == {CORRELATION_KEY: "abc-1"}


@pytest.mark.parametrize("correlation_id", ["with\nbreak", "x" * 1000, "", 7])
def test_a_correlation_id_that_cannot_be_a_header_stays_here(correlation_id: Any) -> None:
    carrier: dict[str, str] = {}

    with LogContext(correlation_id):
        inject_context(carrier)

    assert carrier == {}


def test_what_a_mapping_does_not_bring_stays_as_it_is() -> None:
    with in_trace(), LogContext("outer"):
        with extract_context({}):
            assert here() == (TRACE_ID, "outer", {})


def test_what_the_block_raises_comes_out_and_the_context_is_put_back() -> None:
    error = RuntimeError()

    with pytest.raises(RuntimeError) as caught, extract_context({"traceparent": TRACEPARENT}):
        raise error

    assert caught.value is error
    assert here() == NOWHERE


@pytest.mark.parametrize(
    "carrier",
    [
        {"traceparent": "nonsense", CORRELATION_KEY: "with\nbreak", "baggage": "\xff"},
        {"traceparent": 7, CORRELATION_KEY: None, "tracestate": ["a=1"]},
        {b"traceparent": b"\xff", None: "x", CORRELATION_KEY: b"\xff\xfe"},
        {CORRELATION_KEY: "x" * 2000},
    ],
)
def test_what_is_malformed_is_left_out(carrier: dict[Any, Any]) -> None:
    with extract_context(carrier):
        assert here() == NOWHERE


def test_names_are_compared_without_case_and_values_may_be_bytes() -> None:
    carrier = {"TraceParent": TRACEPARENT.encode(), "X-Correlation-ID": b"abc-1"}

    with extract_context(carrier):
        assert here() == (TRACE_ID, "abc-1", {})


keys = st.sampled_from(["traceparent", "tracestate", "baggage", CORRELATION_KEY, "Baggage"]) | st.text() | st.integers()
values = (
    st.text()
    | st.binary()
    | st.none()
    | st.integers()
    | st.text("0af-=,;%@ \t\n", max_size=80)
    | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True)
    | st.from_regex(r"[a-z@*/]{1,5}=[!-~ ]{1,9}(,[a-z]{1,3}=[!-~]{0,9}){0,3}", fullmatch=True)
)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(carrier=st.dictionaries(keys, values, max_size=5))
def test_whatever_a_mapping_brings_the_work_goes_on_and_nothing_is_logged(
    carrier: dict[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    went_on = False

    with extract_context(carrier):
        went_on = True
        again: dict[str, str] = {}
        inject_context(again, baggage=baggage.get_all())

    assert went_on
    assert all(text.isprintable() and text.isascii() for text in again.values())
    assert caplog.records == []
    assert here() == NOWHERE


def test_a_mapping_that_cannot_be_read_is_reported_and_the_work_goes_on(reports: list[str]) -> None:
    with in_trace(), extract_context(Hostile()):
        assert here() == (TRACE_ID, None, {})
    assert reports == ["extract_context"]


@pytest.mark.usefixtures("broken")
def test_a_propagator_that_fails_is_reported_and_the_work_goes_on(reports: list[str]) -> None:
    carrier = {CORRELATION_KEY: "abc-1"}

    with LogContext("abc-2"), extract_context(carrier):
        inside = current_correlation_id()
        inject_context(carrier)

    assert inside == "abc-2"
    assert carrier == {CORRELATION_KEY: "abc-2"}
    assert reports == ["extract_context", "inject_context"]


def test_the_propagator_may_be_set_at_any_time(broken: Breaks) -> None:
    assert global_propagators()() is broken


def test_a_function_is_carried_to_the_threads_of_an_executor() -> None:
    def work(number: int, *, by: int) -> tuple[str, str | None, dict[str, Any], int]:
        return (*here(), number * by)

    with ThreadPoolExecutor(1) as executor:
        with in_trace(), LogContext("order-7"):
            carried = carry_context(work)
            done = executor.submit(carried, 2, by=3)
        bare = executor.submit(work, 1, by=1)
        later = executor.submit(carried, 4, by=5)

    assert done.result() == (TRACE_ID, "order-7", {}, 6)
    assert bare.result() == (*NOWHERE, 1)
    assert later.result() == (TRACE_ID, "order-7", {}, 20)


def test_several_threads_may_call_at_once_and_none_sees_what_another_sets() -> None:
    together = threading.Barrier(4, timeout=DEADLINE)

    def work(number: int) -> tuple[str, str]:
        before = marker.get()
        marker.set(f"set by {number}")
        together.wait()
        return before, marker.get()

    token = marker.set("carried")
    with ThreadPoolExecutor(4) as executor:
        seen = list(executor.map(carry_context(work), range(4)))
    after = marker.get()
    marker.reset(token)

    assert seen == [("carried", f"set by {number}") for number in range(4)]
    assert after == "carried"


def test_what_a_carried_function_raises_comes_out() -> None:
    error = LookupError("x")

    def work() -> None:
        raise error

    with pytest.raises(LookupError) as caught:
        carry_context(work)()

    assert caught.value is error


def test_a_carried_function_looks_like_the_one_it_carries() -> None:
    def work(number: int) -> int:
        """Works."""
        return number

    carried = carry_context(work)

    assert (carried.__name__, carried.__doc__, carried.__wrapped__) == ("work", "Works.", work)  # type: ignore[attr-defined]
    assert carried(1) == 1


def test_anything_that_can_be_called_can_be_carried() -> None:
    assert carry_context(functools.partial(int, "7"))() == 7
    assert carry_context("a-b".split)("-") == ["a", "b"]


async def coroutine_function() -> None:
    raise AssertionError  # pragma: no cover - never awaited


class Later:
    async def __call__(self) -> None: ...


def generator_function() -> Iterator[int]:
    yield 1  # pragma: no cover - never asked


async def async_generator_function() -> AsyncIterator[int]:
    yield 1  # pragma: no cover - never asked


@pytest.mark.parametrize(
    "function",
    [
        coroutine_function,
        functools.partial(coroutine_function),
        Later(),
        generator_function,
        async_generator_function,
        None,
        "work",
    ],
)
def test_coroutine_functions_and_what_cannot_be_called_are_refused(function: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"function=.* is not valid: expected a function that is no generator"):
        carry_context(function)


def test_a_log_context_wins_over_the_request_around_it() -> None:
    seen: list[str | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(current_correlation_id())
        with LogContext("inner"):
            seen.append(current_correlation_id())

    asyncio.run(drive(CorrelationIdMiddleware(app), http_scope(headers=[(b"x-correlation-id", b"outer")])))
    seen.append(current_correlation_id())

    assert seen == ["outer", "inner", None]


def test_log_records_inside_of_the_block_have_what_has_come(caplog: pytest.LogCaptureFixture) -> None:
    with extract_context({CORRELATION_KEY: "abc-1"}):
        logging.getLogger("job").warning("done %s", current_correlation_id())

    assert caplog.messages == ["done abc-1"]


def test_a_mapping_that_cannot_be_written_is_reported(reports: list[str]) -> None:
    carrier: Any = MappingProxyType({})
    with LogContext("c-1"):
        inject_context(carrier)

    assert (dict(carrier), reports) == ({}, ["inject_context"])


def test_a_propagator_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "opentelemetry.propagate")
    monkeypatch.setenv("OTEL_PROPAGATORS", "tracecontxt")

    with pytest.raises(
        SettingsError, match=r"^OTEL_PROPAGATORS='tracecontxt' is not valid: expected names of propagators"
    ):
        global_propagators()


def test_what_a_mapping_has_already_is_replaced() -> None:
    carrier = {"traceparent": "old", "tracestate": "a=b", "baggage": "x=1", CORRELATION_KEY: "old", "subject": "hi"}

    inject_context(carrier)

    assert carrier == {"subject": "hi"}


@pytest.mark.parametrize("correlation_id", ["|abc.def.", "req 42 #7", "x" * 256])
def test_any_id_that_can_be_a_header_goes_along(correlation_id: str) -> None:
    carrier: dict[str, str] = {}
    with LogContext(correlation_id):
        inject_context(carrier)
    with extract_context(carrier):
        assert current_correlation_id() == correlation_id
