"""Structures: dictionaries, lists, objects, at any depth.

What is plain data without anything to redact is looked at once and returned as it is; all else is copied. The copy
never shares a container with the original, and the original is never changed.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from asgi_obs.redaction import cookies
from asgi_obs.redaction.cards import is_card_number
from asgi_obs.redaction.mask import MASK

if TYPE_CHECKING:
    from asgi_obs.redaction.redactor import Redactor

__all__ = ["QUERY_KEYS", "SCALARS", "SMALLEST_CARD", "Copy", "is_card", "is_clean"]

CIRCULAR: Final = "<circular>"
TOO_DEEP: Final = "<too deep>"
TOO_LARGE: Final = "<too large>"

MAX_DEPTH: Final = 100
MAX_CONTAINERS: Final = 100_000
"""A small object that refers to itself many times over would be written out for ever."""

MAX_PLAIN: Final = 1000
"""Containers that are looked at before a copy is made after all."""

QUERY_KEYS: Final = frozenset({"query", "query_string", "query_params"})
"""Keys whose value is a query string."""

SCALARS: Final = frozenset({int, float, bool, type(None)})
_CONTAINERS: Final = frozenset({dict, list, tuple})
# Their text holds no secret.
_HARMLESS: Final = (dt.date, dt.time, dt.timedelta, dt.tzinfo, uuid.UUID, decimal.Decimal, complex, type)

_SECRETS: Final = frozenset({"Secret", "SecretStr", "SecretBytes"})
"""Names of the classes, of Starlette and Pydantic, whose instances are secrets."""

_NAMES: Final = ("name", "key", "field", "header", "Name", "Key")
_VALUES: Final = frozenset({"value", "val", "Value", "input"})
SMALLEST_CARD: Final = 2 * 10**12


def is_card(value: Any) -> bool:
    """Whether a scalar is the number of a card."""
    return type(value) is int and SMALLEST_CARD <= value < 10**19 and is_card_number(str(value))


def is_clean(redactor: Redactor, value: Any) -> bool:
    """Whether a container is plain data, of JSON's types only, that a copy would not differ from."""
    todo = [value]
    for _ in range(MAX_PLAIN):
        container = todo.pop()
        if type(container) is dict:
            items: Any = container.values()
            if not _has_clean_keys(redactor, container):
                return False
        elif _is_secret_pair(redactor, container):
            return False
        else:
            items = container
        if not _are_clean(redactor, items, todo):
            return False
        if not todo:
            return True
    return False


def _has_clean_keys(redactor: Redactor, mapping: dict[Any, Any]) -> bool:
    verdicts, clean = redactor.verdicts, redactor.clean
    for key in mapping:
        # What is known is looked up here: most of the keys are, and a call takes longer.
        if type(key) is not str or key in QUERY_KEYS or (verdicts.get(key) is not False and redactor.is_sensitive(key)):
            return False
        if key not in clean and redactor.redact_text(key) is not key:
            return False
    return not _value_keys(redactor, mapping)


def _are_clean(redactor: Redactor, items: Any, todo: list[Any]) -> bool:
    clean = redactor.clean
    for item in items:
        kind = type(item)
        if kind is str:
            if item not in clean and (redactor.redact_text(item) is not item or _is_option(redactor, item)):
                return False
        elif kind in _CONTAINERS:
            todo.append(item)
        elif kind not in SCALARS or (kind is int and item >= SMALLEST_CARD and is_card(item)):
            return False
    return True


def _is_secret_pair(redactor: Redactor, value: Sequence[Any]) -> bool:
    return len(value) == 2 and isinstance(value[0], (str, bytes)) and redactor.is_sensitive(value[0])


def _is_option(redactor: Redactor, argument: str) -> bool:
    """Whether what follows this argument of a command is its value, and sensitive."""
    return argument.startswith("-") and "=" not in argument and redactor.is_sensitive(argument)


def _value_keys(redactor: Redactor, mapping: Mapping[Any, Any]) -> Collection[str]:
    """The keys of what is named by another one: `{"name": "password", "value": "hunter2"}`.

    Validation errors name it by its location: `{"loc": ("body", "password"), "input": "hunter2"}`.
    """
    if _VALUES.isdisjoint(mapping):
        return ()
    names = [mapping[key] for key in _NAMES if key in mapping]
    location = mapping.get("loc")
    names += location if isinstance(location, (list, tuple)) else ()
    return _VALUES if any(isinstance(name, (str, bytes)) and redactor.is_sensitive(name) for name in names) else ()


