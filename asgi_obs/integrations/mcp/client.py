"""The side that calls tools: `observe_mcp_client` wraps a session, or a client.

Every call has two log lines, a CLIENT span, and counts in `mcp_tool_calls_total` and
`mcp_tool_call_duration_seconds`. Trace and correlation ID go along in `_meta`, where
https://modelcontextprotocol.io/seps/414-request-meta wants them. All is done on copies: neither the arguments nor the
`meta` of the caller change.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

from opentelemetry import baggage as otel_baggage
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from asgi_obs.correlation import uuid4
from asgi_obs.errors import ConfigurationError
from asgi_obs.integrations.mcp.call import Outcome, Side, ToolCall, attached, attempt
from asgi_obs.integrations.mcp.meta import TRACE_ARGUMENT, context_for_argument, context_for_meta
from asgi_obs.logs import LogContext
from asgi_obs.metrics.http import MAX_SERIES
from asgi_obs.metrics.labels import Family, family
from asgi_obs.settings import Settings
from asgi_obs.tracing.propagation import current_correlation_id

__all__ = ["ObservedMcpClient", "observe_mcp_client"]

LOGGER: Final = "asgi_obs.mcp.client"


def observe_mcp_client(
    session: Any,
    *,
    service: str,
    trace_context_argument: bool = False,
    tracer_provider: trace.TracerProvider | None = None,
    registry: CollectorRegistry | None = None,
    settings: Settings | None = None,
) -> ObservedMcpClient:
    """A session, or a client, whose calls of tools are logged, counted and traced.

    Args:
        session: A `ClientSession` of the `mcp` package, or the `Client` of its version 2; entered or not.
        service: The name of the service that is called.
        trace_context_argument: Send trace and correlation ID as the argument `_trace_context` too, for servers that
            look there and not into `_meta`. Other servers may reject an argument that they do not know.
        tracer_provider: Makes the tracer; None is OpenTelemetry's global provider, whenever it is set.
        registry: Where the metrics are scraped; None is the default registry of `prometheus_client`.
        settings: What the environment says, if it is not to be read here.

    Raises:
        ConfigurationError: `session` has no `call_tool`, or `service` is no name.
        SettingsError: A variable has a value that is not allowed.
    """
    if not _takes_meta(getattr(session, "call_tool", None)):
        raise ConfigurationError("session", session, "a ClientSession or Client of the mcp package, 1.19 or later")
    if not isinstance(service, str) or not service:
        raise ConfigurationError("service", service, "the name of the service that is called")
    attributes = {"mcp.service": service}
    side = Side.of(LOGGER, "mcp.tool.", SpanKind.CLIENT, tracer_provider, settings, attributes)
    metrics = _Metrics(REGISTRY if registry is None else registry)
    return ObservedMcpClient(session, side, metrics, trace_context_argument=trace_context_argument)


def _takes_meta(call_tool: Any) -> bool:
    if not callable(call_tool):
        return False
    parameters = inspect.signature(call_tool).parameters
    return "meta" in parameters or any(found.kind is found.VAR_KEYWORD for found in parameters.values())


class _Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls: Family[Counter] = family("mcp_tool_calls_total", registry, max_series=MAX_SERIES)
        self._duration: Family[Histogram] = family("mcp_tool_call_duration_seconds", registry, max_series=MAX_SERIES)

    def count(self, tool: str, outcome: Outcome, seconds: float) -> None:
        self._calls.child((tool, outcome)).inc()
        self._duration.child((tool,)).observe(seconds)


class ObservedMcpClient:
    """What `observe_mcp_client` returns: all but `call_tool` is that of the session it wraps."""

    def __init__(self, session: Any, side: Side, metrics: _Metrics, *, trace_context_argument: bool) -> None:
        self._session = session
        self._side = side
        self._metrics = metrics
        self._trace_context_argument = trace_context_argument

    async def call_tool(
        self, name: str, arguments: dict[str, Any] | None = None, *args: Any, meta: Any = None, **kwargs: Any
    ) -> Any:
        """Call a tool; takes and returns what the `call_tool` of the session does, and raises what it raises."""
        with _ClientCall(self._side, name, arguments, self._metrics) as call:
            if self._trace_context_argument:
                arguments = {**(arguments or {}), TRACE_ARGUMENT: attempt(context_for_argument) or {}}
            if meta is None or isinstance(meta, Mapping):
                # Where the SDK puts the trace there itself it takes the place of ours, with the span that it makes
                # inside of ours. Not all of its transports do: the one in memory does not.
                meta = {**(meta or {}), **(attempt(context_for_meta) or {})} or meta
            call.result = await self._session.call_tool(name, arguments, *args, meta=meta, **kwargs)
        return call.result

    def __getattr__(self, name: str) -> Any:
        if name == "_session":  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self._session, name)

    async def __aenter__(self) -> ObservedMcpClient:  # noqa: PYI034 - `Self` is not in Python 3.10
        await self._session.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Any:
        return await self._session.__aexit__(kind, error, traceback)


class _ClientCall(ToolCall):
    def __init__(self, side: Side, name: str, arguments: Any, metrics: _Metrics) -> None:
        super().__init__(side, name, arguments)
        self._metrics = metrics

    def _surround(self) -> None:
        # An SDK that injects sends all baggage there is: it is not for others unless somebody says so.
        self._enter(attached(otel_baggage.clear(otel_context.get_current())))
        if current_correlation_id() is None:
            self._enter(LogContext(uuid4()))

    def _count(self, outcome: Outcome, seconds: float) -> None:
        self._metrics.count(self._name, outcome, seconds)
