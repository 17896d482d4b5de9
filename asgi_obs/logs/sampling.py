"""`Sampling`: which lines of successful exchanges are written.

Asked when the line of an exchange is about to be made; a line that is left out costs about two microseconds, and
nothing is asked while every rate is 1. The decision is a hash of the correlation ID: all services that one call
passes through keep the same calls, and of two with different rates the lower one keeps a part of what the higher does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Final, TypeGuard

from asgi_obs.errors import ConfigurationError, report
from asgi_obs.exchange import Exchange, HttpExchange, WebSocketExchange
from asgi_obs.settings import Settings

__all__ = ["Sampling"]

OTHER_ROUTES: Final = "*"

_RATE: Final = "a number from 0 to 1, a mapping of routes to such numbers, or a callable that takes an exchange"
_SUCCESSFUL_CLOSES: Final = frozenset({"1000", "1001", "1005"})
"""Normal closure, going away, and a close without a code: that of `WebSocket.close()` in a browser."""


class Sampling:
    """Keeps a share of the lines of successful exchanges, and all others.

    Always kept are those with a status of 400 and above, with an outcome other than `completed`, with a WebSocket
    close code other than 1000, 1001 and 1005, and those of slow requests; the length of a WebSocket session or event
    stream does not make it slow. A line that was one of several carries `sample_rate`: it stands for
    `1 / sample_rate` exchanges, and a line without it for one.

    The line of an exchange is kept if the BLAKE2b hash of its correlation ID (in UTF-8; of 8 bytes, read as one big
    endian number and divided by 2**64) is below the rate; without an ID by chance.

    Args:
        rate: The share that is kept: a number from 0 to 1; a mapping of route templates to such numbers, with `*`
            for all others (default 1); or a callable that tells the rate of an exchange that has ended. If that
            raises or returns something else, it is reported and the line is kept.
        slow: Seconds; a request that takes longer is always kept.

    Attributes:
        active: Whether any line may be left out.

    Raises:
        ConfigurationError: An option has a wrong value.
    """

    def __init__(
        self,
        rate: float | Mapping[str, float] | Callable[[Exchange], float] = 1.0,
        *,
        slow: float = 1.0,
    ) -> None:
        if isinstance(slow, bool) or not isinstance(slow, (int, float)) or not slow >= 0:
            raise ConfigurationError("slow", slow, "a number of seconds from 0")
        self._slow = slow
        self._rate: Callable[[Exchange], float]
        if isinstance(rate, Mapping) or not callable(rate):
            self._rates = _checked(rate if isinstance(rate, Mapping) else {OTHER_ROUTES: rate})
            self._other = self._rates.get(OTHER_ROUTES, 1.0)
            self._rate = self._configured
            self.active = any(share < 1 for share in self._rates.values())
        else:
            self._ask = rate
            self._rate = self._asked
            self.active = True

    @classmethod
    def of(cls, settings: Settings | None) -> Sampling:
        """What `LOG_SAMPLE_RATE` and `LOG_SLOW_SECONDS` say, in settings or, without any, in the environment."""
        if settings is None:
            return cls(dict(Settings.read("log_sample_rates")), slow=Settings.read("log_slow_seconds"))
        return cls(dict(settings.log_sample_rates), slow=settings.log_slow_seconds)

    def rate_if_kept(self, exchange: Exchange) -> float | None:
        """The share that is kept of lines like this one, 1 if all of them; None if this one is left out.

        Args:
            exchange: One that has ended.
        """
        if _failed(exchange) or self._is_slow(exchange):
            return 1.0
        rate = self._rate(exchange)
        return rate if rate >= 1 or _position(exchange.correlation_id) < rate else None

    def _is_slow(self, exchange: Exchange) -> bool:
        return exchange.duration > self._slow and isinstance(exchange, HttpExchange) and not exchange.event_stream

    def _configured(self, exchange: Exchange) -> float:
        return self._rates.get(exchange.route or OTHER_ROUTES, self._other)

    def _asked(self, exchange: Exchange) -> float:
        try:
            rate = self._ask(exchange)
            if _is_rate(rate):
                return rate
            raise ConfigurationError("rate", rate, "a number from 0 to 1")
        except Exception as error:  # noqa: BLE001 - fail open: a line too many is better than one too few
            report("Sampling.rate", error)
            return 1.0


def _failed(exchange: Exchange) -> bool:
    if (exchange.status or 0) >= 400 or exchange.outcome != "completed":
        return True
    return isinstance(exchange, WebSocketExchange) and exchange.close_code not in _SUCCESSFUL_CLOSES


def _position(correlation_id: str | None) -> float:
    """Where an exchange stands between 0 and 1: the same in all services, also those in other languages."""
    if correlation_id is None:
        return random.random()  # noqa: S311 - nothing here is a secret
    # Not the faster CRC: of consecutive numbers it keeps up to a quarter more than the rate says.
    digest = blake2b(correlation_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _checked(rates: Mapping[str, float]) -> dict[str, float]:
    for route, rate in rates.items():
        if not isinstance(route, str) or not _is_rate(rate):
            raise ConfigurationError("rate", rate if isinstance(route, str) else route, _RATE)
    return dict(rates)


def _is_rate(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and 0 <= value <= 1
