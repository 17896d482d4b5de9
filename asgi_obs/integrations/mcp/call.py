"""One call of a tool: its log lines, its span, and what became of it. What both sides have in common.

=============  ==========================================================  ======
outcome        meaning                                                     level
=============  ==========================================================  ======
success        the tool has answered                                       INFO
tool_error     the tool has answered that it failed (`isError`)            WARN
error          there is no answer: the protocol, the transport, a timeout  ERROR
cancelled      whoever waited for the answer was told to stop              INFO
=============  ==========================================================  ======
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode, Tracer

from asgi_obs.classify import error_type
from asgi_obs.errors import report_call
from asgi_obs.integrations.mcp.excerpt import excerpt, shorten
from asgi_obs.logs.safe import dumps, safe_text
from asgi_obs.redaction import Redactor, redactor_for
from asgi_obs.settings import Settings
from asgi_obs.tracing.conventions import encodable
from asgi_obs.tracing.failure import record_failure
from asgi_obs.tracing.propagation import current_correlation_id
from asgi_obs.tracing.trust import Trust, trust_of

__all__ = ["METHOD", "Outcome", "Side", "ToolCall", "Verdict", "attached", "attempt"]

METHOD: Final = "tools/call"

MAX_NAME: Final = 128
"""Characters of the name of a tool; the specification allows no more."""

Outcome: TypeAlias = Literal["success", "tool_error", "error", "cancelled"]

_SAID: Final[dict[Outcome, tuple[int, str]]] = {
    "success": (logging.INFO, "MCP tool response: %s"),
    "tool_error": (logging.WARNING, "MCP tool error: %s"),
    "error": (logging.ERROR, "MCP tool error: %s"),
    "cancelled": (logging.INFO, "MCP tool cancelled: %s"),
}

_T = TypeVar("_T")
_Call = TypeVar("_Call", bound="ToolCall")


def attempt(step: Callable[..., _T], *args: Any) -> _T | None:
    """What a step of ours returns; None if it fails, which is reported."""
    try:
        return step(*args)
    except Exception as error:  # noqa: BLE001 - fail open: the call is more than what is told of it
        report_call(step, error)
        return None


@contextmanager
def attached(context: Context) -> Iterator[None]:
    """Makes an OpenTelemetry context the current one inside of the block."""
    token = otel_context.attach(context)
    try:
        yield
    finally:
        otel_context.detach(token)


@dataclass(frozen=True)
class Side:
    """What all calls that one client makes, or one server gets, have in common.

    Attributes:
        log: Where their lines go.
        tracer: Makes their spans.
        span_name: What stands in front of the name of the tool.
        kind: The kind of their spans.
        redactor: Redacts arguments and errors.
        stack_traces: Whether stacks may be told.
        trust: Whose context is continued, of callers over HTTP.
        attributes: What all their spans have.
    """

    log: logging.Logger
    tracer: Tracer
    span_name: str
    kind: SpanKind
    redactor: Redactor
    stack_traces: bool
    trust: bool | Trust
    attributes: Mapping[str, str]

    @classmethod
    def of(
        cls,
        name: str,
        span_name: str,
        kind: SpanKind,
        tracer_provider: trace.TracerProvider | None,
        settings: Settings | None,
        attributes: Mapping[str, str],
    ) -> Side:
        """The side of a logger's name, as the settings, or else the environment, want it."""
        settings = Settings() if settings is None else settings
        return cls(
            logging.getLogger(name),
            trace.get_tracer("asgi_obs", tracer_provider=tracer_provider),
            span_name,
            kind,
            redactor_for(settings),
            settings.stack_traces,
            trust_of(settings.trust_incoming),
            attributes,
        )


class Verdict(NamedTuple):
    """What became of a call; type and message of its error are empty if it has none."""

    outcome: Outcome
    kind: str
    message: str


