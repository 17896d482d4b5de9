"""Where a value ends in a text: a quoted one, one in brackets, a bare word.

Texts are what people and programs print, at any depth of quoting (JSON within JSON, a `repr` of either) and cut off
anywhere. In doubt a value is longer rather than shorter. Every function reads its value once.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["bare_end", "block_end", "bracket_end", "closing_quote", "line_end", "opening_quote"]

_OPENING: Final = re.compile(r'''[bBrRuUfF]{0,2}(\\*)("""|\'\'\'|["'`])''')
_CLOSING: Final = {quote: re.compile(rf"(?<!\\)(\\*){quote}") for quote in ('"""', "'''", '"', "'", "`")}
# Behind a quote with backslashes of its own, which a `repr` around it may have doubled.
_ENDS: Final = re.compile(r"""\s{0,8}(?:[,;:)\]}"'\\]|\Z)""")
_STRUCTURE: Final = re.compile(r"""[()\[\]{}]|(?<!\\)\\*["']""")
_INDENTATION: Final = re.compile(r"[ \t]{1,64}")
_ANGLED: Final = re.compile(r"<[^<>\r\n]{0,1000}>")
_LINE_END: Final = re.compile(r"[\r\n]|\\[rn]")

# A backslash is part of a value, but for the escapes of a line end, a tab and a quote around it.
_BARE: Final = re.compile(r"""(?:[^\s,;&"'<>()\[\]{}\\]+|\\+(?![\\rnt"']))*""")


def opening_quote(text: str, start: int) -> re.Match[str] | None:
    """The quote that opens a string at this place, with the backslashes and the letter in front of it, if any."""
    return _OPENING.match(text, start)


def closing_quote(text: str, opening: re.Match[str]) -> tuple[int, int]:
    """Where the content of a string ends, and where the string does; the end of the text if it is cut off.

    A string within a string has its quotes escaped, to any depth. It ends at a quote with as many backslashes as at
    its beginning, or with so many more that they are pairs of its own.
    """
    depth, quote = len(opening[1]), opening[2]
    end = opening.end()
    for found in _CLOSING[quote].finditer(text, end):
        if found.start() < end:  # the second of a doubled quote
            continue
        own = len(found[1]) - depth
        if own < 0:  # the string around this one ends
            return found.start(), found.start()
        if own % (2 * (depth + 1)):
            continue
        content, end = found.end() - len(quote) - depth, found.end()
        if depth == 0 and content > opening.end() and text.startswith(quote, end):
            end += 1  # as SQL and CSV escape it
        elif not _is_word(text, end) and (own == 0 or _ENDS.match(text, end)):
            return content, end
    return len(text), len(text)


def bracket_end(text: str, start: int) -> int:
    """Where the bracket that opens at this place is closed; the end of the text if it is not."""
    depth, place = 0, start
    while found := _STRUCTURE.search(text, place):
        place = found.end()
        char = found[0][-1]
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth == 0:
                return place
        elif not _is_apostrophe(text, found):
            opening = _OPENING.match(text, found.start())
            place = closing_quote(text, opening)[1] if opening else place
    return len(text)


def bare_end(text: str, start: int) -> int:
    """Where a value without quotes ends: at white space, `,`, `;`, `&`, a quote, or the bracket around it."""
    place = start
    while True:
        place = _BARE.match(text, place).end()  # type: ignore[union-attr] # it matches anything, be it nothing
        char = text[place : place + 1] or " "
        if char in "([{":
            place = bracket_end(text, place)
        elif char == "<" and place == start:  # <Token abc>
            closed = _ANGLED.match(text, start)
            place = closed.end() if closed else start + 1
        elif (char == "<" and text[place + 1 : place + 2] != "/") or (
            char in "\"')]}>" and place > start and _is_word(text, place + 1)
        ):
            place += 1
        else:
            return place


def line_end(text: str, start: int, limit: int | None = None) -> int:
    """Where the line ends, also one whose end is written as an escape, but not behind the limit."""
    limit = len(text) if limit is None else limit
    found = _LINE_END.search(text, start, limit)
    return found.start() if found else limit


def block_end(text: str, start: int) -> int:
    """Where the lines end that are indented like the first one, or deeper."""
    indentation = _INDENTATION.match(text, start)
    if indentation is None:
        return start
    end = line_end(text, start)
    while text.startswith(indentation[0], end + 1):
        end = line_end(text, end + 1)
    return end


def _is_word(text: str, place: int) -> bool:
    return text[place : place + 1].isalnum()


def _is_apostrophe(text: str, found: re.Match[str]) -> bool:
    before = text[found.start() - 1]
    return before.isalnum() and before not in "bBrRuUfF" and _is_word(text, found.end())
