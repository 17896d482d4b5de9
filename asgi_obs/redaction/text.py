"""Texts: every rule that applies to one, and the look that most of them end with.

A text that was judged clean before costs a look-up, another clean one the prefilter (`asgi_obs.redaction.prefilter`),
and only what may hold a secret the rules themselves: some 20 µs for a line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Final

from asgi_obs.errors import ConfigurationError, report_call
from asgi_obs.redaction import cards, commands, cookies, escapes, sql, tokens, urls, validation
from asgi_obs.redaction.keys import Words
from asgi_obs.redaction.mask import MASK
from asgi_obs.redaction.pairs import PairRules
from asgi_obs.redaction.prefilter import prefilter

__all__ = ["TextRules"]

MAX_CLEAN: Final = 4096
MAX_KEPT_TEXT: Final = 128
"""Characters; messages repeat, what is long rarely does."""


class TextRules:
    """Redacts texts.

    Args:
        words: What makes a key sensitive.
        patterns: Regular expressions; what they match is replaced.
        rule: Called last with every text, returns it redacted.

    Attributes:
        clean: Texts that need no redaction at all.

    Raises:
        ConfigurationError: A pattern is no regular expression, or matches nothing at all, or the rule cannot be called.
    """

    def __init__(self, words: Words, patterns: Iterable[str], rule: Callable[[str], str] | None) -> None:
        if rule is not None and not callable(rule):
            raise ConfigurationError("rule", rule, "a function that takes a text and returns it redacted")
        self._patterns = [_compiled(pattern) for pattern in patterns]
        self._rule = rule
        self._urls = urls.UrlRules(words, self.redact)
        self._validation = validation.ValidationRules(words)
        self._pairs = PairRules(words)
        self._sql = sql.SqlRules(words)
        self._may_hold_tokens = prefilter(tokens.TRIGGERS)
        modules = (cards, commands, cookies, escapes, sql, tokens, urls, validation)
        self._may_hold_secrets = prefilter((*words.triggers, *(t for module in modules for t in module.TRIGGERS)))
        self._is_customised = bool(self._patterns or rule)
        self._clean: set[str] = set()
        self.clean: AbstractSet[str] = frozenset() if self._is_customised else self._clean

    def redact(self, text: str) -> str:
        """The text without secrets; the same object if there are none."""
        if text not in self._clean:
            redacted = self.apply(text) if self.is_suspicious(text) else text
            if redacted != text:
                text = redacted
            elif len(text) <= MAX_KEPT_TEXT and not text.startswith("-"):  # an option says what the next argument is
                if len(self._clean) >= MAX_CLEAN:
                    self._clean.clear()
                self._clean.add(text)
        return self._customised(text) if self._is_customised else text

    def redact_query(self, query: str) -> str:
        """A query string with the values of its sensitive parameters replaced."""
        if "%" in query or self.is_suspicious(query):
            return self._urls.redact_query(query)
        return self.redact(query)

    def is_suspicious(self, text: str) -> bool:
        """Whether the rules of this library have to look at a text; if not, they would not change it."""
        # The prefilter sees no dashes, no spaces and no upper case.
        return "sk-" in text or "AUTH " in text or "PASS " in text or "-pass " in text or self._may_hold_secrets(text)

    def apply(self, text: str) -> str:
        """What the rules of this library make of the text, without the look before."""
        plain = escapes.without_colours(text)
        redacted = self._apply(plain)
        return text if redacted == plain else redacted

    def _apply(self, text: str) -> str:
        # From what says most about its place to what says least: a token is masked whole before a `:` in it counts.
        if "sk-" in text or self._may_hold_tokens(text):
            text = tokens.redact_tokens(text)
        text = commands.redact_commands(text)
        text = cookies.redact_cookies(text)
        text = self._validation.redact(text)
        text = self._sql.redact(text)
        text = self._urls.redact(text)
        text = self._pairs.redact(text)
        return cards.redact_cards(text)

    def _customised(self, text: str) -> str:
        for pattern in self._patterns:
            text = pattern.sub(MASK, text)
        if self._rule is None:
            return text
        try:
            redacted = self._rule(text)
            if isinstance(redacted, str):
                return redacted
            raise TypeError(f"expected a text, got {type(redacted).__name__}")
        except Exception as error:  # noqa: BLE001 - what could not be looked at must not leave
            report_call(self._rule, error)
            return MASK


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError):
        raise ConfigurationError("patterns", pattern, "regular expressions") from None
    if compiled.match(""):
        raise ConfigurationError("patterns", pattern, "regular expressions that match something")
    return compiled
