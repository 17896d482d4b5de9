"""Another service, by what its own health endpoint says.

It costs one request, on a connection of its own unless a client is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import orjson

from asgi_obs.errors import ConfigurationError, MissingExtraError
from asgi_obs.health.checks.options import require_seconds
from asgi_obs.health.result import CheckResult, Status
from asgi_obs.redaction import redactor_of
from asgi_obs.redaction.mask import MASK

if TYPE_CHECKING:
    import httpx

__all__ = ["HttpCheck"]

MAX_BODY: Final = 65_536
"""Bytes of an answer that are read."""

HEADERS: Final[Mapping[str, str]] = {
    "Accept": "application/health+json, application/json",
    "Accept-Encoding": "identity",  # what is compressed may be of any size
}

STATUSES: Final[Mapping[str, Status]] = {
    **dict.fromkeys(("healthy", "pass", "ok", "up"), "healthy"),
    **dict.fromkeys(("degraded", "warn"), "degraded"),
    **dict.fromkeys(("unhealthy", "fail", "error", "down"), "unhealthy"),
}
"""What health endpoints say: ours, those of https://datatracker.ietf.org/doc/html/draft-inadarei-api-health-check."""


class HttpCheck:
    """Asks a URL with GET: as healthy as the answer says, which may be JSON with a `status`; unhealthy without a 2xx.

    Redirects are not followed. The environment is not looked at: a health check sends no credentials from `.netrc`,
    and nothing to a proxy that a variable names. Where a proxy is needed, or an authority of your own, give a client.

    Two services that ask each other would wait for each other: let one of them ask for `/health/live`.

    Args:
        url: An absolute URL, such as `http://memory:8000/health`.
        timeout: Seconds until it gives up, all in all.
        headers: Further headers to send.
        client: An `httpx.AsyncClient` to use, which is not closed. Default: a new one for each check, so that it goes
            through all that a new client would.

    Raises:
        MissingExtraError: httpx is not installed.
        ConfigurationError: A value is not allowed.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 2.0,
        headers: Mapping[str, str] | None = None,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self._httpx = _imported()
        self._url = self._parsed(url)
        require_seconds("timeout", timeout)
        if client is not None and not isinstance(client, self._httpx.AsyncClient):
            raise ConfigurationError("client", client, "an httpx.AsyncClient, or None")
        self._timeout = timeout
        self._headers = self._merged(headers)
        self._open = self._opener(client)

    def _parsed(self, url: object) -> httpx.URL:
        try:
            parsed: httpx.URL = self._httpx.URL(url)
        except (TypeError, self._httpx.InvalidURL):
            parsed = self._httpx.URL()
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            shown = MASK if "@" in str(url) else redactor_of().redact(url)
            raise ConfigurationError("url", shown, "an absolute URL with http or https") from None
        return parsed

    def _merged(self, headers: Mapping[str, str] | None) -> httpx.Headers:
        merged: httpx.Headers = self._httpx.Headers(HEADERS)
        try:
            merged.update(headers)
            if all(text.isprintable() and text == text.strip() for item in merged.multi_items() for text in item):
                return merged
        except (AttributeError, TypeError, ValueError):
            pass
        # Not the value: it may hold a credential.
        raise ConfigurationError("headers", type(headers), "a mapping of names to texts without line ends, or None")

    def _opener(self, client: httpx.AsyncClient | None) -> Callable[[], AbstractAsyncContextManager[httpx.AsyncClient]]:
        if client is not None:
            return lambda: nullcontext(client)
        ssl_context = self._httpx.create_ssl_context(trust_env=False)  # takes 15 ms: not for each check
        return partial(self._httpx.AsyncClient, verify=ssl_context, trust_env=False)

    async def __call__(self) -> CheckResult:
        """Check."""
        try:
            with anyio.move_on_after(self._timeout):
                return await self._ask()
        except self._httpx.TransportError as error:
            return CheckResult.unhealthy(f"no answer: {type(error).__name__}", str(error))
        return CheckResult.unhealthy(f"no answer within {self._timeout:g} s")

    async def _ask(self) -> CheckResult:
        async with self._open() as client:
            asked = client.stream("GET", self._url, headers=self._headers, follow_redirects=False, timeout=None)
            async with asked as response:
                if not response.is_success:
                    return CheckResult.unhealthy(f"HTTP {response.status_code}")
                body = await _read(response)
        return _judged(response.status_code, body)


def _imported() -> Any:
    try:
        import httpx
    except ImportError as error:
        raise MissingExtraError("HttpCheck", "httpx") from error
    return httpx


async def _read(response: httpx.Response) -> bytes | None:
    """The body; None if there is more of it than is read."""
    body = bytearray()
    # A `break` would leave the generators of httpx to the garbage collector, about which trio complains.
    with anyio.CancelScope() as scope:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_BODY:
                scope.cancel()
    return bytes(body) if len(body) <= MAX_BODY else None


def _judged(status_code: int, body: bytes | None) -> CheckResult:
    if body is None:
        return CheckResult.degraded(f"HTTP {status_code}, with more than {MAX_BODY} bytes: not read")
    status = _status_in(body)
    if status is None:
        return CheckResult.healthy(f"HTTP {status_code}")
    return CheckResult(status, f"HTTP {status_code}, {status}")


def _status_in(body: bytes) -> Status | None:
    """What a body says, if it is JSON with a status that is known."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    status = answer.get("status") if isinstance(answer, dict) else None
    return STATUSES.get(status.lower()) if isinstance(status, str) else None
