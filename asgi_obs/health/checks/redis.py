"""Redis, through the application's own client.

It costs one PING, on a connection of the client's pool.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import Any

from asgi_obs.errors import ConfigurationError
from asgi_obs.health.result import CheckResult

__all__ = ["RedisCheck"]


class RedisCheck:
    """Sends a PING.

    How long a client that is not async waits is up to itself: give it a `socket_timeout` and a
    `socket_connect_timeout`.

    Args:
        client: A `redis.Redis` or a `redis.asyncio.Redis`, or any other that has `ping()`.

    Raises:
        ConfigurationError: It has none.
    """

    def __new__(cls, client: Any) -> RedisCheck:  # noqa: PYI034 - `Self` is not in Python 3.10
        """One whose call is async, if the client is: the registry looks at that."""
        is_async = hasattr(client, "__aenter__") or inspect.iscoroutinefunction(getattr(client, "ping", None))
        return object.__new__(_AsyncRedisCheck if is_async else cls)

    def __init__(self, client: Any) -> None:
        if not callable(getattr(client, "ping", None)):
            raise ConfigurationError("client", client, "a client of Redis")
        self._client = client

    def __call__(self) -> CheckResult | Awaitable[CheckResult]:
        """Check; raises what the client raises."""
        return _judged(self._client.ping())


class _AsyncRedisCheck(RedisCheck):
    async def __call__(self) -> CheckResult:
        return _judged(await self._client.ping())


def _judged(answer: object) -> CheckResult:
    return CheckResult.healthy("answers PING") if answer else CheckResult.unhealthy("no answer to PING")
