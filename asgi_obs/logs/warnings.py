"""Warnings of Python become records of the logger `py.warnings`, one line each.

What is shown, and how often, and what is raised is as before, for Python's own filters say so. Costs nothing until
something warns.
"""

from __future__ import annotations

import linecache
import logging
import re
from typing import Final

from asgi_obs.logs.safe import message_of

__all__ = ["capture_warnings"]

_PLACE: Final = re.compile(r"(.+?):(\d+): ")


def capture_warnings() -> None:
    """Log what `warnings` would print; may be called again."""
    logging.captureWarnings(capture=True)
    logging.getLogger("py.warnings").addFilter(_without_source)


def _without_source(record: logging.LogRecord) -> bool:
    """Take away the line of code that Python quotes below a warning: its place is in the message already."""
    text = message_of(record)
    place = _PLACE.match(text)
    if place is not None:
        source = linecache.getline(place[1], int(place[2])).strip()
        text = text.removesuffix(f"\n  {source}\n")
    record.msg, record.args = text.rstrip("\n"), ()
    return True
