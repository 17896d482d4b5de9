"""Card numbers: digits with the prefix and the length of an issuer, and a valid check digit.

Written in one piece or in the groups that are embossed on the card (4-4-4-4, 4-6-5, 4-6-4), with single spaces or
dashes, or a space as URLs write it. Digits that are part of a word, a fraction or an ID are none.
"""

from __future__ import annotations

import re
from typing import Final

from asgi_obs.redaction.escapes import BEHIND_ESCAPE
from asgi_obs.redaction.mask import MASK

__all__ = ["TRIGGERS", "is_card_number", "redact_cards"]

TRIGGERS: Final = (
    *(f"{first}[0-9]{{12}}" for first in "23456"),
    r"\+[0-9]{4,6}\+",
    "%(?:25){0,4}20[0-9]{4,6}%",
)
"""What a text with a card number has in it once separators are gone; `asgi_obs.redaction.prefilter`."""

# https://en.wikipedia.org/wiki/Payment_card_number#Issuer_identification_number_(IIN)
_ISSUERS: Final = re.compile(
    r"""
    4(?:\d{12}|\d{15}|\d{18})                                                           # Visa
  | (?:5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}                  # Mastercard
  | 3[47]\d{13}                                                                         # American Express
  | (?:6011|64[4-9]\d|65\d{2})\d{12}(?:\d{3})?                                          # Discover
  | 3(?:0[0-5]|[68]\d)\d{11}                                                            # Diners Club
  | 35(?:2[89]|[3-8]\d)\d{12}                                                           # JCB
  | 62\d{14,17}                                                                         # UnionPay
  | (?:50|5[6-9]|6[0-9])\d{11,17}                                                       # Maestro
    """,
    re.VERBOSE,
)
_CANDIDATE: Final = re.compile(
    rf"""
    (?: (?<![\w.%-]) | {BEHIND_ESCAPE} )
    (?: [2-6]\d{{12,18}}
      | [2-6]\d{{3}} ([ +-]|%(?:25){{0,4}}20) (?: \d{{4}}\1\d{{4}}\1\d{{4}}(?:\1\d{{3}})? | \d{{6}}\1\d{{4,5}} ) )
    (?![\w-]|\.\w)
    """,
    re.VERBOSE | re.ASCII,
)
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def is_card_number(digits: str) -> bool:
    """Whether these digits are a card number."""
    return _ISSUERS.fullmatch(digits) is not None and _luhn(digits)


def redact_cards(text: str) -> str:
    """The text without the card numbers in it."""
    return _CANDIDATE.sub(_masked, text)


def _masked(found: re.Match[str]) -> str:
    digits, separator = found[0], found[1]
    if separator:
        head, _, tail = digits.rpartition(separator)
        digits = digits.replace(separator, "")
        # Sixteen digits, and a security code of three behind them.
        if len(tail) == 3 and is_card_number(head.replace(separator, "")):
            return MASK
    return MASK if is_card_number(digits) else found[0]


def _luhn(digits: str) -> bool:
    """The check digit of ISO/IEC 7812-1, annex B."""
    numbers = [int(digit) for digit in reversed(digits)]
    return (sum(numbers[::2]) + sum(_DOUBLED[number] for number in numbers[1::2])) % 10 == 0
