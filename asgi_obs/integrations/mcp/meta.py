"""How context travels in a message: under which keys, there and back.

`_meta` has the trace under `traceparent` and `tracestate`, which https://modelcontextprotocol.io/seps/414-request-meta
exempts from the rule that keys have a prefix. The correlation ID is not exempt: names without one are the protocol's
(https://modelcontextprotocol.io/specification/2025-11-25/basic#meta), so it has a prefix of this library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from asgi_obs.tracing.propagation import CORRELATION_KEY, inject_context

__all__ = ["META_KEY", "TRACE_ARGUMENT", "carrier_of", "context_for_argument", "context_for_meta", "take_trace_context"]

META_KEY: Final = "asgi-obs/correlation-id"
"""The key of the correlation ID in `_meta`."""

TRACE_ARGUMENT: Final = "_trace_context"
"""The argument in which old clients send the trace."""


def context_for_argument() -> dict[str, str]:
    """The current trace and correlation ID, as the argument `_trace_context`."""
    carrier: dict[str, str] = {}
    inject_context(carrier)
    return carrier


def context_for_meta() -> dict[str, str]:
    """The current trace and correlation ID, as entries of `_meta`."""
    carrier = context_for_argument()
    correlation_id = carrier.pop(CORRELATION_KEY, None)
    return carrier if correlation_id is None else {**carrier, META_KEY: correlation_id}


def carrier_of(meta: Mapping[str, Any], argument: Mapping[str, Any]) -> dict[str, Any]:
    """What a message has brought, as `extract_context` wants it.

    Args:
        meta: Its `_meta`, which wins.
        argument: Its argument `_trace_context`.
    """
    carrier = {**argument, **meta}
    if META_KEY in carrier:
        carrier[CORRELATION_KEY] = carrier[META_KEY]
    return carrier


def take_trace_context(arguments: Any) -> tuple[Any, Mapping[str, Any]]:
    """The arguments without `_trace_context`, and what was in it.

    Args:
        arguments: Never changed: without it they are a copy.
    """
    if not isinstance(arguments, Mapping) or TRACE_ARGUMENT not in arguments:
        return arguments, {}
    others = {name: value for name, value in arguments.items() if name != TRACE_ARGUMENT}
    carrier = arguments[TRACE_ARGUMENT]
    return others, carrier if isinstance(carrier, Mapping) else {}
