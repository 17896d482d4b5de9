"""What the options of several checks may be."""

from __future__ import annotations

import math
from typing import Final, TypeGuard

from asgi_obs.errors import ConfigurationError

__all__ = ["MAX_PORT", "is_number", "require_address", "require_seconds"]

MAX_PORT: Final = 65_535


def is_number(value: object, least: float, most: float) -> TypeGuard[float]:
    """Whether it is a number within these bounds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def require_seconds(option: str, value: object) -> None:
    """Raise ConfigurationError unless it is a time that one can wait for."""
    if not is_number(value, 0, math.inf) or value in {0, math.inf}:
        raise ConfigurationError(option, value, "a number of seconds above 0")


def require_address(host: object, port: object) -> None:
    """Raise ConfigurationError unless they say where a server is."""
    if not isinstance(host, str) or not host:
        raise ConfigurationError("host", host, "a host name or an address")
    if not isinstance(port, int) or not is_number(port, 1, MAX_PORT):
        raise ConfigurationError("port", port, f"a port from 1 to {MAX_PORT}")
