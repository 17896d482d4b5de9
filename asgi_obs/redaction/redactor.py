"""`Redactor`: what never leaves the process in a log line or a span.

What is under a sensitive key becomes `******`, at any depth; so does in any text what belongs to such a key, and
what is known by its looks: tokens, private keys, card numbers, the userinfo of a URL. It is there for every line, so
what holds no secret costs little: a text that was seen before 60 ns, a new one 2 µs, and no copy of anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final

from asgi_obs.errors import report
from asgi_obs.redaction.keys import Words
from asgi_obs.redaction.mask import MASK
from asgi_obs.redaction.structures import QUERY_KEYS, SCALARS, SMALLEST_CARD, Copy, is_card, is_clean
from asgi_obs.redaction.text import TextRules
from asgi_obs.settings import ALWAYS_SENSITIVE, Settings

__all__ = ["Redactor", "redact_sensitive_data", "redactor_for", "redactor_of"]

MAX_DIGITS: Final = 10
"""Digits that are too few for a card number, whatever stands around them."""

SHORT: Final = 13
"""No text of fewer letters, digits and dashes, and of nothing else, is a secret by its looks."""

DEFAULT_SENSITIVE: Final = ("password", "token", "secret")

_NUMBERS: Final = frozenset({int, float})
_PLAIN: Final = frozenset({dict, list, tuple})


class Redactor:
    """Redacts by a fixed set of sensitive words, and of patterns. Nothing it does raises.

    Args:
        sensitive_keys: The words; a key that contains one of them is sensitive.
        patterns: Regular expressions; what they match in any text is redacted too.
        rule: Called last with every text, returns it redacted. If it fails the whole text is masked.

    Attributes:
        verdicts: Keys that were asked for, and whether they are sensitive.
        clean: Texts that were asked for and need no redaction.

    Raises:
        ConfigurationError: A pattern is no regular expression, or the rule cannot be called.
    """

    def __init__(
        self,
        sensitive_keys: Iterable[str],
        *,
        patterns: Iterable[str] = (),
        rule: Callable[[str], str] | None = None,
    ) -> None:
        self._words = Words(sensitive_keys)
        self._texts = TextRules(self._words, patterns, rule)
        self.verdicts = self._words.verdicts
        self.clean = self._texts.clean
        self._is_customised = rule is not None or bool(patterns)
        self._short = 0 if self._is_customised else SHORT

    def is_sensitive(self, key: object) -> bool:
        """Whether what is under this key is to be redacted; the key may be of any type."""
        if type(key) is str:
            verdict = self.verdicts.get(key)
            if verdict is not None:
                return verdict
        return self._words.is_sensitive(key)

    def is_count(self, key: object, value: Any) -> bool:
        """Whether the value under a sensitive key only says how many: `{"max_tokens": 512}`."""
        return self._words.is_count(key, value)

    def redact(self, value: Any) -> Any:
        """A value without what is sensitive in it; itself, if it is plain data without any, else a copy.

        Dictionaries, lists, tuples and sets are copied at any depth; other mappings, named tuples, dataclasses
        and objects with `model_dump()` become dictionaries; a pair with a sensitive name, such as a header, has its
        value redacted, and so has a mapping such as `{"name": "password", "value": "x"}`. Texts and bytes are
        redacted as texts. All else is returned as it is, but for objects whose text has to be redacted: they become
        that text.
        """
        try:
            if type(value) in _PLAIN and is_clean(self, value):
                return value
        except Exception as error:  # noqa: BLE001 - the copy will tell more
            report("Redactor.redact", error)
        return self.copy(value)

    def copy(self, value: Any) -> Any:
        """As `redact`, but a copy in any case: the caller may change it."""
        try:
            return Copy(self).of(value)
        except Exception as error:  # noqa: BLE001 - what cannot be looked into must not leave
            report("Redactor.copy", error)
            return MASK

    def redact_field(self, key: object, value: Any) -> Any:
        """A value without what is sensitive in it, which is under `key`."""
        if self.is_sensitive(key):
            return value if self.is_count(key, value) else MASK
        kind = type(value)
        if kind is str:
            return self.redact_query(value) if key in QUERY_KEYS else self.redact_text(value)
        if kind in SCALARS:
            return MASK if is_card(value) else value
        return self.redact(value)

    def redact_fields(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Redact all values of a dictionary that is the caller's own, in place; returns it."""
        verdicts, clean, short = self.verdicts, self.clean, self._short
        for name, value in fields.items():
            if verdicts.get(name) is False:  # most values are judged here: a call for each would double the time
                kind = type(value)
                if kind is str:
                    if value in clean:
                        if name not in QUERY_KEYS:
                            continue
                    elif len(value) < short and value.replace("-", "").isalnum():
                        continue
                elif kind in SCALARS and (kind is not int or value < SMALLEST_CARD):
                    continue
            fields[name] = self.redact_field(name, value)
        return fields

    def redact_message(self, message: str, template: object, arguments: object) -> str:
        """A log message without secrets.

        Args:
            message: The message.
            template: What it was made from, by `%`.
            arguments: What was put in. If that is a few digits, a clean template makes a clean message: templates
                repeat, messages do not.
        """
        if type(template) is not str or type(arguments) is not tuple or self.redact_text(template) is not template:
            return self.redact_text(message)
        # In the place of each `%s` or `%d`.
        if len(message) - len(template) + 2 * len(arguments) > MAX_DIGITS or self._is_customised:
            return self.redact_text(message)
        for argument in arguments:
            if type(argument) not in _NUMBERS:
                return self.redact_text(message)
        return message

    def redact_query(self, query: str) -> str:
        """A query string with the values of its sensitive parameters replaced, all else byte for byte the same."""
        try:
            return self._texts.redact_query(query)
        except Exception as error:  # noqa: BLE001 - as above
            report("Redactor.redact_query", error)
            return MASK

    def redact_text(self, text: str) -> str:
        """A text without secrets; the same object if there are none in it."""
        try:
            return text if text in self.clean else self._texts.redact(text)
        except Exception as error:  # noqa: BLE001 - as above
            report("Redactor.redact_text", error)
            return MASK

    def redact_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """ASGI headers with the values of the sensitive ones (`Authorization`, `Cookie`, ...) replaced."""
        return [(name, self._header_value(name, value)) for name, value in headers]

    def _header_value(self, name: bytes, value: bytes) -> bytes:
        if self.is_sensitive(name):
            return MASK.encode()
        return self.redact_text(value.decode("latin-1")).encode("latin-1", "replace")


