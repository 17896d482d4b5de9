"""URLs and query strings: the userinfo, and the values of sensitive parameters."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote, unquote_plus

from asgi_obs.redaction.keys import Words
from asgi_obs.redaction.mask import MASK

__all__ = ["TRIGGERS", "UrlRules"]

TRIGGERS: Final = ("://", "%(?:25){0,4}3a%(?:25){0,4}2f%", r"%[0-9a-f]{2}[^&;\s\"'<>=]{0,900}=")
"""For `asgi_obs.redaction.prefilter`."""

# With a password the userinfo reaches to the last `@` of the URL: the password may hold any character unescaped, and
# a path is lost rather than a password left. What follows the colon must not be a port; without a user it is none.
# Without a password it is the userinfo of RFC 3986, section 3.2.1. Bounded, or a hostile text would take long.
_USERINFO: Final = re.compile(
    r"""
    ://(?!git@)(?: (?: : | [^/?#\s"<>:@\[]{1,256}:(?!\d{0,5}(?:[/?#\s"<>]|\Z)) ) (?:(?:[^\s"<>@:]|:(?!//)){0,256}@)+
         | [^/?#\s"<>]*@ )
    """,
    re.VERBOSE,
)
# The same in a URL that is percent-encoded, be it several times: `%25` stands for `%` then.
_ENCODED_USERINFO: Final = re.compile(
    r"""
    (?P<scheme> (?P<sign>%(?:25){0,4})3A (?P=sign)2F (?P=sign)2F )
    (?: [^\s"'<>%&] | %(?! (?:25){0,4}(?:2F|3F|23|22|27|26) ) )*
    (?= (?P=sign)40 )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_ENCODED_NAME: Final = re.compile(
    r"(?<![\w.%\[\]+-])((?=[\w.%\[\]+-]{0,200}%[0-9A-Fa-f]{2})[\w.%\[\]+-]{1,200})=[^&;\s\"'<>]+"
)
DONE: Final = "REDACTED"
"""What OpenTelemetry's conventions put in the place of a signature."""

# Secret by their exact names, for `sig` is part of too many words: parameters of Azure, AWS and Google Cloud.
_SIGNATURES: Final = frozenset({"sig", "signature", "x-amz-signature", "x-goog-signature"})
_SIGNATURE: Final = re.compile(
    rf"""([?&](?:amp;)?(?:{"|".join(sorted(_SIGNATURES))})=)(?!{DONE}(?:[&#\s"'<>]|$))[^&#\s"'<>]+""", re.IGNORECASE
)
_URL_PARAMETERS: Final = re.compile(r"""([?#])([^?#\s"'<>]+)""")


class UrlRules:
    """Redacts URLs in texts, and query strings.

    Args:
        words: What makes a parameter sensitive.
        redact_text: What redacts the values of the other parameters.
    """

    def __init__(self, words: Words, redact_text: Callable[[str], str]) -> None:
        self._is_sensitive = words.is_sensitive
        self._redact_text = redact_text

    def redact(self, text: str) -> str:
        """The text with the URLs and the percent-encoded parameters in it redacted."""
        if "%" in text:
            text = _ENCODED_USERINFO.sub(rf"\g<scheme>{MASK}", text)
            text = _ENCODED_NAME.sub(self._redact_encoded, text)
        text = _SIGNATURE.sub(rf"\1{MASK}", text)
        if "://" not in text:
            return text
        text = _USERINFO.sub(f"://{MASK}@", text)
        return _URL_PARAMETERS.sub(lambda found: found[1] + self._redact_names(found[2]), text)

    def redact_query(self, query: str) -> str:
        """A query string with the values of its sensitive parameters replaced, all else byte for byte the same."""
        return "&".join(map(self._redact_parameter, query.split("&")))

    def _is_secret(self, name: str) -> bool:
        return self._is_sensitive(name) or name.lower() in _SIGNATURES

    def _redact_encoded(self, found: re.Match[str]) -> str:
        return f"{found[1]}={MASK}" if self._is_secret(unquote(found[1])) else found[0]

    def _redact_names(self, query: str) -> str:
        return "&".join(self._redact_named(parameter) or parameter for parameter in query.split("&"))

    def _redact_parameter(self, parameter: str) -> str:
        redacted = self._redact_named(parameter)
        if redacted is not None:
            return redacted
        name, equals, value = parameter.partition("=")
        decoded = unquote_plus(value)
        if decoded != value and self._redact_text(decoded) != decoded:
            return f"{name}{equals}{MASK}"
        return self._redact_text(parameter)

    def _redact_named(self, parameter: str) -> str | None:
        # A semicolon separates parameters for some servers only: from a sensitive name on, all is replaced.
        start = 0
        for part in parameter.split(";"):
            name, equals, value = part.partition("=")
            if equals and value != DONE and self._is_secret(unquote_plus(name)):
                return f"{parameter[:start]}{name}={MASK}"
            start += len(part) + 1
        return None
