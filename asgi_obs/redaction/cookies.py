"""Cookies as `http.cookiejar`, `http.cookies`, httpx and requests print them, with names that say nothing."""

from __future__ import annotations

import re
from typing import Final

from asgi_obs.redaction.mask import MASK, mask_behind
from asgi_obs.redaction.values import value_end

__all__ = ["CLASSES", "TRIGGERS", "redact_cookies"]

CLASSES: Final = frozenset({"BaseCookie", "Cookie", "CookieJar", "Cookies", "Morsel"})
"""Names of the classes whose instances are, or hold, cookies."""

TRIGGERS: Final = ("<cookie", "<morsel:", "<simplecookie:", r"cookie\(")
"""For `asgi_obs.redaction.prefilter`."""

_ANGLED: Final = re.compile(r"""(<(?:Cookie|Morsel:|SimpleCookie:) )(?:[^\n>]|>(?![\s,;\])>"'\\]|\Z))+""")
_CALLED: Final = re.compile(r"\bCookie\((?:[^()\n]{0,300}?[\s,])?value=")


def redact_cookies(text: str) -> str:
    """The text without the values of cookies."""
    if "Cookie" not in text and "<Morsel" not in text:
        return text
    return mask_behind(_ANGLED.sub(rf"\1{MASK}", text), _CALLED, value_end)
