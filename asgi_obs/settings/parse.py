"""The text of a variable -> its value, and what a value may be. What cannot be parsed raises ValueError."""

from __future__ import annotations

import re
import warnings
from ipaddress import ip_network
from typing import Final

__all__ = [
    "flag",
    "is_network",
    "is_number",
    "is_pattern",
    "is_prefix",
    "is_regex",
    "is_whole",
    "levels",
    "names",
    "octal",
    "rates",
    "trust",
    "words",
]

_PREFIX: Final = re.compile(r"(?:/[^/{}?#\s]+)*")


def names(text: str) -> tuple[str, ...]:
    """`a, b` -> its parts."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def words(text: str) -> tuple[str, ...]:
    """`a b` -> its parts."""
    return tuple(text.split())


def pairs(text: str) -> tuple[tuple[str, str], ...]:
    """`a=1, b=2` -> names and values."""
    pairs = []
    for entry in names(text):
        name, equals, value = entry.rpartition("=")
        if not equals or not name.strip():
            raise ValueError(entry)
        pairs.append((name.strip(), value.strip()))
    return tuple(pairs)


def levels(text: str) -> tuple[tuple[str, str], ...]:
    """`logger=LEVEL, ...`."""
    return tuple((name, level.upper()) for name, level in pairs(text))


def rates(text: str) -> tuple[tuple[str, float], ...]:
    """A rate for all routes, or `route=rate, ...`."""
    return tuple((route, float(rate)) for route, rate in (pairs(text) if "=" in text else (("*", text),)))


def flag(text: str) -> bool:
    """`true` or `false`."""
    if text.lower() not in {"true", "false"}:
        raise ValueError(text)
    return text.lower() == "true"


def trust(text: str) -> bool | tuple[str, ...]:
    """A flag, or networks."""
    if text.lower() in {"true", "false"}:
        return flag(text)
    networks = names(text)
    for network in networks:
        ip_network(network, strict=False)
    return networks


def is_network(text: object) -> bool:
    """Whether it is a network, or an address."""
    try:
        return isinstance(text, str) and ip_network(text, strict=False) is not None
    except ValueError:
        return False


def is_whole(value: object, least: int, most: int) -> bool:
    """Whether it is a whole number within these bounds."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_number(value: object, most: float) -> bool:
    """Whether it is a number from 0 on."""
    return isinstance(value, (int, float)) and 0 <= value <= most


def is_regex(pattern: object) -> bool:
    """Whether it is a regular expression."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # what later versions of Python refuse
            return isinstance(pattern, str) and re.compile(pattern) is not None
    except (re.error, DeprecationWarning):
        return False


def is_pattern(pattern: object) -> bool:
    """Whether it is a regular expression that matches something."""
    return isinstance(pattern, str) and is_regex(pattern) and re.search(pattern, "") is None


def is_prefix(path: object) -> bool:
    """Whether it is the beginning of a path, with no slash at its end; nothing is one too."""
    return isinstance(path, str) and _PREFIX.fullmatch(path) is not None


def octal(text: str) -> int:
    """A number in octal digits."""
    return int(text, 8)
