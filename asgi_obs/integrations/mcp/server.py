"""The side that serves tools: `observe_mcp_server` changes a server in place.

Every `tools/call` continues the trace and the correlation ID of its caller, and has two log lines and one SERVER span.
Version 2 of the SDK makes such a span itself: that one is told what ours would say, and gets its name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, Span, SpanKind

from asgi_obs.correlation import uuid4
from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import SCOPE_KEY, Exchange, current_exchange, within_exchange
from asgi_obs.integrations.mcp.call import METHOD, Side, ToolCall, Verdict, attached
from asgi_obs.integrations.mcp.meta import carrier_of, take_trace_context
from asgi_obs.logs import LogContext
from asgi_obs.logs.context import ambient_fields
from asgi_obs.settings import Settings
from asgi_obs.tracing.carrier import CarrierGetter
from asgi_obs.tracing.conventions import bound_attributes, encodable
from asgi_obs.tracing.propagation import (
    CORRELATION_KEY,
    current_correlation_id,
    extract_context,
    global_propagators,
)

__all__ = ["observe_mcp_server"]

LOGGER: Final = "asgi_obs.mcp.server"

_GETTER: Final = CarrierGetter()
_NOT_BOUND: Final = frozenset({"trace_id", "span_id", "tool_name"})
_Server = TypeVar("_Server")


def observe_mcp_server(
    server: _Server, *, tracer_provider: trace.TracerProvider | None = None, settings: Settings | None = None
) -> _Server:
    """Log and trace the calls of the tools of a server.

    Args:
        server: An `MCPServer`, a `FastMCP`, or a low-level `Server` of the `mcp` package; before or after its tools
            are registered. One that is observed already stays as it is.
        tracer_provider: Makes the tracer; None is OpenTelemetry's global provider, whenever it is set.
        settings: What the environment says, if it is not to be read here.

    Returns:
        The same server.

    Raises:
        ConfigurationError: `server` is none of these.
        SettingsError: A variable has a value that is not allowed.
    """
    side = Side.of(LOGGER, "mcp.server.", SpanKind.SERVER, tracer_provider, settings, {})
    lowlevel: Any = getattr(server, "_mcp_server", server)
    middleware = getattr(server, "middleware", None)
    if isinstance(getattr(lowlevel, "request_handlers", None), dict):  # version 1
        _Registration(lowlevel, side).install()
    elif not isinstance(middleware, list):
        raise ConfigurationError("server", server, "an MCPServer, FastMCP or Server of the mcp package")
    elif not any(isinstance(present, _Middleware) for present in middleware):
        # Behind the first, which is the SDK's own and makes the span.
        middleware.insert(1, _Middleware(side))
    return server


class _Incoming(NamedTuple):
    """A message that calls a tool.

    Attributes:
        name: The name of the tool.
        arguments: Its arguments.
        meta: Its `_meta`.
        request: The HTTP request that has brought it, if one has.
        request_id: Its ID.
    """

    name: str
    arguments: Any
    meta: Any
    request: Any
    request_id: Any


class _Middleware:
    """Observes the messages of version 2, which has a list of such middlewares."""

    def __init__(self, side: Side) -> None:
        self._side = side

    async def __call__(self, ctx: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        name = ctx.params.get("name") if ctx.method == METHOD and ctx.params else None
        if not isinstance(name, str):
            return await call_next(ctx)
        incoming = _Incoming(name, ctx.params.get("arguments"), ctx.meta, ctx.request, ctx.request_id)
        with _ServerCall(self._side, incoming) as call:
            if call.arguments is not incoming.arguments:
                ctx = replace(ctx, params={**ctx.params, "arguments": call.arguments})
            call.result = await call_next(ctx)
        return call.result


class _Registration:
    """Observes the handler of version 1, that is there or that `call_tool` adds later.

    In the place of the server's method `call_tool`. The mapping of its handlers stays the same: others hold it too.
    """

    def __init__(self, server: Any, side: Side) -> None:
        self._server = server
        self._side = side
        self._register = server.call_tool

    def install(self) -> None:
        if not isinstance(self._register, _Registration):
            self._server.call_tool = self
            self._observe()

    def __call__(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        decorate = self._register(*args, **kwargs)

        def decorated(function: Any) -> Any:
            result = decorate(function)
            self._observe()
            return result

        return decorated

    def _observe(self) -> None:
        handlers = self._server.request_handlers
        for kind, handler in handlers.items():
            if kind.__name__ == "CallToolRequest":
                handlers[kind] = _Handler(handler, self._server, self._side)


class _Handler:
    """The handler of version 1."""

    def __init__(self, handler: Callable[[Any], Awaitable[Any]], server: Any, side: Side) -> None:
        self._handler = handler
        self._server = server
        self._side = side

    async def __call__(self, request: Any) -> Any:
        params = request.params
        try:
            context = self._server.request_context
        except LookupError:  # the handler was called by somebody else than the server
            context = None
        incoming = _Incoming(
            params.name,
            params.arguments,
            params.meta,
            getattr(context, "request", None),
            getattr(context, "request_id", None),
        )
        with _ServerCall(self._side, incoming) as call:
            if call.arguments is not incoming.arguments:
                params = params.model_copy(update={"arguments": call.arguments})
                request = request.model_copy(update={"params": params})
            call.result = await self._handler(request)
        return call.result


class _ServerCall(ToolCall):
    """A call that was received.

    Attributes:
        arguments: What the tool gets: without `_trace_context`.
    """

    def __init__(self, side: Side, incoming: _Incoming) -> None:
        self.arguments, self._trace_argument = take_trace_context(incoming.arguments)
        self._incoming = incoming
        self._native: Span | None = None
        super().__init__(side, incoming.name, self.arguments)

    def _surround(self) -> None:
        meta, argument = dict(self._incoming.meta or {}), self._trace_argument
        carrier = carrier_of(meta, argument)
        self._native = _native_span(self._incoming.request_id)
        if self._native is not None and argument and not _may_continue(self._native, carrier):
            self._native = None
        request = self._incoming.request
        if request is not None and not self._trusts(request):
            # The SDK's own span continues the trace that is not to be believed.
            self._native = None
            self._enter(attached(trace.set_span_in_context(INVALID_SPAN)))
            carrier = _without_trace(carrier)
        if request is not None:
            exchange = _exchange_of(request)
            # Version 1 runs all messages of a session in the context of the request that has opened it: what one tool
            # binds would be said of the calls beside it, and of those after it.
            self._enter(within_exchange(exchange))
            if self._native is None and exchange is not None and exchange.span_context is not None:
                self._enter(attached(trace.set_span_in_context(NonRecordingSpan(exchange.span_context))))
        if self._native is not None:
            carrier = _without_trace(carrier)
        self._enter(extract_context(carrier))
        self._enter(LogContext(current_correlation_id() or uuid4(), tool_name=self._name))

    def _trusts(self, request: Any) -> bool:
        trust = self._side.trust
        return trust if isinstance(trust, bool) else bool(trust(request.scope))

    def _open_span(self) -> None:
        if self._native is None:
            super()._open_span()
        else:
            self._native.update_name(encodable(f"{self._side.span_name}{self._name}"))
            self._describe(self._native)

    def _finish_span(self, verdict: Verdict, error: BaseException | None) -> None:
        if self._span.is_recording():
            self._span.set_attributes(_bound_attributes(self._side))
        # The SDK records the exception on its own span.
        super()._finish_span(verdict, error if self._native is None else None)


def _without_trace(carrier: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in carrier.items() if name == CORRELATION_KEY}


def _native_span(request_id: object) -> Span | None:
    """The SERVER span that the SDK has made for a message, if it does so and records it."""
    span = trace.get_current_span()
    attributes = getattr(span, "attributes", None) or {}
    is_its_span = (
        span.is_recording()
        and getattr(span, "kind", None) is SpanKind.SERVER
        and attributes.get("mcp.method.name") == METHOD
        and attributes.get("jsonrpc.request.id") == str(request_id)
    )
    return span if is_its_span else None


def _may_continue(span: Span, carrier: Mapping[str, Any]) -> bool:
    """Whether a span is in the trace that a message asks to continue: an SDK does not see the argument."""
    asked = trace.get_current_span(global_propagators()().extract(carrier, Context(), _GETTER)).get_span_context()
    return not asked.is_valid or asked.trace_id == span.get_span_context().trace_id


def _exchange_of(request: Any) -> Exchange | None:
    """The exchange of the HTTP request that has brought a message."""
    exchange: Exchange | None = getattr(request, "scope", {}).get(SCOPE_KEY)
    return exchange


def _bound_attributes(side: Side) -> dict[str, Any]:
    """What was bound, by the tool too, as attributes."""
    fields = {name: value for name, value in ambient_fields(current_exchange(), {}).items() if name not in _NOT_BOUND}
    return bound_attributes(fields, side.redactor)
