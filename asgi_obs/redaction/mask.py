"""What stands in the place of what was redacted."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

__all__ = ["MASK", "mask_behind"]

MASK: Final = "******"


def mask_behind(
    text: str,
    pattern: re.Pattern[str],
    end_of: Callable[[str, int], int],
    condition: Callable[[re.Match[str]], bool] = lambda _found: True,
) -> str:
    """Mask what stands behind every match that meets the condition, up to `end_of`."""
    pieces: list[str] = []
    place = 0
    while found := pattern.search(text, place):
        start = found.end()
        end = end_of(text, start)
        if condition(found) and end - start > 2:  # quotes or brackets with something in them
            pieces += (text[place:start], MASK)
        else:
            pieces.append(text[place:end])
        place = end
    return "".join((*pieces, text[place:])) if pieces else text
