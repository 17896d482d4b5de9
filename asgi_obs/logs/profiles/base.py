"""What the profiles have in common: their type, a name for fields without a place, levels that others made up."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from asgi_obs.logs.levels import LEVEL_NAMES

__all__ = ["OTHERS", "Line", "Profile", "standard_level"]

Line: TypeAlias = dict[str, Any]
"""The fields of a line in our schema, redacted, in their order."""

Profile: TypeAlias = Callable[[Line, logging.LogRecord], dict[str, Any]]
"""Makes the object that is written. Changes neither the line nor the record; reads of this only when and where."""

OTHERS: Final = "asgi_obs"
"""The name under which a schema keeps what it has no place for: its own names are never given away."""

_NAMES: Final = frozenset(LEVEL_NAMES.values())
_NUMBERS: Final = sorted(LEVEL_NAMES)


def standard_level(name: object, record: logging.LogRecord) -> str:
    """A level of ours; for one that others made up the next lower one, or the lowest."""
    if isinstance(name, str) and name in _NAMES:
        return name
    number = record.levelno
    if not isinstance(number, int):
        return "INFO"
    return LEVEL_NAMES[_NUMBERS[max(bisect_right(_NUMBERS, number) - 1, 0)]]
