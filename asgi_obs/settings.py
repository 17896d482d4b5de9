"""Settings: every environment variable, validated, printable.

A variable is looked up in the environment first, then in a `.env` file of the working directory. What is wrong
is said at start-up: the variable, its value, and what is allowed.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from starlette.config import Config

from asgi_obs.errors import SettingsError

__all__ = ["ALWAYS_SENSITIVE", "ENVIRONMENTS", "LOG_FORMATS", "LOG_LEVELS", "Settings"]

ENVIRONMENTS: Final = ("development", "testing", "staging", "production")
LOG_FORMATS: Final = ("json", "text")
LOG_LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL")

ALWAYS_SENSITIVE: Final = (
    "authorization",
    "cookie",
    "set-cookie",
    "api_key",
    "apikey",
    "x-api-key",
    "private_key",
    "credential",
    "session",
)
"""Keys that are redacted whatever `SENSITIVE_FIELDS` says."""

_T = TypeVar("_T")


def _variable(name: str, default: str, parse: Callable[[str], _T]) -> _T:
    """A dataclass field that is read from an environment variable unless it is given."""

    def read() -> _T:
        env_file = Path(".env")
        config = Config(env_file if env_file.is_file() else None, environ=os.environ)
        return parse(config(name, default=default))

    declared: _T = field(default_factory=read, metadata={"variable": name})
    return declared


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the environment says; `Settings()` reads it, and what is given by keyword wins.

    Attributes:
        service_name: `SERVICE_NAME`, the service in log lines, metrics and spans. Default `unknown_service`.
        version: `VERSION`, of the service. Default `unknown`.
        environment: `ENVIRONMENT`, one of development (default), testing, staging, production. Stack traces
            stay out of the log in production.
        log_level: `LOG_LEVEL`, one of TRACE, DEBUG, INFO, WARN, ERROR, FATAL (WARNING and CRITICAL mean WARN
            and FATAL). Default DEBUG in development, INFO elsewhere.
        log_format: `LOG_FORMAT`, `json` (default) or `text`.
        sensitive_fields: `SENSITIVE_FIELDS`, comma-separated; a key that contains one of them is redacted.
            Default password, token, secret. The keys of `ALWAYS_SENSITIVE` are redacted in any case.

    Raises:
        SettingsError: A value is not allowed; the message names the variable, the value and what is.
    """

    service_name: str = _variable("SERVICE_NAME", "unknown_service", str.strip)
    version: str = _variable("VERSION", "unknown", str.strip)
    environment: str = _variable("ENVIRONMENT", "development", str.strip)
    log_level: str = _variable("LOG_LEVEL", "", str.strip)
    log_format: str = _variable("LOG_FORMAT", "json", str.strip)
    sensitive_fields: tuple[str, ...] = _variable("SENSITIVE_FIELDS", "password,token,secret", _names)

    def __post_init__(self) -> None:
        default_level = "DEBUG" if self.environment.lower() == "development" else "INFO"
        self._set("environment", self.environment.lower())
        self._set("log_format", self.log_format.lower())
        self._set("log_level", self.log_level.upper() or default_level)
        if isinstance(self.sensitive_fields, str):
            self._set("sensitive_fields", _names(self.sensitive_fields))
        self._require("service_name", bool(self.service_name), "a name")
        self._require("environment", self.environment in ENVIRONMENTS, f"one of {', '.join(ENVIRONMENTS)}")
        self._require("log_level", self.log_level in LOG_LEVELS, f"one of {', '.join(LOG_LEVELS)}")
        self._require("log_format", self.log_format in LOG_FORMATS, f"one of {', '.join(LOG_FORMATS)}")

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # the way a frozen dataclass sets its own fields

    def _require(self, name: str, valid: bool, allowed: str) -> None:  # noqa: FBT001 - a predicate, not a switch
        if not valid:
            raise SettingsError(self.variables()[name], getattr(self, name), allowed)

    @property
    def stack_traces(self) -> bool:
        """Whether stack traces may be logged: not in production."""
        return self.environment != "production"

    @property
    def sensitive_keys(self) -> tuple[str, ...]:
        """All that a key may contain to be redacted: the configured fields and those that always are."""
        return (*self.sensitive_fields, *ALWAYS_SENSITIVE)

    @classmethod
    def variables(cls) -> dict[str, str]:
        """The environment variable of every setting."""
        return {f.name: f.metadata["variable"] for f in dataclasses.fields(cls)}

    def __str__(self) -> str:
        """One `VARIABLE=value` per line."""
        return "\n".join(f"{variable}={_text(getattr(self, name))}" for name, variable in self.variables().items())


def _text(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)
