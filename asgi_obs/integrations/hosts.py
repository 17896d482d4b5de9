"""Which hosts may get the context of a request: trace, correlation ID, baggage."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Final, TypeAlias

from asgi_obs.errors import ConfigurationError, report

__all__ = ["HostRule", "bracketed", "host_rule", "texts"]

HostRule: TypeAlias = "Collection[str] | Callable[[str], bool] | None"
"""Which hosts may get context: patterns, a function, or all."""

MAX_PORT: Final = 65_535

_HOST_PATTERN: Final = re.compile(r"\*|(?:(?:\*\.)?[^\s/*@?#:\[\]]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")


def bracketed(address: str) -> str:
    """An address as it stands in a URL."""
    return f"[{address}]" if ":" in address else address


def host_rule(propagate_to: HostRule) -> Callable[[str, int], bool]:
    """What says whether a host and port may have context."""
    if propagate_to is None:
        return lambda _address, _port: True
    if callable(propagate_to):
        return _asks(propagate_to)
    allowed = "None, host patterns such as ['api.example.com', '*.internal', 'localhost:8080'], or a callable"
    patterns = [pattern.lower() for pattern in texts("propagate_to", propagate_to, allowed)]
    for pattern in patterns:
        match = _HOST_PATTERN.fullmatch(pattern)
        if match is None or not pattern.isascii() or int(match[1] or 0) > MAX_PORT:
            raise ConfigurationError("propagate_to", pattern, allowed)
    names = frozenset(patterns)
    endings = tuple(pattern[1:] for pattern in patterns if pattern.startswith("*"))

    def is_allowed(address: str, port: int) -> bool:
        name = bracketed(address)
        place = f"{name}:{port}"
        return name in names or place in names or name.endswith(endings) or place.endswith(endings)

    return is_allowed


def _asks(rule: Callable[[str], bool]) -> Callable[[str, int], bool]:
    def is_allowed(address: str, _port: int) -> bool:
        try:
            return bool(rule(address))
        except Exception as error:  # noqa: BLE001 - a host that cannot be judged gets nothing
            report("http_client.propagate_to", error)
            return False

    return is_allowed


def texts(option: str, values: object, allowed: str) -> list[str]:
    """The texts that an option has; what else it may have is said in `allowed`."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Collection):
        raise ConfigurationError(option, values, allowed)
    texts = [value for value in values if isinstance(value, str) and value]
    if len(texts) < len(values):
        raise ConfigurationError(option, values, allowed)
    return texts
