"""Values of SQL: the parameters that SQLAlchemy prints, literals, and what databases say in their errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from asgi_obs.redaction.keys import Words
from asgi_obs.redaction.mask import MASK, mask_behind
from asgi_obs.redaction.values import bracket_end, line_end, value_end

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
    r"row\(",
    r":\.\.\.",
    r"key\([^=]{0,800}\)=\(",
    r"duplicatekeyvalueis\(",
    r"duplicateentry\\{0,16}'",
    r"invalid(?:input|uuid)",
    r"literal:\\{0,16}\"",
    r"outofrange:\\{0,16}\"",
    "isoutofrangefortype",
    r"value:\\{0,16}'",
    r"charvalue\\{0,16}'",
    r"copy[^,:]{0,600},line",
    "jsondata,line",
)
"""For `asgi_obs.redaction.prefilter`; the rules about columns look for sensitive words."""

_PARAMETERS: Final = re.compile(
    r"(\[parameters: )(?=[(\[{])"
    r"|(\[(?:generated in|cached since|raw sql|no key|caching disabled|dialect)[^\]\n]{0,160}\]\s{1,16})(?=[(\[{])"
)
"""https://docs.sqlalchemy.org/en/20/core/connections.html#sql-caching: what `echo` prints in front of them."""

# What `echo="debug"` prints for a row.
_FETCHED_ROW: Final = re.compile(r"^Row (?=\()", re.MULTILINE)
# Also the one that has no partition.
_FAILING_ROW: Final = re.compile(r"[Ff]ailing row contains (?:\([^=\n]{1,200}?\) = )?(?=\()")
_ROW_END: Final = re.compile(r"""\)(?=\.(?:[\r\n]|\\[rn]|\Z|["']))""")
_PASSWORD: Final = re.compile(
    r"(\b(?:identified\s{1,16}(?:with\s{1,16}\S{1,64}\s{1,16})?(?:by|as)(?:\s{1,16}password)?|password)\s{1,16}\\{0,16}')"
    r"((?:[^'\\]|''|\\.)*)",
    re.IGNORECASE | re.DOTALL,
)
_INSERT: Final = re.compile(
    r"\b(?:insert|replace)\s{1,16}(?:or\s{1,16}\w{1,16}\s{1,16}|ignore\s{1,16})?into\s{1,16}[^\s(]{1,200}\s{0,16}"
    r"\(([^()]{1,2000})\)\s{0,16}(?:output\s[^()]{1,200})?(?:values\s{0,16}(?=\()|select\s(?=[^;]{0,500}'))",
    re.IGNORECASE,
)
# PostgreSQL cuts a long line, and the names of the columns with it.
_CUT_INSERT: Final = re.compile(r"\bLINE \d{1,6}: \.\.\.[^()\n]{0,200}\)\s{0,16}values\s{0,16}(?=\()", re.IGNORECASE)
_SELECT_ENDS: Final = re.compile(r"""['";\n]|\\n""")
_SET_ROW: Final = re.compile(r"\bset\s{1,16}\(([^()]{1,2000})\)\s{0,16}=\s{0,16}(?=\()", re.IGNORECASE)
_COMPARED: Final = (
    r"(?:{words})\w{{0,64}}\\{{0,16}}[\"`\]]?"
    r"(?:\s{{0,16}}(?:<>|[<>]=?)\s{{0,16}}(?=[A-Z]?')"
    r"|\)?(?:::[\w ]{{1,32}}?)?\s{{1,16}}(?:not\s{{1,16}})?"
    r"(?:i?like|in|similar\s{{1,16}}to|regexp|is\s{{1,16}}(?:not\s{{1,16}})?distinct\s{{1,16}}from)\s{{0,16}}"
    r"(?=\w{{0,32}}\(?[A-Z]?['\"])"
    r"|(?:\)|\)?::[\w ]{{1,32}}?)\s{{0,16}}(?:[<>!]?=|<>)\s{{0,16}}(?=\w{{0,32}}\(?'))"
)
_ROWS: Final = re.compile(r"\s{0,16},\s{0,16}(?=\()")
_KEY: Final = re.compile(r"\b(?:[Kk]ey \([^\n=]{1,200}?\)=|The duplicate key value is )(?=\()")
_KEY_END: Final = re.compile(
    r"""\)(?=\.(?:\s|\\|\Z|["']|DB-Lib)| (?:already exists|conflicts with|is (?:not|still|referenced|duplicated)\b))"""
)
_DUPLICATE: Final = re.compile(
    r"(\bDuplicate entry \\{0,16}')(.{0,600}?)(?=\\{0,16}' for key )", re.IGNORECASE | re.DOTALL
)
# What PostgreSQL, MySQL and SQL Server say in front of a value that has the wrong type.
_WRONG_VALUE: Final = re.compile(
    r"\b(?:invalid input (?:syntax|value) for [^:\n]{1,160}: |malformed \w{1,16} literal: "
    r"|(?:date|timestamp|field value|displacement) out of range: "
    r"|(?-i:COPY) [^,:\n]{1,140}, line \d{1,16}(?:, column [^:\n]{1,140})?: "
    r"|incorrect (?:integer|decimal|double|float|bit|date|datetime|time|timestamp|year|string|uuid|inet[46]) value: "
    r"|Truncated (?:incorrect [^:\n]{1,32} )?value: |the \w{0,8}char value )(?=\\{0,16}[\"'])",
    re.IGNORECASE,
)
_QUOTE: Final = re.compile(r"\\{0,16}[\"']")
_BEHIND_VALUE: Final = (
    r"\s{0,8}(?:\Z|[\r\n]|\\{1,16}[rn])|\.(?:\s|\Z)| for (?:column|function) | to data type | overflowed "
)
_OUT_OF_RANGE: Final = re.compile(r"""(?<=")[^"\\\n]{1,200}(?=\\{0,16}" is out of range for type )""")
_WRONG_JSON: Final = re.compile(
    r"\binvalid input syntax for type json(?:\s|\\{1,16}n){1,8}DETAIL:\s{1,8}|\bJSON data, line \d{1,16}: ",
    re.IGNORECASE,
)
# Its values are printed by `repr`: https://github.com/MagicStack/asyncpg
_WRONG_ARGUMENT: Final = re.compile(
    r"\binvalid (?:UUID |input for query argument \$\d{1,5}(?: in element #\d{1,16} of executemany\(\) sequence)?: )"
)
_STATEMENT_LINE: Final = re.compile(r"\bLINE \d{1,6}: [^\n]{0,1000}")
_LITERAL: Final = re.compile(r"'(?:[^'\n]|''){1,1000}(?:'|$)", re.MULTILINE)
_MAX_REPEATED: Final = 4000
"""Characters of a row that an error repeats; PostgreSQL prints 64 of each value."""


