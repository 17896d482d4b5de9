"""Whose trace context is continued.

A caller from outside who chooses trace IDs can join strangers' traces, and force or prevent sampling; what he puts
into `tracestate` and `baggage` goes on to every service behind. See https://www.w3.org/TR/trace-context/#security-considerations.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any, Final, TypeAlias

from asgi_obs.errors import ConfigurationError, report_call
from asgi_obs.types import Scope

__all__ = ["Trust", "trust_of"]

Trust: TypeAlias = Callable[[Scope], Any]
"""Says of the scope of a request whether its caller is trusted."""

MAX_ADDRESSES: Final = 4_096
"""Addresses whose verdict is remembered."""

_ALLOWED: Final = "True, False, a list of networks such as ['10.0.0.0/8'], or a callable that takes a scope"


def trust_of(option: bool | Collection[str] | Trust) -> bool | Trust:  # noqa: FBT001 - a value, not a switch
    """What decides about callers: a constant, or a function that never raises.

    Args:
        option: Everybody, nobody, the addresses and CIDR networks of callers (of the connection's other end, as the
            server tells it), or a function that is called with the scope; one that fails trusts nobody.

    Raises:
        ConfigurationError: It is none of these.
    """
    if isinstance(option, bool):
        return option
    if callable(option):
        return _safe(option)
    if isinstance(option, str) or not isinstance(option, Collection):
        raise ConfigurationError("trust_incoming", option, _ALLOWED)
    return _from(option)


def _safe(function: Trust) -> Trust:
    def trust(scope: Scope) -> bool:
        try:
            return bool(function(scope))
        except Exception as error:  # noqa: BLE001 - fail closed: what cannot be judged is not trusted
            report_call(function, error)
            return False

    return trust


def _from(entries: Collection[str]) -> Trust:
    try:
        networks = [ip_network(entry, strict=False) for entry in entries]
    except ValueError:
        raise ConfigurationError("trust_incoming", entries, _ALLOWED) from None

    @lru_cache(MAX_ADDRESSES)
    def is_inside(host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        # A socket that serves both versions shows `::ffff:10.0.0.1`.
        names = {address, getattr(address, "ipv4_mapped", None) or address}
        return any(name in network for network in networks for name in names)

    def trust(scope: Scope) -> bool:
        client = scope.get("client")
        return is_inside(client[0]) if client else False

    return trust
