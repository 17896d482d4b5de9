"""Bytes as people read them."""

from __future__ import annotations

from typing import Final

__all__ = ["size_text"]

UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")

_FOUR_DIGITS: Final = 999.5
"""What would be rounded to 1000."""


def size_text(size: float) -> str:
    """Bytes with three digits: `1.2 GiB`."""
    for unit in UNITS[:-1]:
        if size < _FOUR_DIGITS:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} {UNITS[-1]}"
