"""What of a statement's parameters may be logged: redacted by name and by looks, and not too much of it.

A parameter goes by the name of its column, where SQLAlchemy knows it. Where a statement has to do with something
sensitive, a parameter that SQLAlchemy has not named after a column is masked: it could be anything. So is each of
them where one is a sensitive word itself, such as a key of JSON: another may be what belongs to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final, TypeAlias

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

# What may be the name of something, or the path to it, as `$."token"`.
_WORD: Final = re.compile(r"""[\w.$"'\[\]{},:/-]{1,64}""")

_Items: TypeAlias = list[tuple[Any, Any]]


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
        first = [_items(each) for each in islice(sets, MAX_SETS)]
        is_masked = self._rule(text, first, context)
        shown = [self._set(items, is_masked) for items in first]
        return shown if many else next(iter(shown), {})

    def _rule(self, text: str, sets: list[_Items], context: Any) -> Callable[[str], bool]:
        """Which parameters of a statement are masked, by their names, whatever they are."""
        if any(self._is_sensitive_word(value) for items in sets for _, value in items):
            return lambda _: True
        if not self._redactor.is_sensitive(text):
            return lambda _: False
        binds = getattr(getattr(context, "compiled", None), "binds", {})
        return lambda name: not (_is_generated(name, binds) and _is_column(_column(name), text))

    def _is_sensitive_word(self, value: Any) -> bool:
        if isinstance(value, (tuple, list)):  # a path into JSON
            return any(self._is_sensitive_word(each) for each in value[:MAX_PARAMETERS] if isinstance(each, str))
        return isinstance(value, str) and _WORD.fullmatch(value) is not None and self._redactor.is_sensitive(value)

    def _set(self, items: _Items, is_masked: Callable[[str], bool]) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for name, value in items:
            if len(shown) == MAX_PARAMETERS:
                shown[_CUT] = len(items) - MAX_PARAMETERS
                break
            shown[str(name)] = MASK if is_masked(str(name)) else self._value(_column(str(name)), value)
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


def _items(parameters: Any) -> _Items:
    return list(parameters.items() if isinstance(parameters, Mapping) else enumerate(parameters, 1))


def _column(name: str) -> str:
    return _NUMBER.sub("", name)


def _is_generated(name: str, binds: Mapping[str, Any]) -> bool:
    """Whether SQLAlchemy has named a parameter, and not the program, as with `bindparam()` or in a `text()`."""
    bind = binds.get(name, binds.get(name.rpartition("_")[0]))  # the latter for one of an IN
    # Those of VALUES and SET have the names of their columns.
    return bind is not None and (bind.unique or getattr(bind, "_is_crud", False))


def _is_column(name: str, text: str) -> bool:
    """Whether a name stands in a statement, and neither as a placeholder nor in front of a bracket."""
    return re.search(rf"(?<![\w:@$])(?<!%\(){re.escape(name)}(?!\w|\s*\()", text) is not None
