"""Passwords in commands: `AUTH` and `PASS` of protocols, `-p` of the clients of MySQL.

A command of a protocol has a line, quotes or brackets to itself, or what is behind a `:` or `>`: "the tests
PASS now" is none.
"""

from __future__ import annotations

import re
from typing import Final

from asgi_obs.redaction.escapes import BEHIND_ESCAPE
from asgi_obs.redaction.mask import MASK
from asgi_obs.redaction.pairs import READABLE

__all__ = ["TRIGGERS", "redact_commands"]

TRIGGERS: Final = ("mysql", "mariadb")
"""For `asgi_obs.redaction.prefilter`; it does not see that `AUTH` and `PASS` are upper case, `TextRules` does."""

# Redis, FTP, POP3, IRC; SMTP has the name of a mechanism first.
_PROTOCOL: Final = re.compile(
    rf"""
    ( (?: ^ | [>:(\["'`] | {BEHIND_ESCAPE} ) [ ]{{0,4}}
      (?:AUTH|PASS)[ ] )
    ( (?: (?<=AUTH[ ]) \S{{1,64}}[ ] )? \S{{1,256}}? )
    (?= [ \t]{{0,8}} (?: \r?$ | \\{{1,16}}[rn] | ["'`)\]](?!\w) ) )
    """,
    re.VERBOSE | re.MULTILINE,
)
_WORDS: Final = (
    "anonymous cram-md5 done ended error external gssapi login ntlm passed pending plain skipped started succeeded "
    "success successful timeout tls xoauth2"
)
_STAYING: Final = READABLE | frozenset(_WORDS.split())
"""Outcomes and mechanisms."""

# What runners of tests print: "PASS src/app.test.js".
_FILE: Final = re.compile(r"[\w.@-]{1,64}/[\w./@-]{1,200}\.\w{1,8}\Z")

_CLIENT: Final = re.compile(
    rf"""
    ( (?:\b|{BEHIND_ESCAPE}) (?:mysql|mariadb)[a-z-]{{0,20}} ["']?,?\s [^\n;|&]{{0,300}}? (?<=[\s"']) -p )
    (?!\d{{1,5}}:\d)
    (?: '[^'\n]{{1,256}}' | "[^"\n]{{1,256}}" | [^\s"']{{1,256}} )
    """,
    re.VERBOSE,
)


def redact_commands(text: str) -> str:
    """The text without the passwords of commands."""
    if "AUTH " in text or "PASS " in text:
        text = _PROTOCOL.sub(_without_arguments, text)
    return _CLIENT.sub(rf"\1{MASK}", text) if "-p" in text else text


def _without_arguments(found: re.Match[str]) -> str:
    before, _, last = found[2].rpartition(" ")
    # Behind a word of its own, one of letters only and in one case is English: "AUTH service started".
    is_word = last.isalpha() and (last.islower() or last.isupper()) if before else _FILE.match(last) is not None
    return found[0] if is_word or last.rstrip(".:!?").lower() in _STAYING else f"{found[1]}{MASK}"
