"""Sensitive words, and the keys that contain one.

A key is sensitive if it contains a sensitive word, whatever its case and with or without separators: `token` covers
`token`, `X-Auth-Token` and `accessToken`. `password` is also written `passwd`, `pwd`, `passphrase`, and `pass` where a
key ends in it as a part of its own: `db_pass`, `smtpPass`, but not `bypass`. A verdict on a key is kept: asking again
costs a dictionary look-up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from asgi_obs.redaction.escapes import BEHIND_ESCAPE

__all__ = ["Words", "folded", "is_about"]

MAX_VERDICTS: Final = 1024
MAX_KEPT_KEY: Final = 64
"""Characters; keys come from clients too, and what is kept must stay small."""

MAX_COUNT: Final = 10**7
"""A number from here on is no count of anything, and may be a secret."""

MAX_PASSED: Final = 1000
"""The same under `pass`, which says how many passed or is a PIN."""

_SEPARATORS: Final = re.compile(r"[-_. ]+")

# What else a word is called; the keys are those of Azure's connection strings.
_SYNONYMS: Final = {"password": ("passwd", "passphrase", "pwd"), "apikey": ("accountkey", "sharedaccesskey")}

# `pass` as the last part of a key, for a regular expression that ignores case. A word follows an option only:
# "--pass x", but not "the first pass took 5 s".
_PASS: Final = (
    rf"(?:(?<![a-z])(?:db|user)?|{BEHIND_ESCAPE}|(?-i:(?<=[A-Za-z])(?=Pass)))pass(?! *[\w.-])|(?-i:(?<=-)pass(?= ))"
)
_PASS_TRIGGERS: Final = ("pass[^a-z0-9.]",)
"""The options are looked for by `asgi_obs.redaction.text`."""

# What a key is about when it ends in one of these is how many or how long.
_MEASURES: Final = (
    r"(?:count|total|used|usage|limit|max|min|size|length|len|remaining|ttl|timeout|age|days|hours|minutes|seconds|ms"
    r"|expires_?in|expires|budget|rate)\Z"
)


# What a name says *about* a secret when it ends in one of these.
_ABOUT: Final = re.compile(
    r"_(?:alg|algorithm|endpoint|expires|expiry|file|name|path|ttl|type|ur[il]|version|[a-z]{2,16}_at)\Z"
)


class Words:
    """A set of sensitive words.

    Args:
        words: As they were configured; of `api_key` and `apikey` the one with the separator says more.

    Attributes:
        pattern: What they look like in a text, for a regular expression that ignores case.
        triggers: The same for a text that has been folded, without `-`, `_` and spaces; `asgi_obs.redaction.text`.
        verdicts: The keys that were asked for, and whether they are sensitive.
    """

    def __init__(self, words: Iterable[str]) -> None:
        parts = _shortest(words)
        names = [re.escape(name) for name in parts]
        self._has_pass = "password" in parts
        short = (_PASS,) if self._has_pass else ()
        self._search: Callable[[str], object] = re.compile("|".join(names) or r"(?!)").search
        self._ends_in_pass: Callable[[str], object] = re.compile("".join(short) or r"(?!)", re.IGNORECASE).search
        self._counts: Callable[[str], object] = re.compile(
            f"(?:{'|'.join(names)})s(?![a-z])|{_MEASURES}" if names else r"(?!)"
        ).search
        self.pattern = "|".join((*map(_written, parts.values()), *short)) or r"(?!)"
        self.triggers = (
            *(r"\.?".join(map(re.escape, word)) for word in parts.values()),
            *(_PASS_TRIGGERS if short else ()),
        )
        self.verdicts: dict[str, bool] = {}

    def is_sensitive(self, key: object) -> bool:
        """Whether what is under this key is to be redacted; the key may be of any type."""
        if type(key) is str:
            verdict = self.verdicts.get(key)
            return self._judge(key) if verdict is None else verdict
        return self._judge(_text_of(key))

    def _judge(self, key: str) -> bool:
        verdict = self._search(_normal(key)) is not None or self._ends_in_pass(key) is not None
        if len(key) <= MAX_KEPT_KEY:
            if len(self.verdicts) >= MAX_VERDICTS:
                self.verdicts.clear()
            self.verdicts[key] = verdict
        return verdict

    def is_count(self, key: object, value: Any) -> bool:
        """Whether the value under a sensitive key says how many: `max_tokens=512`, `{"sessions": 4}`.

        So do counts under names of their own: `prompt_tokens_details={"cached_tokens": 0}`.
        """
        if type(value) is dict:
            return bool(value) and all(type(name) is str and self.is_count(name, value[name]) for name in value)
        if type(value) not in (int, float):
            return False
        name = _spelled(_text_of(key))
        if name == "pass" and self._has_pass:
            return bool(-MAX_PASSED < value < MAX_PASSED)
        return -MAX_COUNT < value < MAX_COUNT and self._counts(name) is not None


def is_about(name: str) -> bool:
    """Whether an identifier in a text names what is known about a secret: `token_type`, `password_changed_at`."""
    return _ABOUT.search(_spelled(name)) is not None


def folded(text: str) -> str:
    """A text without the differences that regular expressions ignore when they ignore case."""
    if text.isascii():
        return text.lower()
    return text.casefold().replace("\u0131", "i").replace("\u0307", "")  # both Turkish letters match `i`


def _normal(word: str) -> str:
    return _SEPARATORS.sub("", folded(word))


def _spelled(key: str) -> str:
    """A key in lower case, its words separated: `maxTokensUsed` is `max_tokens_used`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[-. ]", "_", key).lower()


def _shortest(words: Iterable[str]) -> dict[str, list[str]]:
    """The parts of those words that contain no other, by the word without separators."""
    parts: dict[str, list[str]] = {}
    for word in words:
        split = [part for part in _SEPARATORS.split(folded(word)) if part]
        name = "".join(split)
        if len(split) > len(parts.get(name, ())):
            parts[name] = split
        for synonym in _SYNONYMS.get(name, ()):
            parts.setdefault(synonym, [synonym])
    return {name: parts[name] for name in sorted(parts) if not any(o in name for o in parts if o != name)}


def _written(parts: list[str]) -> str:
    return r"[-_. ]{0,2}".join(r"[-_]?".join(map(re.escape, part)) for part in parts)


def _text_of(key: object) -> str:
    if isinstance(key, (bytes, bytearray)):
        return key.decode("latin-1")
    try:
        return str.__str__(key) if isinstance(key, str) else str(key)
    except Exception:  # noqa: BLE001 - a key that cannot be read is judged by its class
        return type(key).__name__