def redact_sensitive_data(data: Any, sensitive_fields: Iterable[str] | None = None) -> Any:
    """A copy of some data with everything that is sensitive replaced by `******`.

    Args:
        data: Usually a dictionary; see `Redactor.redact` for what is looked into. Never changed, never the
            cause of an error.
        sensitive_fields: A key that contains one of these, in any case, is sensitive; a text is a list of them with
            commas. Default: those of
            `SENSITIVE_FIELDS` and `asgi_obs.settings.ALWAYS_SENSITIVE`, with `SENSITIVE_PATTERNS`.

    Raises:
        ConfigurationError: A pattern of the environment is no regular expression.
    """
    return redactor_of(sensitive_fields).copy(data)


def redactor_of(sensitive_fields: Iterable[str] | None = None) -> Redactor:
    """The redactor for these words, shared by all who ask for the same; default: what the environment says."""
    if sensitive_fields is None:
        return _redactor(
            (*_read("sensitive_fields", DEFAULT_SENSITIVE), *ALWAYS_SENSITIVE), _read("sensitive_patterns", ()), None
        )
    words = sensitive_fields.split(",") if isinstance(sensitive_fields, str) else map(str, sensitive_fields)
    return _redactor(tuple(words), (), None)


def redactor_for(settings: Settings) -> Redactor:
    """The redactor that these settings describe, shared by all who ask for the same."""
    return _redactor(settings.sensitive_keys, settings.sensitive_patterns, settings.redact)


def _read(name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    try:
        configured: tuple[str, ...] = Settings.read(name)
    except Exception as error:  # noqa: BLE001 - an unreadable .env file; redaction never raises
        report("redact_sensitive_data", error)
        return default
    return configured


@lru_cache(maxsize=64)
def _redactor(words: tuple[str, ...], patterns: tuple[str, ...], rule: Callable[[str], str] | None) -> Redactor:
    return Redactor(words, patterns=patterns, rule=rule)
