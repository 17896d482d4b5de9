"""Values of SQL: the parameters that SQLAlchemy prints, literals, and what databases say in their errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from asgi_obs.redaction.keys import Words
from asgi_obs.redaction.mask import MASK
from asgi_obs.redaction.values import bracket_end, line_end

__all__ = ["TRIGGERS", "SqlRules"]

TRIGGERS: Final = (
    r"\[parameters:",
    r"\[generatedin",
    r"\[cachedsince",
    r"\[rawsql\]",
    r"\[nokey",
    r"\[cachingdisabled",
    r"\[dialect",
    "failingrow",
    "identifiedby",
    "password'",
)
"""For `asgi_obs.redaction.prefilter`; the rules about columns look for sensitive words."""

_PARAMETERS: Final = re.compile(
    r"(\[parameters: )(?=[(\[{])"
    r"|(\[(?:generated in|cached since|raw sql|no key|caching disabled|dialect)[^\]\n]{0,160}\]\s{1,16})(?=[(\[{])"
)
"""https://docs.sqlalchemy.org/en/20/core/connections.html#sql-caching: what `echo` prints in front of them."""

_FAILING_ROW: Final = re.compile(r"Failing row contains (?=\()")
_PASSWORD: Final = re.compile(
    r"(\b(?:identified\s{1,16}(?:with\s{1,16}\S{1,64}\s{1,16})?(?:by|as)(?:\s{1,16}password)?|password)\s{1,16}\\{0,16}')"
    r"((?:[^'\\]|''|\\.)*)",
    re.IGNORECASE | re.DOTALL,
)
_INSERT: Final = re.compile(
    r"\b(?:insert|replace)\s{1,16}(?:or\s{1,16}\w{1,16}\s{1,16}|ignore\s{1,16})?into\s{1,16}[^\s(]{1,200}\s{0,16}"
    r"\(([^()]{1,2000})\)\s{0,16}(?:output\s[^()]{1,200})?values\s{0,16}(?=\()",
    re.IGNORECASE,
)
_ROWS: Final = re.compile(r"\s{0,16},\s{0,16}(?=\()")
_KEY: Final = re.compile(r"\bKey \(([^\n=]{1,200}?)\)=(?=\()")
_DUPLICATE: Final = re.compile(r"(\bDuplicate entry ')([^\n]{0,200}?)(' for key '([^'\n]{1,128})')")


class SqlRules:
    """Masks values of SQL in texts.

    Args:
        words: What makes a column sensitive.
    """

    def __init__(self, words: Words) -> None:
        self._is_sensitive: Callable[[object], bool] = words.is_sensitive

    def redact(self, text: str) -> str:
        """The text without the values."""
        if "[" in text:
            text = _mask_behind(text, _PARAMETERS, bracket_end)
        text = _mask_behind(text, _FAILING_ROW, _row)
        text = _PASSWORD.sub(lambda found: f"{found[1]}{MASK}" if found[2] else found[0], text)
        text = _mask_behind(text, _INSERT, _rows, self._names_sensitive)
        text = _mask_behind(text, _KEY, bracket_end, self._names_sensitive)
        return _DUPLICATE.sub(
            lambda found: f"{found[1]}{MASK}{found[3]}" if self._is_sensitive(found[4]) else found[0], text
        )

    def _names_sensitive(self, found: re.Match[str]) -> bool:
        return any(map(self._is_sensitive, found[1].split(",")))


def _mask_behind(
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
        if condition(found) and end - start > 2:  # brackets with something in them
            pieces += (text[place:start], MASK)
        else:
            pieces.append(text[place:end])
        place = end
    return "".join((*pieces, text[place:])) if pieces else text


def _row(text: str, start: int) -> int:
    # Its values stand without quotes: the last bracket of the line closes it.
    end = line_end(text, start)
    closed = text.rfind(")", start, end)
    return closed + 1 if closed >= 0 else end


def _rows(text: str, start: int) -> int:
    end = bracket_end(text, start)
    while following := _ROWS.match(text, end):
        end = bracket_end(text, following.end())
    return end
