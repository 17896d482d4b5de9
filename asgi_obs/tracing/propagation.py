"""Context that goes along with work: to other threads, and in messages to other processes.

`carry_context` is for executors; `inject_context` and `extract_context` are for whatever has room for a few texts
under names: the headers of a queue's message, an event, a job. What goes along is the trace, the correlation ID, and
of the baggage what the sender allows. Requests in and out need none of this: `TracingMiddleware` and the
integrations do it.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, Final, TypeVar

from opentelemetry import baggage as otel_baggage
from opentelemetry import context as otel_context
from opentelemetry.propagators.textmap import Setter, TextMapPropagator

from asgi_obs.errors import ConfigurationError, SettingsError, report
from asgi_obs.exchange import current_exchange
from asgi_obs.logs import LogContext
from asgi_obs.logs.context import ambient_fields
from asgi_obs.tracing.carrier import CarrierGetter

__all__ = [
    "CORRELATION_KEY",
    "carry_context",
    "current_correlation_id",
    "extract_context",
    "global_propagators",
    "inject_context",
]

MAX_ID: Final = 256
"""Characters of a correlation ID that goes along."""

CORRELATION_KEY: Final = "x-correlation-id"
"""The name under which a mapping carries the correlation ID."""

_T = TypeVar("_T")
_GETTER: Final = CarrierGetter()


class _CarrierSetter(Setter[MutableMapping[str, str]]):
    def set(self, carrier: MutableMapping[str, str], key: str, value: str) -> None:
        carrier[key] = value


_SETTER: Final = _CarrierSetter()


def current_correlation_id() -> str | None:
    """The correlation ID that log records have here: of the innermost `LogContext`, or of the request."""
    exchange = current_exchange()
    correlation_id = ambient_fields(exchange, {}).get("correlation_id")
    return correlation_id if isinstance(correlation_id, str) else None


def inject_context(carrier: MutableMapping[str, str], *, baggage: Collection[str] = ()) -> None:
    """Put the current trace and correlation ID into a mapping that goes to another process.

    Args:
        carrier: Gets `traceparent`, `tracestate` (or what `OTEL_PROPAGATORS` asks for) and `x-correlation-id`, in
            place of any that are there.
        baggage: The names of the baggage entries that may go along; default none.
    """
    context = otel_context.get_current()
    # A text is one name: it would hold every part of itself.
    names = (baggage,) if isinstance(baggage, str) else baggage
    allowed = {name: value for name, value in otel_baggage.get_all(context).items() if name in names}
    context = otel_baggage.clear(context)
    for name, value in allowed.items():
        context = otel_baggage.set_baggage(name, value, context)
    correlation_id = current_correlation_id()
    try:
        propagator = global_propagators()()
        for name in (CORRELATION_KEY, *propagator.fields):
            carrier.pop(name, None)
        if correlation_id is not None and _can_travel(correlation_id):
            carrier[CORRELATION_KEY] = correlation_id
        propagator.inject(carrier, context, _SETTER)
    except Exception as error:  # noqa: BLE001 - fail open: a message without a trace is better than none
        report("inject_context", error)


@contextmanager
def extract_context(carrier: Mapping[Any, Any]) -> Iterator[None]:
    """Continue the trace and the correlation ID that a mapping has brought, inside of the block.

    Args:
        carrier: What `inject_context` has filled, or another sender: names are compared without case, values may be
            bytes, and what is malformed or too long is left out.
    """
    context = otel_context.get_current()
    found = None
    try:
        context = global_propagators()().extract(carrier, context, _GETTER)
        found = _GETTER.get(carrier, CORRELATION_KEY)
    except Exception as error:  # noqa: BLE001 - fail open: the work is more than its trace
        report("extract_context", error)
    token = otel_context.attach(context)
    try:
        with LogContext(found[0] if found and _can_travel(found[0]) else None):
            yield
    finally:
        otel_context.detach(token)


def carry_context(function: Callable[..., _T]) -> Callable[..., _T]:
    """A function that runs in the context of this call, whichever thread it is called in.

    For `executor.submit(carry_context(work), ...)` and `executor.map`: the trace, the correlation ID, `LogContext` and
    every other ContextVar are as they are now. It may be called many times, in several threads at once; what it sets
    in the context is gone when it returns.

    Args:
        function: Not a coroutine function, for tasks have the context of whoever starts them; and no generator
            function, whose body runs when somebody asks for values.

    Raises:
        ConfigurationError: It is one of these, or cannot be called.
    """
    if not callable(function) or _runs_later(function) or _runs_later(getattr(function, "__call__", None)):  # noqa: B004
        raise ConfigurationError("function", function, "a function that is no generator and no coroutine function")
    context = copy_context()

    @functools.wraps(function)
    def carried(*args: Any, **kwargs: Any) -> _T:
        # A copy for each call: a context can be entered by one thread at a time.
        return context.copy().run(function, *args, **kwargs)

    return carried


def _runs_later(function: object) -> bool:
    tests = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(is_such(function) for is_such in tests)


def _can_travel(correlation_id: str) -> bool:
    """Whether an ID can be a header: not every one of a `LogContext` can."""
    is_text = correlation_id.isascii() and correlation_id.isprintable() and correlation_id == correlation_id.strip()
    return is_text and 0 < len(correlation_id) <= MAX_ID


def global_propagators() -> Callable[[], TextMapPropagator]:
    """What tells the global propagator, of `OTEL_PROPAGATORS` or set since; by default W3C trace context and baggage.

    Raises:
        SettingsError: `OTEL_PROPAGATORS` names one that is not installed.
    """
    try:
        # Imported here: at its import it looks for propagators among all installed packages.
        from opentelemetry.propagate import get_global_textmap
    except ValueError:
        names = os.environ.get("OTEL_PROPAGATORS", "")
        raise SettingsError("OTEL_PROPAGATORS", names, "names of propagators that are installed, or none") from None
    return get_global_textmap
