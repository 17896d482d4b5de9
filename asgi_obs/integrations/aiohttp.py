"""aiohttp's client: trace, correlation ID, span, metrics and log line for every request of a session.

`ClientSession(trace_configs=[trace_config()])` is all there is to do. Each hop of a redirect is a call, and its headers
are decided anew: aiohttp itself would send those of the first hop to every other. Bodies are left alone, both ways. For
what a call costs, and when it ends, see `asgi_obs.integrations.http_client`.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from asgi_obs.errors import MissingExtraError, report_call
from asgi_obs.integrations.http_client import CallOptions, Calls

try:
    import aiohttp
    from yarl import URL
except ImportError as error:
    raise MissingExtraError("asgi_obs.integrations.aiohttp", "aiohttp") from error

if TYPE_CHECKING:
    from types import SimpleNamespace

    from multidict import CIMultiDict
    from typing_extensions import Unpack

__all__ = ["trace_config"]

_CONTRIB: Final = "opentelemetry.instrumentation.aiohttp_client"
_SCHEMES: Final = frozenset({"http", "https"})


def trace_config(**options: Unpack[CallOptions]) -> aiohttp.TraceConfig:
    """What makes a call of every request of a `ClientSession` that is given it in `trace_configs`.

    Args:
        **options: Those of `asgi_obs.integrations.http_client.Calls`.

    Raises:
        ConfigurationError: An option has a wrong value.
    """
    hooks = _Hooks(Calls(**options))
    config = aiohttp.TraceConfig()
    config.on_request_start.append(_signal(hooks.started))
    config.on_request_redirect.append(_signal(hooks.redirected))
    config.on_request_end.append(_signal(hooks.ended))
    config.on_request_exception.append(_signal(hooks.failed))
    return config


class _Hooks:
    """What happens at the signals of aiohttp; its `context` is there for one request and all its redirects."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def started(
        self, session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestStartParams
    ) -> None:
        context.traced = _is_traced(session)
        self._start(context, params.method, params.url, params.headers)

    def redirected(
        self, _session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestRedirectParams
    ) -> None:
        # First of all: the next hop may lead to a host that must not have them.
        for name in context.call.headers:
            params.headers.popall(name, None)
        response = params.response
        self._succeeded(context, response)
        target = _target(params.url, response)
        if target is not None:
            self._start(context, _method_after(params.method, response.status), target, params.headers)

    def ended(
        self, _session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestEndParams
    ) -> None:
        if context.call is not None:
            self._succeeded(context, params.response)

    def failed(
        self, _session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestExceptionParams
    ) -> None:
        call, context.call = context.call, None
        if call is None:
            return
        error = params.exception
        # By `raise_for_status`. One with a cause is about a response that could not be read.
        if type(error) is aiohttp.ClientResponseError and error.__cause__ is None:
            call.succeeded(error.status)
        else:
            call.failed(error)

    def _start(self, context: SimpleNamespace, method: str, url: URL, headers: CIMultiDict[str]) -> None:
        context.call = self._calls.start(method, url, url.raw_host or "", headers, traced=context.traced)
        context.call.apply(headers)
        # The signals of several configurations come in one order at both ends, not inside one another.
        context.call.leave()

    def _succeeded(self, context: SimpleNamespace, response: aiohttp.ClientResponse) -> None:
        call, context.call = context.call, None
        version = response.version
        call.succeeded(response.status, None if version is None else f"{version.major}.{version.minor}")


def _signal(hook: Callable[[Any, Any, Any], None]) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """A hook as aiohttp wants it; what it raises is reported."""

    async def signal(session: Any, context: Any, params: Any) -> None:
        try:
            hook(session, context, params)
        except Exception as error:  # noqa: BLE001 - fail open: the request is more than its observation
            report_call(hook, error)

    return signal


def _target(url: URL, response: aiohttp.ClientResponse) -> URL | None:
    """Where a redirect leads, as aiohttp reads it; None if it will not be followed."""
    location = response.headers.get("Location") or response.headers.get("URI")
    if location is None:
        return None
    try:
        target = url.join(URL(location))
    except ValueError:
        return None
    return target if target.raw_host and target.scheme in _SCHEMES else None


def _method_after(method: str, status: int) -> str:
    """The method behind a redirect; aiohttp does what browsers do."""
    is_get = (status == 303 and method != "HEAD") or (status in {301, 302} and method == "POST")
    return "GET" if is_get else method


def _is_traced(session: aiohttp.ClientSession) -> bool:
    """Whether opentelemetry-instrumentation-aiohttp-client makes a span of the requests of a session."""
    return _CONTRIB in sys.modules and any(
        getattr(receiver, "__module__", None) == _CONTRIB
        for config in session.trace_configs
        for receiver in config.on_request_start
    )
