"""The context that a request has brought: its parent, or of a caller who is not trusted only a link.

Costs 0.3 µs for a request that brings none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import Getter, TextMapPropagator
from opentelemetry.trace import Link, SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from asgi_obs.errors import report
from asgi_obs.exchange import Exchange
from asgi_obs.tracing.carrier import well_formed
from asgi_obs.tracing.propagation import global_propagators
from asgi_obs.tracing.trust import Trust, trust_of

__all__ = ["Incoming"]

_W3C: Final = frozenset({TraceContextTextMapPropagator, W3CBaggagePropagator})
_W3C_HEADERS: Final = frozenset({b"traceparent", b"tracestate", b"baggage"})


class _HeaderGetter(Getter[Exchange]):
    """Reads the well-formed values of a request's headers, the way propagators ask for them."""

    def get(self, carrier: Exchange, key: str) -> list[str] | None:
        name = key.lower()
        wanted = name.encode("latin-1")
        if wanted not in carrier.headers:
            return None
        values = [value for header, value in carrier.scope["headers"] if header == wanted]
        # Of several there is none to be believed, while the other two are lists by design: RFC 9110, section 5.3.
        if name == "traceparent" and len(values) > 1:
            return None
        value = well_formed(name, b",".join(values).decode("latin-1"))
        return None if value is None else [value]

    def keys(self, carrier: Exchange) -> list[str]:
        return [name.decode("latin-1") for name in carrier.headers]


_GETTER: Final = _HeaderGetter()


class Incoming:
    """Takes the caller's context from the headers of requests.

    Args:
        propagator: Reads them; None is OpenTelemetry's global one, whenever it is set.
        trust: Whose context is continued; see `trust_of`.

    Raises:
        ConfigurationError: `trust` is none of what `trust_of` takes.
        SettingsError: `OTEL_PROPAGATORS` names one that is not installed.
    """

    def __init__(self, propagator: TextMapPropagator | None, trust: bool | Collection[str] | Trust) -> None:  # noqa: FBT001
        self._trust = trust_of(trust)
        self._get_global = None if propagator is not None else global_propagators()
        self._use(propagator or global_propagators()())

    def _use(self, propagator: TextMapPropagator) -> None:
        self._propagator = propagator
        self._is_w3c = _is_w3c(propagator)

    def __call__(self, exchange: Exchange, around: Context) -> tuple[Context, Sequence[Link]]:
        """The context to start the request's span in, and its links.

        Args:
            exchange: The request.
            around: The context that it came in. What is in there stays, but a span: that is not the caller's.
        """
        if self._get_global is not None and self._get_global() is not self._propagator:
            self._use(self._get_global())
        if around:
            around = trace.set_span_in_context(trace.INVALID_SPAN, around)
        if self._is_w3c and _W3C_HEADERS.isdisjoint(exchange.headers):
            return around, ()
        try:
            context = self._propagator.extract(exchange, around, _GETTER)
        except Exception as error:  # noqa: BLE001 - somebody else's propagator: a new trace is better than none
            report("TracingMiddleware.extract", error)
            return around, ()
        trusted = self._trust if isinstance(self._trust, bool) else self._trust(exchange.scope)
        if trusted or context is around:
            return context, ()
        caller = trace.get_current_span(context).get_span_context()
        return around, (Link(_without_state(caller)),) if caller.is_valid else ()


def _is_w3c(propagator: Any) -> bool:
    """Whether a propagator looks at the three W3C headers only."""
    parts = getattr(propagator, "_propagators", ()) if type(propagator) is CompositePropagator else (propagator,)
    return {type(part) for part in parts} <= _W3C


def _without_state(caller: SpanContext) -> SpanContext:
    return SpanContext(caller.trace_id, caller.span_id, is_remote=True, trace_flags=caller.trace_flags)
