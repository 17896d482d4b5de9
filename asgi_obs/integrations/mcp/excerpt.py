"""What fits into a log line and an attribute of what was sent: arguments, and what tools say of their failures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from asgi_obs.logs.safe import safe_text

__all__ = ["MAX_EXCERPT", "excerpt", "shorten"]

MAX_EXCERPT: Final = 2_048
"""Characters, about, of all texts of an excerpt; other values count as some."""

_COST: Final = 16
"""What anything counts beside its text, so that neither long lists nor deep ones are without end."""

_CUT: Final = "..."
_LARGEST: Final = 2**63


def excerpt(value: Any, room: int = MAX_EXCERPT) -> Any:
    """A copy of what fits; the same kind of thing, so that a log store sees no field of two types.

    Args:
        value: Redacted: half a secret is not known by its looks.
        room: How many characters there are for it.
    """
    return _Excerpt(room).of(value)


def shorten(text: str, room: int = MAX_EXCERPT) -> str:
    """The beginning of a text."""
    return text if len(text) <= room else text[: max(room, 0)] + _CUT


class _Excerpt:
    """Copies until there is no room."""

    def __init__(self, room: int) -> None:
        self._room = room

    def of(self, value: Any) -> Any:
        self._room -= _COST
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, (list, tuple, set, frozenset)):
            return self._list(value)
        if value is None or isinstance(value, (bool, float)):
            return value
        if isinstance(value, int) and abs(value) < _LARGEST:
            return value
        return self._text(safe_text(value))

    def _mapping(self, value: Mapping[Any, Any]) -> dict[str, Any]:
        copy: dict[str, Any] = {}
        for key, item in value.items():
            if self._room <= 0:
                copy[_CUT] = _CUT
                break
            copy[self._text(safe_text(key))] = self.of(item)
        return copy

    def _list(self, value: Any) -> list[Any]:
        copy: list[Any] = []
        for item in value:
            if self._room <= 0:
                copy.append(_CUT)
                break
            copy.append(self.of(item))
        return copy

    def _text(self, text: str) -> str:
        short = shorten(text, self._room)
        self._room -= len(short)
        return short