class SqlRules:
    """Masks values of SQL in texts.

    Args:
        words: What makes a column sensitive.
    """

    def __init__(self, words: Words) -> None:
        self._is_sensitive: Callable[[object], bool] = words.is_sensitive
        self._compared = re.compile(_COMPARED.format(words=words.pattern), re.IGNORECASE)

    def redact(self, text: str) -> str:
        """The text without the values."""
        if "[" in text:
            text = mask_behind(text, _PARAMETERS, bracket_end)
        text = mask_behind(text, _FAILING_ROW, _row)
        text = _PASSWORD.sub(lambda found: f"{found[1]}{MASK}" if found[2] else found[0], text)
        text = mask_behind(text, _INSERT, _rows, self._names_sensitive)
        text = self._redact_literals(text) if "'" in text else text
        return _redact_repeated(text)

    def _redact_literals(self, text: str) -> str:
        text = mask_behind(text, _SET_ROW, bracket_end, self._names_sensitive)
        text = mask_behind(text, _CUT_INSERT, _rows)
        text = mask_behind(text, _FETCHED_ROW, bracket_end)
        return mask_behind(text, self._compared, _operand_end)

    def _names_sensitive(self, found: re.Match[str]) -> bool:
        return any(map(self._is_sensitive, found[1].split(",")))


def _redact_repeated(text: str) -> str:
    """The text without the values that databases repeat when they refuse them."""
    if "(" in text:
        text = mask_behind(text, _KEY, _key_end)
    text = _DUPLICATE.sub(rf"\1{MASK}", text) if "'" in text else text
    text = mask_behind(text, _WRONG_JSON, line_end)
    text = mask_behind(text, _WRONG_ARGUMENT, value_end)
    redacted = _OUT_OF_RANGE.sub(MASK, mask_behind(text, _WRONG_VALUE, _quoted_end))
    if redacted != text:  # drivers that put the values into the statement have them there too
        redacted = _STATEMENT_LINE.sub(lambda line: _LITERAL.sub(f"'{MASK}'", line[0]), redacted)
    return redacted


def _key_end(text: str, start: int) -> int:
    # Its values stand without quotes: what is said behind it tells where it ends.
    closed = _KEY_END.search(text, start, start + _MAX_REPEATED)
    return closed.start() + 1 if closed else _row(text, start)


def _quoted_end(text: str, start: int) -> int:
    # Quotes within it are not escaped: what databases say behind it tells where it ends.
    quote = _QUOTE.match(text, start)[0]  # type: ignore[index] # the pattern in front of it looked
    outer = "\"'".replace(quote, "")  # of the `repr` around it
    behind = rf"{re.escape(quote)}(?=[{outer}]|{_BEHIND_VALUE})"
    closed = re.compile(behind).search(text, start + len(quote), start + _MAX_REPEATED)
    return closed.end() if closed else line_end(text, start)


def _row(text: str, start: int) -> int:
    # Its values stand without quotes, on several lines maybe: the last bracket of the line closes it.
    if found := _ROW_END.search(text, start, start + _MAX_REPEATED):
        return found.start() + 1
    end = line_end(text, start)
    closed = text.rfind(")", start, end)
    return closed + 1 if closed >= 0 else end


def _operand_end(text: str, start: int) -> int:
    # The letter of E'...' and N'...' is none of Python's.
    return value_end(text, start + (text[start].isalpha() and text.startswith("'", start + 1)))


def _select_end(text: str, start: int) -> int:
    place = start
    while (found := _SELECT_ENDS.search(text, place)) and found[0] in "'\"":
        place = value_end(text, found.start())
    return found.start() if found else len(text)


def _rows(text: str, start: int) -> int:
    if not text.startswith("(", start):  # of a SELECT
        return _select_end(text, start)
    end = bracket_end(text, start)
    while following := _ROWS.match(text, end):
        end = bracket_end(text, following.end())
    return end
