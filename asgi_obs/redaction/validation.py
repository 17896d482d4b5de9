"""Input that a validation error repeats: Pydantic and FastAPI say where it was found, beside it.

https://docs.pydantic.dev/latest/errors/errors/
"""

from __future__ import annotations

import re
from typing import Final

from asgi_obs.redaction.keys import Words
from asgi_obs.redaction.mask import mask_behind
from asgi_obs.redaction.values import line_end, value_end

__all__ = ["TRIGGERS", "ValidationRules"]

TRIGGERS: Final = ("inputvalue=",)
"""For `asgi_obs.redaction.prefilter`; the rules about fields look for sensitive words."""

_PRINTED: Final = re.compile(r"\binput_value=")
_TYPE: Final = ", input_type="
_LINES: Final = re.compile(r"[\r\n]+|\\+n")
_CONTEXT: Final = 600
"""Characters before an input that the name of its field is looked for in."""

_MAX_INPUT: Final = 1000
"""Characters; Pydantic prints fifty."""

# Not past the next error of a list, which also keeps the time linear.
_LISTED: Final = re.compile(
    r"""\bloc\\{0,16}["']?\s{0,8}[:=]\s{0,8}[(\[]([^()\[\]]{1,500})[)\]]"""
    r"""(?:(?!\bloc\b)[\s\S]){0,2000}?\binput\\{0,16}["']?\s{0,8}[:=]\s{0,8}"""
)


class ValidationRules:
    """Masks the input of sensitive fields in the texts of validation errors.

    Args:
        words: What makes a field sensitive.
    """

    def __init__(self, words: Words) -> None:
        self._is_sensitive = words.is_sensitive

    def redact(self, text: str) -> str:
        """The text without that input."""
        if "input" not in text:
            return text
        text = mask_behind(text, _LISTED, value_end, lambda found: self._is_sensitive(found[1]))
        return mask_behind(text, _PRINTED, _printed_end, self._is_printed_secret)

    def _is_printed_secret(self, found: re.Match[str]) -> bool:
        text, start = found.string, found.end()
        lines = _LINES.split(text[max(0, start - _CONTEXT) : start])
        # The middle of a structure was cut out, and with it perhaps a key whose value is still there.
        is_cut = text.startswith(("{", "[", "("), start) and "..." in text[start : _printed_end(text, start)]
        return is_cut or (len(lines) > 1 and self._is_sensitive(lines[-2]))


def _printed_end(text: str, start: int) -> int:
    end = text.find(_TYPE, start, start + _MAX_INPUT)
    return end if end >= 0 else line_end(text, start)
