"""For how long the certificate of a server is valid.

It costs one connection with its handshake, which is closed at once.
"""

from __future__ import annotations

import math
import ssl
import time
from typing import Any, Final

import anyio
from anyio.streams.tls import TLSAttribute

from asgi_obs.errors import ConfigurationError
from asgi_obs.health.checks.options import is_number, require_address, require_seconds
from asgi_obs.health.checks.reasons import reason_of
from asgi_obs.health.result import CheckResult

__all__ = ["TlsCheck"]

DAY: Final = 86_400.0


class TlsCheck:
    """Connects as a client would, and reads the certificate it is shown.

    It is unhealthy when a client would not trust it: expired, of another host, of an unknown authority.

    Args:
        host: The name that the certificate is for.
        port: The port.
        days: With fewer days left the check is degraded.
        timeout: Seconds until it gives up.
        ssl_context: What the certificate is verified with. Default: the authorities of the system. For one of your
            own: `ssl.create_default_context(cafile=...)`.

    Raises:
        ConfigurationError: A value is not allowed.
    """

    def __init__(
        self,
        host: str,
        port: int = 443,
        *,
        days: float = 14,
        timeout: float = 5.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        require_address(host, port)
        if not is_number(days, 0, math.inf):
            raise ConfigurationError("days", days, "a number of days, 0 or more")
        require_seconds("timeout", timeout)
        # The certificate of a server that was not verified is not told.
        if ssl_context is not None and getattr(ssl_context, "verify_mode", None) is not ssl.CERT_REQUIRED:
            raise ConfigurationError("ssl_context", ssl_context, "an SSLContext that verifies servers, or None")
        self._host = host
        self._port = port
        self._days = days
        self._timeout = timeout
        self._ssl_context = ssl_context or ssl.create_default_context()

    async def __call__(self) -> CheckResult:
        """Check."""
        try:
            with anyio.move_on_after(self._timeout):
                return self._judged(await self._not_after())
        except ssl.SSLCertVerificationError as error:
            return CheckResult.unhealthy(f"the certificate is not valid: {error.verify_message}")
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
            return CheckResult.unhealthy("cannot connect with TLS", reason_of(error))
        return CheckResult.unhealthy(f"no TLS connection within {self._timeout:g} s")

    async def _not_after(self) -> float:
        """When the certificate expires, in seconds since 1970."""
        stream = await anyio.connect_tcp(
            self._host, self._port, ssl_context=self._ssl_context, tls_standard_compatible=False
        )
        async with stream:
            certificate: Any = stream.extra(TLSAttribute.peer_certificate)  # noqa: S610 - this is not Django's
        return ssl.cert_time_to_seconds(certificate["notAfter"])

    def _judged(self, not_after: float) -> CheckResult:
        days = (not_after - time.time()) / DAY
        message = f"the certificate expires in {math.floor(days)} days"
        return CheckResult.degraded(message) if days < self._days else CheckResult.healthy(message)
