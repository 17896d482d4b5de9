"""httpx and httpx2: trace, correlation ID, span, metrics and log line for every request of a client.

`instrument_httpx(client)` is all there is to call; the transports are for whoever builds the client. Neither library is
imported here: a client brings its own. Each hop of a redirect and each retry is a call; bodies are left alone, both
ways. For what a call costs, and when it ends, see `asgi_obs.integrations.http_client`.
"""

from __future__ import annotations

import logging
import sys
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from asgi_obs.errors import ConfigurationError
from asgi_obs.integrations.http_client import Call, CallOptions, Calls

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["AsyncObservedTransport", "ObservedTransport", "instrument_httpx"]

_LIBRARIES: Final = ("httpx", "httpx2")
_CONTRIB: Final = "opentelemetry.instrumentation.httpx"

# To a type checker a transport of ours is one of either library; when it is made it is one of that of its transport.
_Base: Any = object

_Client = TypeVar("_Client")

MAX_BASES: Final = 16
"""Base classes of transports that subclasses are kept for: there is one for each library."""

_log = logging.getLogger("asgi_obs")


class ObservedTransport(_Base):  # type: ignore[misc]
    """A transport that makes a call of every request that goes through another one.

    Args:
        transport: The transport that sends them, of `httpx` or `httpx2`.
        **options: Those of `asgi_obs.integrations.http_client.Calls`.

    Raises:
        ConfigurationError: It is no transport, or an option has a wrong value.
    """

    def __new__(cls, transport: Any, **_: Any) -> Any:
        """An instance of the library's own base class too, which other transports ask for."""
        return object.__new__(_with_base_of(transport, cls, "BaseTransport"))

    def __init__(self, transport: Any, **options: Unpack[CallOptions]) -> None:
        self._transport = _checked(transport, "handle_request")
        self._calls = Calls(**options)

    def handle_request(self, request: Any) -> Any:
        """Send a request."""
        traced = _is_traced(self, "handle_request") or _is_traced(self._transport, "handle_request")
        call, request = _start(self._calls, request, traced=traced)
        try:
            response = self._transport.handle_request(request)
        except BaseException as error:
            call.failed(error)
            raise
        call.succeeded(response.status_code, _version(response))
        return response

    def close(self) -> None:
        """Close the transport that sends."""
        self._transport.close()

    def __enter__(self) -> ObservedTransport:  # noqa: PYI034 - `Self` is not in Python 3.10
        self._transport.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._transport.__exit__(kind, error, traceback)


class AsyncObservedTransport(_Base):  # type: ignore[misc]
    """As `ObservedTransport`, for the transport of an `AsyncClient`."""

    def __new__(cls, transport: Any, **_: Any) -> Any:
        """As `ObservedTransport`."""
        return object.__new__(_with_base_of(transport, cls, "AsyncBaseTransport"))

    def __init__(self, transport: Any, **options: Unpack[CallOptions]) -> None:
        self._transport = _checked(transport, "handle_async_request")
        self._calls = Calls(**options)

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request."""
        traced = _is_traced(self, "handle_async_request") or _is_traced(self._transport, "handle_async_request")
        call, request = _start(self._calls, request, traced=traced)
        try:
            response = await self._transport.handle_async_request(request)
        except BaseException as error:
            call.failed(error)
            raise
        call.succeeded(response.status_code, _version(response))
        return response

    async def aclose(self) -> None:
        """Close the transport that sends."""
        await self._transport.aclose()

    async def __aenter__(self) -> AsyncObservedTransport:  # noqa: PYI034 - as above
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, traceback)


def instrument_httpx(client: _Client, **options: Unpack[CallOptions]) -> _Client:
    """Make a call of every request of a client, in place; once, however often it is asked for.

    Args:
        client: A `Client` or `AsyncClient` of `httpx` or `httpx2`; its proxies and mounts are covered too.
        **options: Those of `asgi_obs.integrations.http_client.Calls`.

    Returns:
        The same client.

    Raises:
        ConfigurationError: It is no such client, or an option has a wrong value.
    """
    kind = _transport_for(client)
    inside: Any = client
    if isinstance(inside._transport, kind) and options:
        Calls(**options)  # what is wrong with them is said in any case
        _log.warning("This client is observed already, and its options stay: %s", ", ".join(options))

    def observed(transport: Any) -> Any:
        return transport if transport is None or isinstance(transport, kind) else kind(transport, **options)

    inside._transport = observed(inside._transport)
    inside._mounts = {pattern: observed(transport) for pattern, transport in inside._mounts.items()}
    return client


def _transport_for(client: object) -> type[ObservedTransport | AsyncObservedTransport]:
    # Whoever has a client has loaded its library.
    for module in filter(None, map(sys.modules.get, _LIBRARIES)):
        if isinstance(client, module.AsyncClient):
            return AsyncObservedTransport
        if isinstance(client, module.Client):
            return ObservedTransport
    raise ConfigurationError("client", client, "a Client or an AsyncClient of httpx or httpx2")


@lru_cache(MAX_BASES)
def _subclass(cls: Any, base: Any) -> Any:
    return type(cls.__name__, (cls, base), {"__module__": cls.__module__})


def _with_base_of(transport: object, cls: Any, name: str) -> Any:
    """A transport class of ours, as a subclass of the base class that another transport has."""
    bases = (kind for kind in type(transport).__mro__ if kind.__name__ == name)
    base = next(bases, None)
    return cls if base is None or issubclass(cls, base) else _subclass(cls, base)


def _checked(transport: Any, method: str) -> Any:
    if isinstance(transport, type) or not callable(getattr(transport, method, None)):
        raise ConfigurationError("transport", transport, f"a transport of httpx or httpx2 with {method}()")
    return transport


def _start(calls: Calls, request: Any, *, traced: bool) -> tuple[Call, Any]:
    """The call of a request, and what is to be sent for it."""
    url = request.url
    call = calls.start(request.method, url, url.raw_host.decode("ascii"), request.headers, traced=traced)
    return call, _with_headers(request, call) if call.headers else request


def _with_headers(request: Any, call: Call) -> Any:
    """A copy of a request with the headers of a call.

    The request itself is what a redirect is made from, which may lead to a host that must not have them; and it is the
    caller's, who may send it twice. The copy is made by hand: `copy` and `pickle` leave out the body.
    """
    copied = object.__new__(type(request))
    copied.__dict__.update(request.__dict__)
    copied.headers = request.headers.copy()
    call.apply(copied.headers)
    return copied


def _version(response: Any) -> str | None:
    version = response.extensions.get("http_version")
    return version.decode("ascii", "replace").partition("/")[2] if isinstance(version, bytes) else None


def _is_traced(transport: object, method: str) -> bool:
    """Whether opentelemetry-instrumentation-httpx makes a span of what goes through a transport.

    Its instrumentor leaves a wrapper in the place of the method, of the class or of one transport; or the transport is
    one of its own.
    """
    if _CONTRIB not in sys.modules:
        return False
    kinds = type(transport).__mro__
    methods = [getattr(transport, "__dict__", {}).get(method), *(vars(kind).get(method) for kind in kinds)]
    wrappers = [getattr(found, "_self_wrapper", None) for found in methods]
    makers = [*kinds, *(getattr(wrapper, "func", None) for wrapper in wrappers)]
    return any(getattr(maker, "__module__", None) == _CONTRIB for maker in makers)
