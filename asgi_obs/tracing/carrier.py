"""What is believed of the context that somebody else has sent: `traceparent`, `tracestate`, `baggage`.

OpenTelemetry's propagators warn in the log of what is malformed, with the value. So what does not conform to
https://www.w3.org/TR/trace-context/ and https://www.w3.org/TR/baggage/, or is larger than these ask receivers to
accept, is left out before they see it: no byte of it reaches a log line, and no memory is spent on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.propagators.textmap import Getter

__all__ = ["CarrierGetter", "well_formed"]

MAX_TRACEPARENT: Final = 256
"""Characters; version 00 has 55, later ones may add fields."""

MAX_TRACESTATE: Final = 512
MAX_TRACESTATE_MEMBERS: Final = 32
"""https://www.w3.org/TR/trace-context/#tracestate-limits and #tracestate-header-field-values"""

MAX_BAGGAGE: Final = 8192
MAX_BAGGAGE_MEMBERS: Final = 64
"""https://www.w3.org/TR/baggage/#limits"""

MAX_BAGGAGE_MEMBER: Final = 4096
"""Characters of one: what is longer OpenTelemetry leaves out as well, but names in the log."""

MAX_OTHER: Final = 1024
"""Characters of the headers of other propagators, such as B3 or Jaeger."""

_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_LATER_FIELDS: Final = re.compile(r"(?!00)[0-9a-f]{2}-[!-~]{52}-[!-~]*")
_TRACESTATE_MEMBER: Final = re.compile(
    r"([a-z][_0-9a-z*/-]{0,255}|[a-z0-9][_0-9a-z*/-]{0,240}@[a-z][_0-9a-z*/-]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_MEMBER_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_BAGGAGE_VALUE: Final = r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*"
_BAGGAGE_MEMBER: Final = re.compile(rf"({_MEMBER_NAME})[ \t]*=[ \t]*({_BAGGAGE_VALUE})[ \t]*(;.*)?")
_PRINTABLE: Final = re.compile(r"[ -~]*")


def well_formed(name: str, value: str) -> str | None:
    """A value that a propagator may see.

    Args:
        name: The name of the field, in lower case.
        value: What came under it; several values of one field are joined by commas.

    Returns:
        The value, of baggage what is well-formed in it; None if there is nothing to be believed.
    """
    if name == "traceparent":
        return _traceparent(value.strip(" \t"))
    if name == "tracestate":
        return _tracestate(value)
    if name == "baggage":
        return _baggage(value)
    return value if len(value) <= MAX_OTHER and _PRINTABLE.fullmatch(value) else None


def _traceparent(value: str) -> str | None:
    if len(value) > MAX_TRACEPARENT or _TRACEPARENT.fullmatch(value[:55]) is None:
        return None
    return value if len(value) == 55 or _LATER_FIELDS.fullmatch(value) else None


def _tracestate(value: str) -> str | None:
    members = [member.strip(" \t") for member in value.split(",")] if len(value) <= MAX_TRACESTATE else []
    members = [member for member in members if member]
    keys = {member.partition("=")[0] for member in members if _TRACESTATE_MEMBER.fullmatch(member)}
    # One wrong member, or two of one key, and all are void: section 3.3.
    return ",".join(members) if 0 < len(members) == len(keys) <= MAX_TRACESTATE_MEMBERS else None


def _baggage(value: str) -> str | None:
    if len(value) > MAX_BAGGAGE:
        return None
    matches = [_BAGGAGE_MEMBER.fullmatch(member.strip(" \t")) for member in value.split(",")]
    # Without their properties, which OpenTelemetry would take for a part of the value.
    members = [f"{match[1]}={match[2]}" for match in matches if match is not None]
    members = [member for member in members if len(member) <= MAX_BAGGAGE_MEMBER]
    return ",".join(members[:MAX_BAGGAGE_MEMBERS]) or None


class CarrierGetter(Getter[Mapping[Any, Any]]):
    """Reads the well-formed values of a mapping, the way propagators ask for them.

    Names are compared without case; they and values are texts or bytes; all else is left out.
    """

    def get(self, carrier: Mapping[Any, Any], key: str) -> list[str] | None:
        """The value under a name, as a list of one."""
        wanted = key.lower()
        for name, value in carrier.items():
            if _text_of(name).lower() == wanted:
                text = value.decode("latin-1") if isinstance(value, bytes) else value
                safe = well_formed(wanted, text) if isinstance(text, str) else None
                return None if safe is None else [safe]
        return None

    def keys(self, carrier: Mapping[Any, Any]) -> list[str]:
        """The names."""
        return [_text_of(name) for name in carrier]


def _text_of(name: object) -> str:
    return name.decode("latin-1") if isinstance(name, bytes) else name if isinstance(name, str) else ""
