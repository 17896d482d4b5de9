"""Redaction: what never leaves the process in a log line or a span.

A key is sensitive if it contains a sensitive word, whatever its case and with or without `-` and `_`: `token`
covers `token`, `X-Auth-Token` and `accessToken`. What is under a sensitive key becomes `******`, at any depth; so
do the userinfo of a URL and the sensitive parameters of a query string. A verdict on a key is kept, so that
asking again costs a dictionary look-up.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote_plus

from asgi_obs.errors import report
from asgi_obs.settings import ALWAYS_SENSITIVE, Settings

__all__ = ["MASK", "Redactor", "redact_sensitive_data", "redactor_of"]

MASK: Final = "******"
CIRCULAR: Final = "<circular>"
TOO_DEEP: Final = "<too deep>"
TOO_LARGE: Final = "<too large>"

MAX_DEPTH: Final = 100
MAX_CONTAINERS: Final = 100_000
"""A small object that refers to itself many times over would be written out for ever."""

MAX_VERDICTS: Final = 1024
MAX_KEPT_KEY: Final = 64
"""Characters; keys come from clients too, and what is kept must stay small."""

QUERY_KEYS: Final = frozenset({"query", "query_string", "query_params"})
"""Keys whose value is a query string."""

_SCALARS: Final = frozenset({int, float, bool, type(None)})

# The first alternative is the userinfo of RFC 3986, section 3.2.1. The second is a password with an unescaped
# `/`, `?` or `#`: what follows the colon cannot be a port. It is bounded, or a hostile text would take long.
_USERINFO: Final = re.compile(
    r"""://(?:[^/?#\s"<>]*|[^/?#\s"<>:@\[]{0,256}:(?!\d*(?:[/?#\s"<>]|\Z))[^\s"<>@]{0,256})@"""
)
_URL_PARAMETERS: Final = re.compile(r"""([?#])([^?#\s"<>]*)""")


class Redactor:
    """Redacts by a fixed set of sensitive words. Nothing it does raises.

    Args:
        sensitive_keys: The words; a key that contains one of them is sensitive.
    """

    def __init__(self, sensitive_keys: Iterable[str]) -> None:
        words = sorted({_normal(word) for word in sensitive_keys} - {""})
        self._search: Callable[[str], object] = re.compile("|".join(map(re.escape, words)) or r"(?!)").search
        self._verdicts: dict[str, bool] = {}

    def is_sensitive(self, key: object) -> bool:
        """Whether what is under this key is to be redacted; the key may be of any type."""
        if type(key) is str:
            verdict = self._verdicts.get(key)
            return self._judge(key) if verdict is None else verdict
        return self._judge(_text_of(key))

    def _judge(self, key: str) -> bool:
        verdict = self._search(_normal(key)) is not None
        if len(key) <= MAX_KEPT_KEY:
            if len(self._verdicts) >= MAX_VERDICTS:
                self._verdicts.clear()
            self._verdicts[key] = verdict
        return verdict

    def redact(self, value: Any) -> Any:
        """A redacted copy of a value.

        Dictionaries, lists, tuples and sets are copied at any depth; other mappings, named tuples, dataclasses
        and objects with `model_dump()` become dictionaries; a pair with a sensitive name, such as a header,
        has its value redacted. All else is returned as it is.
        """
        try:
            return _Copy(self).of(value)
        except Exception as error:  # noqa: BLE001 - what cannot be looked into must not leave
            report("Redactor.redact", error)
            return MASK

    def redact_field(self, key: object, value: Any) -> Any:
        """A redacted copy of a value, which is under `key`."""
        if self.is_sensitive(key):
            return MASK
        if type(value) is str:
            if key in QUERY_KEYS:
                return self.redact_query(value)
            return self.redact_text(value) if "://" in value else value
        return value if type(value) in _SCALARS else self.redact(value)

    def redact_query(self, query: str) -> str:
        """A query string with the values of its sensitive parameters replaced, all else byte for byte the same."""
        if "%" not in query and self._search(_normal(query)) is None and "://" not in query:
            return query
        return "&".join(map(self._redact_parameter, query.split("&")))

    def _redact_parameter(self, parameter: str) -> str:
        # A semicolon separates parameters for some servers only: from a sensitive name on, all is replaced.
        start = 0
        for part in parameter.split(";"):
            name, equals, _ = part.partition("=")
            if equals and self.is_sensitive(unquote_plus(name)):
                return f"{parameter[:start]}{name}={MASK}"
            start += len(part) + 1
        return self.redact_text(parameter)

    def redact_text(self, text: str) -> str:
        """A text with the URLs in it redacted: their userinfo, and the sensitive parameters of their query."""
        if "://" not in text:
            return text
        text = _USERINFO.sub(f"://{MASK}@", text)
        return _URL_PARAMETERS.sub(lambda found: found[1] + self.redact_query(found[2]), text)

    def redact_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """ASGI headers with the values of the sensitive ones (`Authorization`, `Cookie`, ...) replaced."""
        return [(name, MASK.encode() if self.is_sensitive(name) else value) for name, value in headers]


