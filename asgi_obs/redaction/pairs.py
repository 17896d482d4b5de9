r"""Sensitive keys in a text, and the values that belong to them.

A key may be a part of an identifier, in quotes of any depth or none. Its value follows `=`, `:` and the like, plain
or percent-encoded; a comma, in a pair; `"value":`, where the key is the value of a `name`; a blank line, in a
multipart body; `>`, in an XML element; white space, after an option of a command line; lines below, in YAML. In source
code it is the whole expression.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from typing import Final, NamedTuple

from asgi_obs.redaction.keys import Words, is_about
from asgi_obs.redaction.mask import MASK
from asgi_obs.redaction.values import (
    bare_end,
    block_end,
    bracket_end,
    closing_quote,
    expression_end,
    line_end,
    opening_quote,
)

__all__ = ["READABLE", "PairRules"]

_STATES: Final = (
    "absent active any bool bytes closed denied disabled down empty enabled expected expired failed false float found "
    "idle incorrect int invalid is malformed mismatch missing must no none not null off ok on optional rejected "
    "required revoked set should str string too true undefined unknown unset up valid was wrong yes"
)
READABLE: Final = frozenset(_STATES.split())
"""What a bare value says about a key without being one: `token: expired`, `password=None`, `has_secret=True`."""

_SCHEMES: Final = frozenset({"bearer", "basic", "digest", "token", "apikey"})
_HEADERS: Final = ("authorization", "cookie")

# All quantifiers are bounded, for a hostile text may repeat anything. An identifier that goes on is not tried shorter.
_KEY: Final = (
    r"(?P<word>{words})(?P<rest>[\w.-]{{0,64}})(?![\w-])"
    r"(?P<close>(?:\[\w{{0,32}}\]|\]|%(?:25){{0,4}}5[BbDd]){{0,4}}{quote}?\]?)(?=[\s=:!,;%+>\\])"
)
_QUOTE: Final = r"""(?:\\{0,64}["'`]|%(?:25){0,4}2[27])"""
_ASSIGNED: Final = re.compile(
    r"""[ \t\u00a0]{0,64}(?:=>|:=|[!=+]?={1,2}|:(?!:|//)(?:[ \t]{0,8}!![a-z]{1,16}(?=[ \t]))?)"""
    r"""(?:\s{0,64}(?=[bBrRuUfF]{0,2}\\{0,64}["'`\[{(])|[ \t\u00a0]{0,64})"""
)
# What was encoded several times has `%25` for `%`; what was encoded more often than the sign is part of the value.
_ENCODED: Final = re.compile(
    r"""(?:\+|%20)?%(?P<depth>(?:25){0,4})3[AaDd](?:\+|%(?P=depth)20)?"""
    r"""(?:%(?P=depth)(?P<quote>2[27])"""
    r"""(?P<quoted>(?:%(?P=depth)5[Cc]%(?P=depth)2[27]|[^\s%&"'<>]|%(?!(?P=depth)(?P=quote)))*)"""
    r"""|(?P<bare>(?:[^\s%&"'<>]|%(?!(?P=depth)(?:2[267Cc]|3[Bb]|7[Dd])))+))"""
)
_NAMED: Final = re.compile(
    r"""(?:,[^{}<>]{1,200}?)?[\s,;]{1,64}\\{0,64}["']?val(?:ue)?\\{0,64}["']?\s{0,8}[:=]\s{0,8}""", re.IGNORECASE
)
_ATTRIBUTE: Final = re.compile(r"[^<>]{0,200}?\svalue=", re.IGNORECASE)
_NAME_OPENS: Final = re.compile(r"\bname:[ \t]{1,8}\Z")
_PAIRED: Final = re.compile(r",\s{0,64}")
_PAIR_OPENS: Final = re.compile(r"""[(\[]\s{0,8}b?\\{0,64}["'`]\Z""")
_PART_OPENS: Final = re.compile(r"""name=\\{0,64}["']?\Z""")
_BLANK_LINE: Final = re.compile(r"(?:\r?\n|\\r\\n|\\n){2}")
_PART_END: Final = re.compile(r"(?:\r?\n|\\r\\n|\\n)--")
_ELEMENT: Final = re.compile(r"(?:\s[^<>]{0,256})?>")
_OPTION: Final = re.compile(r"[ \t]{1,64}(?=[^\s-])")

_BLOCK: Final = re.compile(r":[ \t]{0,8}(?:[|>][+-]?[ \t]{0,8}\r?\n|\r?\n(?=[ \t]{1,64}[^\s\"'(\[{]|- ))")

_IDENTIFIER: Final = f"{string.ascii_letters}{string.digits}_.:-"
_AROUND: Final = re.compile(r"""(\\*["'`])\Z""")
_CONTEXT: Final = 80
"""Characters before a word that are looked at."""

_MAX_VALUES: Final = 2000
"""A text with more of them is masked from there on: to look for the end of each would take long."""

_MAX_ELEMENT: Final = 1000
_MAX_PART_HEADERS: Final = 300
"""Characters within which they have to end."""

_EXCEPTION: Final = re.compile(r"(?:Error|Exception|Warning|Failure|Failed|Expired)\Z")
_CURRENCIES: Final = "$€£"
_NUMBER: Final = re.compile(rf"(?:[+-]|[{_CURRENCIES}])?\d{{1,16}}(?:\.\d{{1,16}})?\Z")
_COUNT: Final = re.compile(r"""["']?([\w.-]{1,64})["']?\s{0,8}[:=]\s{0,8}(\d{1,8})""")
_COUNTS: Final = re.compile(rf"\w{{0,64}}[{{(](?:{_COUNT.pattern}(?:[,\s]{{1,8}}|(?=[}})]))){{1,32}}[}})]")
_ID: Final = re.compile(r"(?:[_.-]id|Id)\Z")
_IDENTIFIED: Final = ("session", "cookie")
"""Where the ID is the secret."""

_FIRST_COOKIE: Final = re.compile(r"[\w.-]{1,128}=")
_STATE: Final = re.compile(r"""[a-zA-Z]{1,16}(?=[.:!?]{0,3}(?:[\s,;&<>\\]|["')\]}](?!\w)|\Z))""")
_NOTHING: Final = ("[]", "{}", "()")


class _Key(NamedTuple):
    """A sensitive key in a text.

    Attributes:
        name: The identifier that the word is part of.
        word: The word.
        rest: What of the identifier is behind the word.
        close: What is between the identifier and its value, or the sign before that: brackets, a quote.
        before: What is before the identifier.
        end: Where what belongs to the key ends.
    """

    name: str
    word: str
    rest: str
    close: str
    before: str
    end: int


_Span = tuple[int, int]


class PairRules:
    """Masks the values of sensitive keys in texts.

    Args:
        words: What makes a key sensitive.
    """

    def __init__(self, words: Words) -> None:
        self._is_count = words.is_count
        self._find = re.compile(_KEY.format(words=words.pattern, quote=_QUOTE), re.IGNORECASE).search
        self._value_of: tuple[Callable[[str, _Key], _Span | None], ...] = (
            _block,
            self._assigned,
            _encoded,
            self._named,
            _paired,
            _element,
            self._option,
            _part,
        )

    def redact(self, text: str) -> str:
        """The text without the values of sensitive keys."""
        pieces: list[str] = []
        copied = place = 0
        while found := self._find(text, place):
            key = _key(text, found, copied)
            start, end = self._value(text, key) or (0, 0)
            if start < end:
                pieces += (text[copied:start], MASK)
                copied = end
                if len(pieces) > 2 * _MAX_VALUES:
                    return "".join((*pieces, MASK))
            place = max(end, found.end("rest"))
        return "".join((*pieces, text[copied:])) if pieces else text

    def _value(self, text: str, key: _Key) -> _Span | None:
        if key.rest and is_about(key.name):
            return None
        return next(filter(None, (value_of(text, key) for value_of in self._value_of)), None)

    def _assigned(self, text: str, key: _Key) -> _Span | None:
        sign = _ASSIGNED.match(text, key.end)
        return self._behind(text, sign.end(), key) if sign and not _EXCEPTION.search(key.name) else None

    def _named(self, text: str, key: _Key) -> _Span | None:
        if key.close and _PART_OPENS.search(key.before):
            sign = _ATTRIBUTE.match(text, key.end)
            return self._behind(text, sign.end(), key) if sign else None
        sign = _NAMED.match(text, key.end) if key.close or _NAME_OPENS.search(key.before) else None
        return self._behind(text, sign.end(), key) if sign else None

    def _option(self, text: str, key: _Key) -> _Span | None:
        space = _OPTION.match(text, key.end) if key.name.startswith("-") and not key.close else None
        return self._behind(text, space.end(), key) if space else None

    def _behind(self, text: str, start: int, key: _Key) -> _Span | None:
        opening = opening_quote(text, start)
        if opening:
            return _quoted(text, start, opening)
        state = _STATE.match(text, start)
        if state and state[0].lower() in READABLE and expression_end(text, state.end()) == state.end():
            return None
        if _is_header(text, start, key):
            return start, _header_end(text, start, key)
        end = expression_end(text, _value_end(text, start))
        return None if self._says_nothing(key, text[start:end]) else (start, end)

    def _says_nothing(self, key: _Key, value: str) -> bool:
        """Whether a bare value is empty, a count, or the number that a secret has in a database."""
        if _NUMBER.match(value):
            is_id = _ID.search(key.name) is not None and key.word.lower() not in _IDENTIFIED
            return is_id or self._is_count(key.name, float(value.lstrip(_CURRENCIES)))
        return value in _NOTHING or self._are_counts(value)

    def _are_counts(self, value: str) -> bool:
        if not _COUNTS.fullmatch(value):
            return False
        return all(self._is_count(name, float(number)) for name, number in _COUNT.findall(value))


def _key(text: str, found: re.Match[str], copied: int) -> _Key:
    context = text[max(found.start() - _CONTEXT, copied) : found.start()]
    before = context.rstrip(_IDENTIFIER)
    word, rest, close = found.group("word", "rest", "close")
    return _Key(f"{context[len(before) :]}{word}{rest}", word, rest, close, before, found.end())


def _quoted(text: str, start: int, opening: re.Match[str]) -> _Span | None:
    content, end = closing_quote(text, opening)
    goes_on = expression_end(text, end)
    if goes_on > end:
        return start, goes_on
    value = text[opening.end() : content]
    # A sign of punctuation is no secret: the parser of JavaScript says "unexpected token" and quotes it.
    return (opening.end(), content) if len(value) > 2 or value.isalnum() else None


def _is_header(text: str, start: int, key: _Key) -> bool:
    if key.word.lower() not in _HEADERS:
        return False
    return not key.rest or (key.rest == "s" and _FIRST_COOKIE.match(text, start) is not None)


def _header_end(text: str, start: int, key: _Key) -> int:
    """The end of the line, or of the string that a header is in."""
    if text.startswith(("(", "[", "{"), start):
        return bracket_end(text, start)
    around = _AROUND.search(key.before)
    closed = text.find(around[1], start) if around and not key.close else -1
    return line_end(text, start, len(text) if closed < 0 else closed)


def _value_end(text: str, start: int) -> int:
    end = bare_end(text, start)
    is_scheme = text[start:end].lower() in _SCHEMES and text.startswith(" ", end)
    if is_scheme and expression_end(text, end) == end:
        return bare_end(text, end + 1)
    return end


def _block(text: str, key: _Key) -> _Span | None:
    """What is below its key in YAML: a text, a list, keys of its own."""
    opened = _BLOCK.match(text, key.end)
    return (opened.end(), block_end(text, opened.end())) if opened else None


def _encoded(text: str, key: _Key) -> _Span | None:
    found = _ENCODED.match(text, key.end)
    return found.span(found.lastgroup or 0) if found else None


def _paired(text: str, key: _Key) -> _Span | None:
    """The second of exactly two in brackets, or what follows an option in a list of arguments."""
    comma = _PAIRED.match(text, key.end) if key.close else None
    is_option = key.name.startswith("--")
    if comma is None or not (is_option or _PAIR_OPENS.search(key.before)):
        return None
    start = comma.end()
    opening = opening_quote(text, start)
    if opening:
        start = opening.end()
        content, end = closing_quote(text, opening)
    else:
        content = end = bare_end(text, start)
    # One that is very long is not read again for the next key.
    closes = is_option or end - start > _MAX_ELEMENT or text[end : end + 64].lstrip()[:1] in ("", ")", "]")
    return (start, content) if closes else None


def _element(text: str, key: _Key) -> _Span | None:
    """What is in an XML element; if that has no end, the word behind its beginning."""
    opened = _ELEMENT.match(text, key.end) if key.before.endswith("<") else None
    if opened is None:
        return None
    end = text.find(f"</{key.name}", opened.end(), opened.end() + _MAX_ELEMENT)
    return opened.end(), end if end >= 0 else bare_end(text, opened.end())


def _part(text: str, key: _Key) -> _Span | None:
    """What is behind the headers of a part of a multipart body."""
    blank = _BLANK_LINE.search(text, key.end, key.end + _MAX_PART_HEADERS) if _PART_OPENS.search(key.before) else None
    if blank is None:
        return None
    boundary = _PART_END.search(text, blank.end())
    return blank.end(), boundary.start() if boundary else len(text)
