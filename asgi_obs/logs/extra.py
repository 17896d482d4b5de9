"""Fields of any name -> attributes of a record, as `extra` makes them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["add_fields"]

# Formatters set the first two; uvicorn sets the last, for itself.
_TAKEN: Final = frozenset({"message", "asctime", "color_message"})


def add_fields(record: logging.LogRecord, fields: Mapping[str, Any]) -> None:
    """Make fields attributes of a record.

    Args:
        record: Changed in place.
        fields: Names and values. A name that the record has already, such as `process`, moves under `context`,
            where `extra` would raise `KeyError`.
    """
    attributes = record.__dict__
    taken = {name: value for name, value in fields.items() if name in attributes or name in _TAKEN}
    attributes.update({name: value for name, value in fields.items() if name not in taken} if taken else fields)
    if taken:
        context = attributes.get("context", {})
        attributes["context"] = {**(context if isinstance(context, Mapping) else {"context": context}), **taken}
