"""An exception on a span: an event, the status, `error.type`.

https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-spans/ and
https://opentelemetry.io/docs/specs/semconv/general/recording-errors/
"""

from __future__ import annotations

from opentelemetry.trace import Span, StatusCode

from asgi_obs.logs.failure import describe
from asgi_obs.redaction import Redactor
from asgi_obs.tracing.conventions import encodable

__all__ = ["record_failure"]


def record_failure(span: Span, error: BaseException, redactor: Redactor, *, stack: bool) -> str:
    """Say on a span that an exception was raised.

    Unlike `Span.record_exception` it lets no secret out, and never raises.

    Args:
        span: The span, which must be recording.
        error: The exception.
        redactor: Redacts message and stack.
        stack: Whether the stack is told.

    Returns:
        The `error.type`.
    """
    described = describe(error, stack=stack)
    kind: str = described["type"]
    message = encodable(redactor.redact_text(described["message"]))
    event = {"exception.type": kind, "exception.message": message}
    if stack:
        event["exception.stacktrace"] = encodable(redactor.redact_text(described["stack"]))
    span.add_event("exception", event)
    span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {message}")
    span.set_attribute("error.type", kind)
    return kind
