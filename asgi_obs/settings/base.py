"""What all settings have in common: they are checked, they know their variables, and they can be printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final

from asgi_obs.errors import SettingsError

__all__ = ["CheckedSettings"]

MASK: Final = "***"
"""What is shown of a secret."""


class CheckedSettings:
    """The base of frozen dataclasses whose fields are variables."""

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # the way a frozen dataclass sets its own fields

    def _require(self, name: str, valid: bool, allowed: str) -> None:  # noqa: FBT001 - a predicate, not a switch
        if not valid:
            value = getattr(self, name)
            shown: object = _text(name, value) if name == "log_file_mode" or isinstance(value, tuple) else value
            raise SettingsError(self.variables()[name], MASK if name in self._secrets() else shown, allowed)

    @classmethod
    def _fields(cls) -> tuple[dataclasses.Field[Any], ...]:
        return tuple(field for field in dataclasses.fields(cls) if field.metadata)  # type: ignore[arg-type]

    @classmethod
    def _secrets(cls) -> frozenset[str]:
        return frozenset(field.name for field in cls._fields() if not field.repr)

    @classmethod
    def read(cls, name: str) -> Any:
        """What the environment says of one setting, whatever is wrong with the others."""
        defaults: dict[str, Callable[[], Any]] = {field.name: field.default_factory for field in cls._fields()}  # type: ignore[misc]
        return defaults[name]()

    @classmethod
    def variables(cls) -> dict[str, str]:
        """The environment variable of every setting that has one."""
        return {field.name: field.metadata["variable"] for field in cls._fields()}

    def __str__(self) -> str:
        """One `VARIABLE=value` per line; a secret only says whether it is set."""
        shown = {name: _text(name, getattr(self, name)) for name in self.variables()}
        masked = {name: MASK if text and name in self._secrets() else text for name, text in shown.items()}
        return "\n".join(f"{variable}={masked[name]}" for name, variable in self.variables().items())


def _text(name: str, value: Any) -> str:
    """A value as its variable would have it."""
    if name == "log_file_mode" and isinstance(value, int):
        return f"{value:04o}"
    if name == "sensitive_patterns":
        return " ".join(map(str, value))
    if isinstance(value, tuple):
        return ",".join(f"{item[0]}={item[1]}" if isinstance(item, tuple) else str(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