class _Copy:
    """The making of one redacted copy."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._path: set[int] = set()
        self._containers = 0

    def of(self, value: Any) -> Any:
        if type(value) in _SCALARS:
            return value
        if isinstance(value, str):
            return self._redactor.redact_text(value) if "://" in value else value
        if isinstance(value, (bytes, bytearray)):
            return self._of_bytes(value)
        copy = self._copier(value)
        if copy is None:
            return value
        return self._descend(copy, value)

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
        if kind is dict or issubclass(kind, Mapping):
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
        return {key: self._under(key, value) for key, value in mapping.items()}

    def _under(self, key: Any, value: Any) -> Any:
        redactor = self._redactor
        if redactor.is_sensitive(key):
            return MASK
        return redactor.redact_query(value) if type(value) is str and key in QUERY_KEYS else self.of(value)

    def _of_named_tuple(self, value: Any) -> dict[str, Any]:
        return self._of_mapping(dict(zip(value._fields, value, strict=True)))

    def _of_dataclass(self, value: Any) -> dict[str, Any]:
        return self._of_mapping({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})

    def _of_model(self, value: Any) -> Any:
        return self.of(value.model_dump())

    def _of_tuple(self, value: tuple[Any, ...]) -> tuple[Any, ...]:
        return (value[0], MASK) if self._is_secret_pair(value) else tuple(map(self._of_item, value))

    def _of_list(self, value: list[Any]) -> list[Any]:
        return list(map(self._of_item, value))

    def _of_set(self, value: Any) -> Any:
        items = [self.of(item) for item in value]
        try:
            return type(value)(items) if type(value) in (set, frozenset) else set(items)
        except TypeError:  # an item became a dictionary
            return items

    def _of_item(self, value: Any) -> Any:
        # JSON has no tuples: there a pair within a list is a list.
        if type(value) is list and self._is_secret_pair(value):
            return [value[0], MASK]
        return self.of(value)

    def _is_secret_pair(self, value: Sequence[Any]) -> bool:
        return len(value) == 2 and isinstance(value[0], (str, bytes)) and self._redactor.is_sensitive(value[0])

    def _of_bytes(self, value: bytes | bytearray) -> bytes | bytearray:
        if b"://" not in value:
            return value
        return self._redactor.redact_text(value.decode("latin-1")).encode("latin-1")


def redact_sensitive_data(data: Any, sensitive_fields: Iterable[str] | None = None) -> Any:
    """A copy of some data with everything under a sensitive key replaced by `******`.

    Args:
        data: Usually a dictionary; see `Redactor.redact` for what is looked into. Never changed, never the
            cause of an error.
        sensitive_fields: A key that contains one of these, in any case, is sensitive. Default: those of
            `SENSITIVE_FIELDS` and `asgi_obs.settings.ALWAYS_SENSITIVE`.
    """
    return redactor_of(sensitive_fields).redact(data)


def redactor_of(sensitive_fields: Iterable[str] | None = None) -> Redactor:
    """The redactor for these words, shared by all who ask for the same; default: those of the environment."""
    if sensitive_fields is None:
        return _redactor(_configured_keys())
    return _redactor((sensitive_fields,) if isinstance(sensitive_fields, str) else tuple(map(str, sensitive_fields)))


def _configured_keys() -> tuple[str, ...]:
    try:
        # With the rest given, only the one variable is read, and a wrong one among the others does not matter.
        return Settings(
            service_name="-", version="-", environment="production", log_level="INFO", log_format="json"
        ).sensitive_keys
    except Exception as error:  # noqa: BLE001 - an unreadable .env file; redaction never raises
        report("redact_sensitive_data", error)
        return ("password", "token", "secret", *ALWAYS_SENSITIVE)


@lru_cache(maxsize=64)
def _redactor(words: tuple[str, ...]) -> Redactor:
    return Redactor(words)


def _normal(word: str) -> str:
    return word.casefold().replace("-", "").replace("_", "")


def _text_of(key: object) -> str:
    if isinstance(key, (bytes, bytearray)):
        return key.decode("latin-1")
    try:
        return str.__str__(key) if isinstance(key, str) else str(key)
    except Exception:  # noqa: BLE001 - a key that cannot be read is judged by its class
        return type(key).__name__
