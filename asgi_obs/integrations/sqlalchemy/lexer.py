"""The words of a statement, with its values told apart from its names: as the database reads them, not as a guess.

Where a string ends depends on the database. What is unclear (a quote behind a backslash, where the database
is unknown), or never ends, is a value to the end of the statement: nothing of a user is taken for a name.

Reading takes time in proportion to the length, whatever the text: each pattern ends where the next could start, what
never ends takes the rest, and `MAX_LENGTH` bounds all of it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

__all__ = ["LexicalRules", "Token", "tokens_of"]

MAX_LENGTH: Final = 20_000
"""Characters of a statement that are read; what is behind them is ignored."""


class LexicalRules(NamedTuple):
    """What the words of a statement look like.

    Attributes:
        dialect: The name that SQLAlchemy has for the database; empty if there is none.
        backslash: Whether a backslash escapes a quote in any string.
    """

    dialect: str = ""
    backslash: bool = False


class Token(NamedTuple):
    """A word of a statement.

    Attributes:
        kind: `string`, `number`, `placeholder`, `word`, `quoted` (a name in quotes) or `sign` (one character).
        text: As it was written.
        gap: Whether there was white space or a comment in front of it.
    """

    kind: str
    text: str
    gap: bool


_STANDARD: Final = r"'[^']*(?:''[^']*)*(?:'|\Z)"
_ESCAPED: Final = r"'[^'\\]*(?:(?:\\(?:.|\Z)|'')[^'\\]*)*(?:'|\Z)"
_UNCLEAR: Final = r"'[^'\\]*(?:(?:''|\\(?!'))[^'\\]*)*\\'.*"
# PostgreSQL joins strings that are on several lines, and those behind the first have no E of their own.
_E_STRING: Final = rf"[eE]{_ESCAPED}(?:[^\S\n]*\n\s*{_ESCAPED})*"
_DOLLARS: Final = r"\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)"
_ORACLE: Final = (
    r"[nN]?[qQ]'(?:\[.*?(?:\]'|\Z)|\{.*?(?:\}'|\Z)|\(.*?(?:\)'|\Z)|<.*?(?:>'|\Z)|(?P<q>.).*?(?:(?P=q)'|\Z))"
)
_PREFIX: Final = r"(?:[bBxXnN]|[uU]&)?"
_DOUBLE: Final = r'"[^"]*(?:""[^"]*)*"'
_ESCAPED_DOUBLE: Final = r'"[^"\\]*(?:(?:\\(?:.|\Z)|"")[^"\\]*)*(?:"|\Z)'
_BACKTICKS: Final = r"`[^`]*(?:``[^`]*)*`"
_BRACKETS: Final = r"\[[^\]]*(?:\]\][^\]]*)*\]"
# An opening quote whose name never ends.
_UNTERMINATED: Final = r'["`].*'
_UNTERMINATED_BRACKET: Final = r'["`\[].*'
_NUMBER: Final = r"\d\w*(?:\.\w*)?(?:(?<=[eE])[+-]\d+)?|\.\d\w*(?:(?<=[eE])[+-]\d+)?"
# The first is what SQLAlchemy puts where a list of values will be.
_POSTCOMPILE: Final = r"__\[POSTCOMPILE_(?:[^\s\[\]~]|~(?!~))+(?:~~.{1,500}?~~)?\]"
_PLACEHOLDER: Final = rf"{_POSTCOMPILE}|%\(\w[^()%]*\)s|%s(?!\w)|(?<!:):\w+|\$\w+|(?<!@)@\w+"
_SIGN: Final = r"::|:=|%%|@@|\S"

_MYSQL: Final = frozenset({"mysql", "mariadb"})
_POSTGRESQL: Final = frozenset({"postgresql", "cockroachdb"})
_KNOWN: Final = _MYSQL | _POSTGRESQL | {"sqlite", "mssql", "oracle"}
_NESTS_COMMENTS: Final = _POSTGRESQL | {"mssql"}
_HAS_BRACKETS: Final = frozenset({"mssql", "sqlite"})

_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")


def tokens_of(text: str, rules: LexicalRules) -> list[Token]:
    """The words of a statement, without its comments; never raises."""
    match = _pattern(rules).match
    end = min(len(text), MAX_LENGTH)
    nests = rules.dialect in _NESTS_COMMENTS
    tokens: list[Token] = []
    place, gap = 0, False
    while place < end and (found := match(text, place, end)):
        kind = found.lastgroup or ""
        place = found.end()
        if kind == "comment":
            place = _comment_end(text, place, end, nests=nests)
        if kind in {"comment", "blank"}:
            gap = True
            continue
        tokens.append(Token(kind, found[0], gap))
        gap = False
    return tokens


def _comment_end(text: str, start: int, end: int, *, nests: bool) -> int:
    depth = 1
    for edge in _COMMENT_EDGE.finditer(text, start, end):
        if edge[0] == "*/":
            depth -= 1
        elif nests:
            depth += 1
        if depth == 0:
            return edge.end()
    return end


@lru_cache(16)
def _pattern(rules: LexicalRules) -> re.Pattern[str]:
    dialect = rules.dialect
    kinds = {
        "blank": rf"\s+|{_line_comment(dialect)}",
        "comment": r"/\*",
        "string": _strings(rules),
        "placeholder": _PLACEHOLDER if dialect in _POSTGRESQL else rf"{_PLACEHOLDER}|\?\d*",  # there, an operator
        "quoted": _names(rules),
        "word": r"\#{0,2}[^\W\d][\w$#@]*" if dialect in {"mssql", "oracle"} else r"[^\W\d][\w$]*",
        "number": _NUMBER,
        "unterminated": _UNTERMINATED_BRACKET if dialect in _HAS_BRACKETS else _UNTERMINATED,
        "sign": _SIGN,
    }
    return re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in kinds.items()), re.DOTALL)


def _line_comment(dialect: str) -> str:
    return r"(?:--(?=\s|\Z)|\#)[^\n]*" if dialect in _MYSQL else r"--[^\n]*"


def _strings(rules: LexicalRules) -> str:
    plain = _ESCAPED if rules.backslash else _STANDARD
    kinds = [_E_STRING, _PREFIX + plain, _DOLLARS]
    if rules.dialect in _MYSQL:
        kinds.append(_ESCAPED_DOUBLE)
    elif rules.dialect == "oracle":
        kinds.insert(0, _ORACLE)
    elif rules.dialect not in _KNOWN and not rules.backslash:
        kinds.insert(1, _PREFIX + _UNCLEAR)
    return "|".join(kinds)


def _names(rules: LexicalRules) -> str:
    return "|".join([_DOUBLE, _BACKTICKS, _BRACKETS] if rules.dialect in _HAS_BRACKETS else [_DOUBLE, _BACKTICKS])
