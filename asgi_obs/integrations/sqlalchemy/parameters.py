"""What of a statement's parameters may be logged: redacted by name and by looks, and not too much of it.

A parameter goes by the name of its column, where SQLAlchemy knows it. Where a statement has to do with something
sensitive, a parameter whose name is not that of a column is masked: it could be anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from asgi_obs.logs.safe import dumps, safe_text
from asgi_obs.redaction import MASK, Redactor

__all__ = ["Parameters"]

MAX_SETS: Final = 3
"""Of the sets of parameters of an executemany."""

MAX_PARAMETERS: Final = 20
MAX_LENGTH: Final = 200
"""Characters of a parameter."""

_CUT: Final = "..."
_LARGE: Final = 100_000
"""Characters; of a text that is longer no more than its length is told, for it has to be redacted as a whole."""

# What SQLAlchemy puts behind the name of a column: `email_1`, `id_1_2` of an IN, `email__0` of many rows.
_NUMBER: Final = re.compile(r"(?:_{1,2}\d+)+$")


class Parameters:
    """Makes parameters fit for a log line.

    Args:
        redactor: Redacts them.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def shown(self, text: str, parameters: tuple[Any, ...], context: Any) -> Any:
        """The parameters by name, or by position from 1 on; of an executemany a list of the first sets.

        Args:
            text: The statement.
            parameters: As they go to the driver; none at all if it has none.
            context: SQLAlchemy's execution context.
        """
        many = context.executemany
        sets: Any = parameters[0] if many else parameters
        # What the context knows by name is what it executes itself: not the defaults of columns, say.
        if many or text == getattr(context, "statement", None):
            sets = getattr(context, "compiled_parameters", None) or sets
        is_sensitive = self._redactor.is_sensitive(text)
        shown = [self._set(each, text if is_sensitive else None) for each in islice(sets, MAX_SETS)]
        return shown if many else next(iter(shown), {})

    def _set(self, parameters: Any, sensitive_text: str | None) -> dict[str, Any]:
        items: Iterable[tuple[Any, Any]] = (
            parameters.items() if isinstance(parameters, Mapping) else enumerate(parameters, 1)
        )
        shown: dict[str, Any] = {}
        for name, value in items:
            if len(shown) == MAX_PARAMETERS:
                shown[_CUT] = len(parameters) - MAX_PARAMETERS
                break
            column = _NUMBER.sub("", str(name))
            hidden = sensitive_text is not None and not _is_column(column, sensitive_text)
            shown[str(name)] = MASK if hidden else self._value(column, value)
        return shown

    def _value(self, column: str, value: Any) -> Any:
        if isinstance(value, (bytes, bytearray, memoryview)) and not self._redactor.is_sensitive(column):
            return f"<{len(value)} bytes>"
        if isinstance(value, str) and len(value) > _LARGE:
            return f"<{len(value)} characters>"
        redacted = self._redactor.redact_field(column, value)
        if redacted is None or isinstance(redacted, (bool, int, float)):
            return redacted
        text = dumps(redacted).decode() if isinstance(redacted, (dict, list)) else safe_text(redacted)
        return text if len(text) <= MAX_LENGTH else text[:MAX_LENGTH] + _CUT


def _is_column(name: str, text: str) -> bool:
    """Whether a name stands in a statement, and neither as a placeholder nor in front of a bracket."""
    return re.search(rf"(?<![\w:@$])(?<!%\(){re.escape(name)}(?!\w|\s*\()", text) is not None
