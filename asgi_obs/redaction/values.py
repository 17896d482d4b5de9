"""Where a value ends in a text: a quoted one, one in brackets, a bare word.

Texts are what people and programs print, at any depth of quoting (JSON within JSON, a `repr` of either) and cut off
anywhere. In doubt a value is longer rather than shorter. Every function reads its value once.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "bare_end",
    "block_end",
    "bracket_end",
    "closing_quote",
    "expression_end",
    "line_end",
    "opening_quote",
    "value_end",
]

_OPENING: Final = re.compile(r'''[bBrRuUfF]{0,2}(\\*)("""|\'\'\'|["'`])''')
_CLOSING: Final = {quote: re.compile(rf"(?<!\\)(\\*){quote}") for quote in ('"""', "'''", '"', "'", "`")}
# Behind a quote with backslashes of its own, which a `repr` around it may have doubled.
_ENDS: Final = re.compile(r"""\s{0,8}(?:[,;:)\]}"'\\]|\Z)""")
_STRUCTURE: Final = re.compile(r"""[()\[\]{}]|(?<!\\)\\*["']""")
_INDENTATION: Final = re.compile(r"[ \t]{1,64}|- ")
_ANGLED: Final = re.compile(r"<[^<>\r\n]{0,1000}>")
_LINE_END: Final = re.compile(r"[\r\n]|\\[rn]")
_NEWLINE: Final = re.compile(r"[\r\n]")
_LINE: Final = re.compile(r"\r?\n([ \t]{0,200})(?=([^\s]?))[^\n]*")
_BLANKS: Final = re.compile(r"[ \t]{0,200}")
_MAX_COLUMN: Final = 1000
_MAX_LINES: Final = 2000
"""Characters below its line that a string may reach over; many that have no end would take long."""

_NEAR: Final = 200
_MAX_FLAT: Final = 1000
"""Characters of lines without indentation that a bracket may reach over."""

# What goes on behind an operand of Python, if a text in quotes is in it: `str | None = "x"`, `a or "x"`.
_OPERAND: Final = r"""[^\s"']{1,64}"""
_OPERATOR: Final = r"""[ \t]{1,8}(?:or|and|else|\+|if[ \t][^\n"']{1,80}?[ \t]else)[ \t]{1,8}"""
_GOES_ON: Final = re.compile(
    rf"""(?:[ \t]{{1,8}}\|[ \t]{{1,8}}{_OPERAND}){{0,4}}[ \t]{{1,8}}=[ \t]{{1,8}}(?=\S)"""
    rf"""|(?:{_OPERATOR}{_OPERAND}){{0,2}}{_OPERATOR}(?=[\w.]{{0,64}}[(\[{{]{{0,3}}[bBrRuUfF]{{0,2}}["'])"""
)

# A backslash is part of a value, but for the escapes of a line end, a tab and a quote around it.
_BARE: Final = re.compile(r"""(?:[^\s,;&"'<>()\[\]{}\\]+|\\+(?![\\rnt"']))*""")


def opening_quote(text: str, start: int) -> re.Match[str] | None:
    """The quote that opens a string at this place, with the backslashes and the letter in front of it, if any."""
    return _OPENING.match(text, start)


def closing_quote(text: str, opening: re.Match[str]) -> tuple[int, int]:
    """Where the content of a string ends, and where the string does; if it is cut off, with its line.

    A string within a string has its quotes escaped, to any depth. It ends at a quote with as many backslashes as at
    its beginning, or with so many more that they are pairs of its own.
    """
    closed = _closing(text, opening, _string_limit(text, opening))
    if closed is None:
        end = len(text) if len(opening[2]) > 1 else _cut_end(text, opening.start())
        return end, end
    return closed


def _closing(text: str, opening: re.Match[str], limit: int) -> tuple[int, int] | None:
    depth, quote = len(opening[1]), opening[2]
    end = opening.end()
    for found in _CLOSING[quote].finditer(text, end, limit):
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
    return None


def bracket_end(text: str, start: int) -> int:
    """Where the bracket that opens at this place is closed; if it is not, the end of its line.

    Lines below belong to it if they are indented, as those of JSON and of code are. In a stack the one behind a line
    of code that opens a bracket is not.
    """
    # Most are short, and looking for the end of a long line takes longer than looking for theirs.
    near = _closed(text, start, start + _NEAR)
    if near and "\n" not in text[start:near]:
        return near
    line, indentation = line_end(text, start, escaped=False), -1
    closed = _closed(text, start, line)
    if closed is None and line < len(text):
        indentation = _indentation(text, start)
        closed = _closed(text, start, _lines_end(text, line, indentation))
    return closed or (_cut_end(text, start) if indentation >= 0 else line)


def _closed(text: str, start: int, limit: int) -> int | None:
    depth, place = 0, start
    while found := _STRUCTURE.search(text, place, limit):
        place = found.end()
        char = found[0][-1]
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth == 0:
                return place
        elif not _is_apostrophe(text, found) and (opening := _OPENING.match(text, found.start())):
            closed = _closing(text, opening, limit)
            if closed is None:
                return None
            place = closed[1]
    return None


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


def line_end(text: str, start: int, limit: int | None = None, *, escaped: bool = True) -> int:
    """Where the line ends, also one whose end is written as an escape, but not behind the limit."""
    limit = len(text) if limit is None else limit
    found = (_LINE_END if escaped else _NEWLINE).search(text, start, limit)
    return found.start() if found else limit


def value_end(text: str, start: int) -> int:
    """Where a value ends, with quotes or without."""
    opening = opening_quote(text, start)
    return closing_quote(text, opening)[1] if opening else bare_end(text, start)


def expression_end(text: str, end: int) -> int:
    """Where an expression of Python ends whose first operand ends at this place."""
    while more := _GOES_ON.match(text, end):
        end = value_end(text, more.end())
    return end


def block_end(text: str, start: int) -> int:
    """Where the lines end that are indented like the first one, or deeper, or are items of a list like it."""
    indentation = _INDENTATION.match(text, start)
    if indentation is None:
        return start
    end = line_end(text, start)
    while text.startswith(indentation[0], end + 1):
        end = line_end(text, end + 1)
    return end


def _string_limit(text: str, opening: re.Match[str]) -> int:
    line = text.find("\n", opening.end())
    return len(text) if line < 0 or len(opening[2]) > 1 else line + _MAX_LINES


def _cut_end(text: str, start: int) -> int:
    """Where a value ends that is not closed: with its line, and those below that are indented deeper."""
    end, indentation = line_end(text, start, escaped=False), _indentation(text, start)
    while (line := _LINE.match(text, end)) and len(line[1]) > indentation:
        end = line.end()
    return end


def _lines_end(text: str, end: int, indentation: int) -> int:
    """Where the lines end that may belong to a bracket: those that are not indented less than its own."""
    flat = end + _MAX_FLAT
    while (line := _LINE.match(text, end)) and (
        len(line[1]) > indentation or (len(line[1]) == indentation and (end < flat or line[2] in ")]}"))
    ):
        end = line.end()
    return end


def _indentation(text: str, start: int) -> int:
    """How far the line is indented that has this place in it."""
    line = text.rfind("\n", max(0, start - _MAX_COLUMN), start) + 1
    blanks = _BLANKS.match(text, line)
    return blanks.end() - line if blanks else 0


def _is_word(text: str, place: int) -> bool:
    return text[place : place + 1].isalnum()


def _is_apostrophe(text: str, found: re.Match[str]) -> bool:
    before = text[found.start() - 1]
    return before.isalnum() and before not in "bBrRuUfF" and _is_word(text, found.end())
