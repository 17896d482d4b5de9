r"""Escapes that are written as characters: they end in a letter or a digit that is no part of the word behind them.

`repr`, JSON and URLs write them: `\n`, `\x01`, `\u00e9`, `%22`. The colours of a terminal are a case of their own:
they may stand anywhere, and are taken out of a text before it is judged.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["BEHIND_ESCAPE", "TRIGGERS", "without_colours"]

BEHIND_ESCAPE: Final = r"(?<=\\[nrtfv0])|(?<=\\x[0-9A-Fa-f]{2})|(?<=\\u[0-9A-Fa-f]{4})|(?<=%[0-9A-Fa-f]{2})"
"""For a regular expression: the place behind an escape."""

TRIGGERS: Final = ("\x1b\\[", r"1b\[", r"033\[")
"""For `asgi_obs.redaction.prefilter`."""

_COLOUR: Final = re.compile(r"(?:\x1b|\\{1,16}(?:x1b|u001b|033))\[[0-9;]{0,32}[A-Za-z]", re.IGNORECASE)


def without_colours(text: str) -> str:
    """The text without the sequences that colour it, written as they are or as escapes."""
    return _COLOUR.sub("", text) if "[" in text else text
