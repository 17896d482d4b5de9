"""Who sent a request: the client's address, and whether a credential came with it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import Exchange
from asgi_obs.types import Scope

__all__ = ["TrustedProxies", "has_credential", "peer_address", "scope_user_id"]

MAX_HOPS: Final = 32
"""Entries of `X-Forwarded-For` that are looked at, from the right."""

_Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
_Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

_SESSION_COOKIE: Final = re.compile(rb"sess|auth|jwt|access_?token|sid$", re.IGNORECASE)
"""In the names of the cookies that hold a session; those against cross-site requests hold none."""

_IDENTITIES: Final = ("identity", "id", "user_id", "username")


def peer_address(scope: Scope) -> str | None:
    """The address of the other end of the connection; None for a Unix socket, and when the server does not say."""
    client = scope.get("client")
    return client[0] or None if client else None


class TrustedProxies:
    """Tells the address of the client behind proxies that are known.

    `X-Forwarded-For` is read from the right, where the nearest proxy wrote, and only as far as those who wrote are
    trusted: what a client puts there itself is never believed.

    Args:
        proxies: Addresses and CIDR networks.

    Raises:
        ConfigurationError: One of them is neither.
    """

    def __init__(self, proxies: Iterable[str]) -> None:
        self._networks: list[_Network] = []
        for proxy in proxies:
            try:
                self._networks.append(ipaddress.ip_network(proxy, strict=False))
            except ValueError:
                raise ConfigurationError(
                    "trusted_proxies", proxy, "addresses and CIDR networks, such as ['10.0.0.0/8']"
                ) from None

    def client_address(self, scope: Scope) -> str | None:
        """The nearest address that is not a trusted proxy's; the farthest proxy's if there is none."""
        peer = peer_address(scope)
        address = _parse(peer) if peer else None
        if address is None or not self._trusts(address):
            return peer
        forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
        for entry in reversed(forwarded.decode("latin-1").rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
            hop = _parse(entry.strip())
            if hop is None:
                break
            address = hop
            if not self._trusts(hop):
                break
        return str(address)

    def _trusts(self, address: _Address) -> bool:
        return any(address in network for network in self._networks)


def has_credential(exchange: Exchange) -> bool:
    """Whether an `Authorization` header or the cookie of a session came with the request."""
    headers = exchange.headers
    if b"authorization" in headers:
        return True
    return b"cookie" in headers and any(
        _SESSION_COOKIE.search(cookie.partition(b"=")[0].strip())
        for name, value in exchange.scope["headers"]
        if name == b"cookie"
        for cookie in value.split(b";")
    )


def scope_user_id(exchange: Exchange) -> Any:
    """The ID of `scope["user"]`, as authentication middlewares set it; None for one that is not authenticated."""
    user = exchange.inner_scope.get("user")
    if user is None or isinstance(user, (str, int)):
        return user
    if isinstance(user, dict):
        return next((user[name] for name in ("id", "user_id", "sub", "username") if user.get(name)), None)
    if not getattr(user, "is_authenticated", True):
        return None
    for name in _IDENTITIES:
        try:
            value = getattr(user, name, None)
        except Exception:  # noqa: BLE001, S112 - Starlette's users raise for an identity that they do not have
            continue
        if value is not None:
            return value
    return None


def _parse(text: str) -> _Address | None:
    """An address, also with a port behind it."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
