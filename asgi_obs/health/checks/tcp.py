"""Whether a port accepts connections.

It costs one connection, which is closed at once.
"""

from __future__ import annotations

import anyio

from asgi_obs.health.checks.options import require_address, require_seconds
from asgi_obs.health.checks.reasons import reason_of
from asgi_obs.health.result import CheckResult

__all__ = ["TcpCheck"]


class TcpCheck:
    """Connects to a port, and says nothing.

    Args:
        host: A host name or an address.
        port: The port.
        timeout: Seconds until it gives up.

    Raises:
        ConfigurationError: A value is not allowed.
    """

    def __init__(self, host: str, port: int, *, timeout: float = 2.0) -> None:
        require_address(host, port)
        require_seconds("timeout", timeout)
        self._host = host
        self._port = port
        self._timeout = timeout

    async def __call__(self) -> CheckResult:
        """Check."""
        try:
            with anyio.move_on_after(self._timeout):
                async with await anyio.connect_tcp(self._host, self._port):
                    return CheckResult.healthy("connected")
        except OSError as error:
            return CheckResult.unhealthy("cannot connect", reason_of(error))
        return CheckResult.unhealthy(f"no connection within {self._timeout:g} s")