class ToolCall:
    """A context manager around the call; what the tool answers is to be set as `result`.

    It never raises, and never holds an exception back.

    Args:
        side: The client or server.
        name: The name of the tool.
        arguments: Its arguments; never changed.

    Attributes:
        result: The answer.
    """

    def __init__(self, side: Side, name: object, arguments: Any) -> None:
        self.result: Any = None
        self._side = side
        self._name = shorten(safe_text(name), MAX_NAME)
        self._arguments = arguments
        self._span: Span = INVALID_SPAN
        self._undo = ExitStack()
        self._started_at = perf_counter()

    def __enter__(self: _Call) -> _Call:  # noqa: PYI019 - `Self` is not in Python 3.10
        for step in (self._surround, self._open_span, self._say_started):
            attempt(step)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        seconds = perf_counter() - self._started_at
        verdict = attempt(self._judge, error) or Verdict("success" if error is None else "error", "", "")
        attempt(self._say_ended, verdict, seconds)
        attempt(self._finish_span, verdict, error)
        attempt(self._count, verdict.outcome, seconds)
        attempt(self._undo.close)

    def _surround(self) -> None:
        """Enter the contexts that the call is to have around it."""

    def _count(self, outcome: Outcome, seconds: float) -> None:
        """Count the call."""

    def _enter(self, block: AbstractContextManager[Any]) -> None:
        self._undo.enter_context(block)

    @cached_property
    def _shown(self) -> Any:
        """The arguments as they may be told."""
        return excerpt(self._side.redactor.redact({} if self._arguments is None else self._arguments))

    def _open_span(self) -> None:
        side = self._side
        span = side.tracer.start_span(
            encodable(f"{side.span_name}{self._name}"),
            kind=side.kind,
            # What a sampler may decide by.
            attributes={"mcp.method.name": METHOD, "gen_ai.tool.name": encodable(self._name)},
        )
        self._undo.callback(span.end)
        self._enter(attached(trace.set_span_in_context(span)))
        self._describe(span)

    def _describe(self, span: Span) -> None:
        """Say on a span what is known at the start."""
        self._span = span
        if not span.is_recording():
            return
        name = encodable(self._name)
        attributes = {
            **self._side.attributes,
            "mcp.tool": name,
            "mcp.tool.name": name,
            "mcp.arguments": encodable(dumps(self._shown).decode()),
            "gen_ai.operation.name": "execute_tool",
        }
        correlation_id = current_correlation_id()
        if correlation_id is not None:
            attributes["correlation_id"] = encodable(correlation_id)
        span.set_attributes(attributes)

    def _say_started(self) -> None:
        log = self._side.log
        if log.isEnabledFor(logging.INFO):
            log.info("MCP tool call: %s", self._name, extra={"tool_name": self._name, "arguments": self._shown})

    def _judge(self, error: BaseException | None) -> Verdict:
        redact = self._side.redactor.redact_text
        if error is None:
            complaint = _complaint(self.result)
            if complaint is None:
                return Verdict("success", "", "")
            return Verdict("tool_error", "tool_error", shorten(redact(complaint)))
        if isinstance(error, Exception):
            return Verdict("error", error_type(error), shorten(redact(safe_text(error))))
        return Verdict("cancelled", "", "")

    def _say_ended(self, verdict: Verdict, seconds: float) -> None:
        level, message = _SAID[verdict.outcome]
        fields: dict[str, Any] = {
            "tool_name": self._name,
            "duration_ms": round(seconds * 1000, 2),
            "success": verdict.outcome == "success",
        }
        if verdict.kind:
            fields["error"] = {"type": verdict.kind, "message": verdict.message}
        self._side.log.log(level, message, self._name, extra=fields)

    def _finish_span(self, verdict: Verdict, error: BaseException | None) -> None:
        """Say on the span what became of the call."""
        span = self._span
        if not span.is_recording():
            return
        span.set_attribute("mcp.result.success", verdict.outcome == "success")
        if verdict.kind:
            message = encodable(verdict.message)
            if error is not None:
                record_failure(span, error, self._side.redactor, stack=self._side.stack_traces)
            span.set_attributes({"error": True, "error.message": message, "error.type": verdict.kind})
            span.set_status(StatusCode.ERROR, message)


def _complaint(result: Any) -> str | None:
    """What a tool says of its failure; None if it has not failed.

    A result is a model of the SDK, `is_error` in version 2 and `isError` in version 1, there wrapped by servers; or
    what goes over the wire.
    """
    result = getattr(result, "root", result)
    if isinstance(result, Mapping):
        failed, content = result.get("isError"), result.get("content")
    else:
        failed = getattr(result, "is_error", getattr(result, "isError", False))
        content = getattr(result, "content", None)
    if failed is not True:
        return None
    texts = (part.get("text") if isinstance(part, Mapping) else getattr(part, "text", None) for part in content or ())
    return "\n".join(text for text in texts if isinstance(text, str))