class Copy:
    """The making of one redacted copy.

    Args:
        redactor: Judges keys and redacts texts.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._path: set[int] = set()
        self._containers = 0

    def of(self, value: Any) -> Any:
        """The copy of a value."""
        kind = type(value)
        if kind in SCALARS:
            return MASK if is_card(value) else value
        if isinstance(value, str):
            return self._redactor.redact_text(value if kind is str else str.__str__(value))
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._of_bytes(value)
        copy = self._copier(value)
        return self._of_object(value) if copy is None else self._descend(copy, value)

    def _descend(self, copy: Callable[[Any], Any], value: Any) -> Any:
        if id(value) in self._path:
            return CIRCULAR
        if len(self._path) >= MAX_DEPTH:
            return TOO_DEEP
        if self._containers >= MAX_CONTAINERS:
            return TOO_LARGE
        self._containers += 1
        self._path.add(id(value))
        try:
            return copy(value)
        except Exception:  # noqa: BLE001 - one object that cannot be read does not cost the rest
            return f"<unreadable {type(value).__name__}>"
        finally:
            self._path.discard(id(value))

    def _copier(self, value: Any) -> Callable[[Any], Any] | None:
        kind = type(value)
        if kind is dict:
            return self._of_mapping
        if not cookies.CLASSES.isdisjoint(base.__name__ for base in kind.__mro__):
            return None  # their text says what they are
        if issubclass(kind, Mapping):
            return self._of_mapping
        if issubclass(kind, tuple):
            return self._of_named_tuple if hasattr(kind, "_fields") else self._of_tuple
        if issubclass(kind, list):
            return self._of_list
        if issubclass(kind, (set, frozenset)):
            return self._of_set
        if dataclasses.is_dataclass(kind):
            return self._of_dataclass
        # Looked up on the class: an object that answers to every name is no model.
        return self._of_model if callable(getattr(kind, "model_dump", None)) else None

    def _of_mapping(self, mapping: Mapping[Any, Any]) -> dict[Any, Any]:
        named = _value_keys(self._redactor, mapping)
        copy: dict[Any, Any] = {}
        for key, value in mapping.items():
            name = self._of_key(key)
            if name in copy:  # two keys that were masked
                name = f"{name} ({len(copy)})"
            copy[name] = MASK if key in named else self._under(key, value)
        return copy

    def _of_key(self, key: Any) -> Any:
        if type(key) is str:
            return self._redactor.redact_text(key)
        return self.of(key) if type(key) in (bytes, tuple) else key

    def _under(self, key: Any, value: Any) -> Any:
        redactor = self._redactor
        if redactor.is_sensitive(key):
            return self.of(value) if redactor.is_count(key, value) else MASK
        return redactor.redact_query(value) if type(value) is str and key in QUERY_KEYS else self.of(value)

    def _of_named_tuple(self, value: Any) -> dict[str, Any]:
        return self._of_mapping(dict(zip(value._fields, value, strict=True)))

    def _of_dataclass(self, value: Any) -> dict[str, Any]:
        # What its author keeps out of a `repr` is kept out of a log too.
        fields = dataclasses.fields(value)
        return self._of_mapping({f.name: getattr(value, f.name) if f.repr else MASK for f in fields})

    def _of_model(self, value: Any) -> Any:
        data = value.model_dump()
        fields = getattr(type(value), "model_fields", None)
        if type(data) is not dict or not isinstance(fields, dict):
            return self.of(data)
        hidden = {name for name in data if name in fields and not fields[name].repr}
        return self._of_mapping({name: MASK if name in hidden else data[name] for name in data})

    def _of_tuple(self, value: tuple[Any, ...]) -> tuple[Any, ...]:
        return (value[0], MASK) if _is_secret_pair(self._redactor, value) else tuple(self._of_items(value))

    def _of_list(self, value: list[Any]) -> list[Any]:
        return list(self._of_items(value))

    def _of_items(self, items: Sequence[Any]) -> Iterator[Any]:
        is_value = False
        for item in items:
            yield MASK if is_value and not str(item).startswith("--") else self._of_item(item)
            is_value = type(item) is str and _is_option(self._redactor, item)

    def _of_set(self, value: Any) -> Any:
        items = [self.of(item) for item in value]
        try:
            return type(value)(items) if type(value) in (set, frozenset) else set(items)
        except TypeError:  # an item became a dictionary
            return items

    def _of_item(self, value: Any) -> Any:
        # JSON has no tuples: there a pair within a list is a list.
        if type(value) is list and _is_secret_pair(self._redactor, value):
            return [value[0], MASK]
        return self.of(value)

    def _of_bytes(self, value: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
        text = bytes(value).decode("utf-8", "surrogateescape")
        redacted = self._redactor.redact_text(text)
        if redacted is text:
            return value
        encoded = redacted.encode("utf-8", "surrogateescape")
        return bytearray(encoded) if isinstance(value, bytearray) else encoded

    def _of_object(self, value: Any) -> Any:
        """An object of which nothing but its text will be seen; that text, if there is something to redact in it."""
        if isinstance(value, enum.Enum):
            return value if self.of(value.value) == value.value else MASK
        if not _SECRETS.isdisjoint(base.__name__ for base in type(value).__mro__):
            return MASK
        if isinstance(value, _HARMLESS):
            return value
        try:
            text = str(value)
        except Exception:  # noqa: BLE001 - it will not be written either
            return value
        redacted = self._redactor.redact_text(text)
        return value if redacted is text else redacted
