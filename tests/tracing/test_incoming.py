"""The context that a request has brought: a parent, a link, or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import baggage, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from asgi_obs.errors import ConfigurationError
from asgi_obs.tracing.incoming import Incoming
from tests.tracing.spans import PARENT_ID, TRACE_ID, TRACEPARENT, exchange_of

W3C = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
TRACESTATE = (b"tracestate", b"vendor=1")
BAGGAGE = (b"baggage", b"tenant=acme")


class Asks(TextMapPropagator):
    """Writes down what it has read."""

    fields = frozenset[str]()  # type: ignore[assignment]

    def __init__(self, *names: str) -> None:
        self.names = names
        self.read: list[Any] = []

    def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Context:
        self.read.append([getter.get(carrier, name) for name in self.names] + getter.keys(carrier))
        return Context({**context, "asked": True})

    def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
        raise AssertionError  # pragma: no cover - nothing goes out here


def caller_in(context: Context) -> SpanContext:
    return trace.get_current_span(context).get_span_context()


def brought(*headers: tuple[bytes, bytes], trust: Any = True, propagator: TextMapPropagator = W3C) -> Any:
    return Incoming(propagator, trust)(exchange_of(headers=headers), Context())


@pytest.mark.parametrize("propagator", [W3C, TraceContextTextMapPropagator()])
def test_the_callers_span_is_the_parent(propagator: TextMapPropagator) -> None:
    context, links = brought(TRACEPARENT, TRACESTATE, propagator=propagator)

    caller = caller_in(context)
    assert (f"{caller.trace_id:032x}", f"{caller.span_id:016x}") == (TRACE_ID, PARENT_ID)
    assert (caller.is_remote, caller.trace_flags.sampled, caller.trace_state.to_header()) == (True, True, "vendor=1")
    assert links == ()


def test_a_request_that_brings_nothing_starts_anew() -> None:
    assert brought((b"accept", b"*/*")) == (Context(), ())


def test_baggage_comes_along_also_without_a_trace() -> None:
    context, links = brought(BAGGAGE)

    assert baggage.get_all(context) == {"tenant": "acme"}
    assert (caller_in(context).is_valid, links) == (False, ())


def test_several_values_of_a_list_are_one() -> None:
    context, _ = brought(TRACEPARENT, TRACESTATE, (b"tracestate", b"other=2"), BAGGAGE, (b"baggage", b"user=7"))

    assert caller_in(context).trace_state.to_header() == "vendor=1,other=2"
    assert baggage.get_all(context) == {"tenant": "acme", "user": "7"}


def test_of_several_traceparents_none_is_believed() -> None:
    context, _ = brought(TRACEPARENT, TRACEPARENT)

    assert not caller_in(context).is_valid


@pytest.mark.parametrize("trust", [False, ["10.0.0.0/8"], lambda scope: False])
def test_a_caller_who_is_not_trusted_is_but_linked(trust: Any) -> None:
    context, [link] = brought(TRACEPARENT, TRACESTATE, BAGGAGE, trust=trust)

    assert context == Context()
    assert (f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") == (TRACE_ID, PARENT_ID)
    assert (link.context.is_remote, link.context.trace_flags.sampled) == (True, True)
    assert dict(link.context.trace_state) == {}
    assert dict(link.attributes or {}) == {}


@pytest.mark.parametrize("headers", [(BAGGAGE,), ((b"traceparent", b"nonsense"),), (TRACEPARENT, TRACEPARENT)])
def test_a_caller_who_is_not_trusted_and_has_no_trace_is_not_linked(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    assert brought(*headers, trust=False) == (Context(), ())


@pytest.mark.parametrize("trust", [["203.0.113.0/24"], lambda scope: scope["client"][0] == "203.0.113.7"])
def test_a_caller_may_be_trusted_for_where_he_comes_from(trust: Any) -> None:
    context, links = brought(TRACEPARENT, BAGGAGE, trust=trust)

    assert caller_in(context).is_valid
    assert baggage.get_all(context) == {"tenant": "acme"}
    assert links == ()


def test_nobody_is_judged_who_brings_nothing() -> None:
    judged: list[str] = []

    def trust(scope: Any) -> bool:
        judged.append(scope["path"])
        return True

    incoming = Incoming(W3C, trust)
    incoming(exchange_of(path="/without"), Context())
    incoming(exchange_of(path="/with", headers=[TRACEPARENT]), Context())

    assert judged == ["/with"]


def test_another_propagator_is_asked_in_any_case() -> None:
    asks = Asks("B3", "absent")

    context, links = brought((b"b3", b"0"), propagator=asks)

    assert asks.read == [[["0"], None, "b3"]]
    assert (context, links) == (Context({"asked": True}), ())


def test_another_propagator_beside_w3cs_is_asked_too() -> None:
    asks = Asks()

    brought(propagator=CompositePropagator([TraceContextTextMapPropagator(), asks]))

    assert asks.read == [[]]


def test_a_propagator_with_a_context_of_its_own_is_not_believed_either() -> None:
    assert brought(propagator=Asks(), trust=False) == (Context(), ())


@pytest.mark.parametrize("value", [b"x" * 1025, b"\xff"])
def test_another_propagator_sees_only_what_is_short_and_printable(value: bytes) -> None:
    asks = Asks("b3")

    brought((b"b3", value), propagator=asks)

    assert asks.read == [[None, "b3"]]


def test_a_wrong_trust_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="trust_incoming"):
        Incoming(W3C, "10.0.0.0/8")


def test_a_global_propagator_that_is_set_later_is_used() -> None:
    incoming = Incoming(None, True)
    previous = propagate.get_global_textmap()
    asks = Asks("b3")
    propagate.set_global_textmap(asks)
    try:
        incoming(exchange_of(headers=[(b"b3", b"0")]), Context())
    finally:
        propagate.set_global_textmap(previous)

    assert asks.read == [[["0"], "b3"]]
