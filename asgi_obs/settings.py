"""Settings: every environment variable, validated, printable.

A variable is looked up in the environment first, then in a `.env` file of the working directory. What is wrong
is said at start-up: the variable, its value, and what is allowed.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from starlette.config import Config

from asgi_obs.errors import ConfigurationError, SettingsError

__all__ = ["ALWAYS_SENSITIVE", "ENVIRONMENTS", "LOG_FORMATS", "LOG_LEVELS", "Settings"]

ENVIRONMENTS: Final = ("development", "testing", "staging", "production")
LOG_FORMATS: Final = ("json", "text")
LOG_PROFILES: Final = ("default", "ecs", "otel", "gcp")
LOG_OUTPUTS: Final = ("stdout", "file")
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

_MAY_BE_EMPTY: Final = frozenset({"SENSITIVE_FIELDS"})
"""Variables that mean something when they are empty; others have their default then, for compose files set them so."""

_COMMENT: Final = re.compile(r"(?:^|\s)#")

_CHOICES: Final = {
    "environment": ENVIRONMENTS,
    "log_level": LOG_LEVELS,
    "log_format": LOG_FORMATS,
    "log_profile": LOG_PROFILES,
    "log_output": LOG_OUTPUTS,
}
_WHOLE_NUMBERS: Final = {
    "log_retention_days": (1, 36_500),
    "log_queue_size": (0, 1_000_000),
    "log_buffer_lines": (0, 1_000_000),
}
_WHOLE: Final = {name: f"a whole number from {least} to {most}" for name, (least, most) in _WHOLE_NUMBERS.items()}
_LONGEST: Final = 86_400
_SECONDS: Final = f"a number of seconds from 0 to {_LONGEST}"
_PATTERNS: Final = "regular expressions that do not match nothing, separated by white space"
_MODE: Final = "permissions in octal, from 0200 to 0777"
_LOGGER_LEVELS: Final = f"logger=LEVEL, comma-separated, with one of {', '.join(LOG_LEVELS)}"
_RATES: Final = "a rate from 0 to 1, or route=rate, comma-separated, with * for all other routes"


def _variable(name: str, default: str, parse: Callable[[str], _T], allowed: str = "") -> _T:
    """A dataclass field that is read from an environment variable unless it is given."""

    def read() -> _T:
        text: str = Config(environ={**_env_file(), **os.environ})(name, default=default).strip()
        try:
            return parse(text or (default if name not in _MAY_BE_EMPTY else ""))
        except ValueError:
            raise SettingsError(name, text, allowed) from None

    declared: _T = field(default_factory=read, metadata={"variable": name})
    return declared


def _env_file() -> dict[str, str]:
    """What a `.env` file in the working directory says. Starlette's own reader takes comments for values."""
    path = Path(".env")
    if not path.is_file():
        return {}
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise SettingsError(str(path), str(error), "a text in UTF-8") from None
    pairs = (line.removeprefix("export ").partition("=") for line in map(str.strip, lines) if not line.startswith("#"))
    return {name.strip(): _unquoted(value.strip()) for name, equals, value in pairs if equals}


def _unquoted(value: str) -> str:
    """A value without its quotes, or without the comment behind it."""
    if value[:1] in {"'", '"'} and value.find(value[0], 1) > 0:
        return value[1 : value.index(value[0], 1)]
    return _COMMENT.split(value, maxsplit=1)[0]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    pairs = []
    for entry in _names(text):
        name, equals, value = entry.rpartition("=")
        if not equals or not name.strip():
            raise ValueError(entry)
        pairs.append((name.strip(), value.strip()))
    return tuple(pairs)


def _levels(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, level.upper()) for name, level in _pairs(text))


def _rates(text: str) -> tuple[tuple[str, float], ...]:
    return tuple((route, float(rate)) for route, rate in (_pairs(text) if "=" in text else (("*", text),)))


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value: object, most: float) -> bool:
    return isinstance(value, (int, float)) and 0 <= value <= most


def _is_pattern(pattern: object) -> bool:
    """Whether it is a regular expression that matches something."""
    try:
        return isinstance(pattern, str) and re.compile(pattern).search("") is None
    except re.error:
        return False


def _octal(text: str) -> int:
    return int(text, 8)


_TEXTS: Final[dict[str, tuple[Callable[[str], object], str]]] = {
    "log_levels": (_levels, _LOGGER_LEVELS),
    "log_sample_rates": (_rates, _RATES),
    "sensitive_fields": (_names, ""),
    "sensitive_patterns": (_words, ""),
}
"""Settings that may be given as the text of their variable."""


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
        log_levels: `LOG_LEVELS`, of single loggers and those below them: `sqlalchemy.engine=WARN,httpx=INFO`.
        log_format: `LOG_FORMAT`, `json` (default) or `text`.
        log_profile: `LOG_PROFILE`, the schema of the JSON: `default`, `ecs` (Elastic Common Schema), `otel`
            (OpenTelemetry's log data model) or `gcp` (Google Cloud Logging).
        log_output: `LOG_OUTPUT`, `stdout` (default) or `file`.
        log_file_path: `LOG_FILE_PATH`, the file of `LOG_OUTPUT=file`.
        log_file_mode: `LOG_FILE_MODE`, the permissions of log files that are created, in octal. Default 0640.
        log_retention_days: `LOG_RETENTION_DAYS`, how long rotated files are kept. Default 30.
        log_queue_size: `LOG_QUEUE_SIZE`, lines that may wait for a background writer; more are dropped and
            counted. 0 (default): every line is written before the call that logs it returns.
        log_sample_rates: `LOG_SAMPLE_RATE`, the share of successful requests that get a line: a number, or
            one for each route (`/items/{item_id}=0.01,*=0.5`). Default 1.
        log_slow_seconds: `LOG_SLOW_SECONDS`: requests that take longer get their line in any case. Default 1.
        log_buffer_lines: `LOG_BUFFER_LINES`, how many DEBUG lines of a request are kept in memory, and
            written only if it ends in an error. 0 (default): none.
        log_fold_seconds: `LOG_FOLD_SECONDS`: a message that is repeated within this time is written once more,
            with the count. 0 (default): every one is written.
        audit_log_path: `AUDIT_LOG_PATH`, a file of its own for the audit log.
        sensitive_fields: `SENSITIVE_FIELDS`, comma-separated; a key that contains one of them is redacted.
            Default password, token, secret. The keys of `ALWAYS_SENSITIVE` are redacted in any case.
        sensitive_patterns: `SENSITIVE_PATTERNS`, regular expressions, separated by white space; what they match
            in any text is redacted.
        redact: No variable. A function that redacts a text, called last, for every text that is logged.
        google_cloud_project: `GOOGLE_CLOUD_PROJECT`, whose traces the lines of profile `gcp` link to.

    Raises:
        SettingsError: A value is not allowed; the message names the variable, the value and what is.
    """

    service_name: str = _variable("SERVICE_NAME", "unknown_service", str)
    version: str = _variable("VERSION", "unknown", str)
    environment: str = _variable("ENVIRONMENT", "development", str)
    log_level: str = _variable("LOG_LEVEL", "", str)
    log_levels: tuple[tuple[str, str], ...] = _variable("LOG_LEVELS", "", _levels, _LOGGER_LEVELS)
    log_format: str = _variable("LOG_FORMAT", "json", str)
    log_profile: str = _variable("LOG_PROFILE", "default", str)
    log_output: str = _variable("LOG_OUTPUT", "stdout", str)
    log_file_path: str = _variable("LOG_FILE_PATH", "", str)
    log_file_mode: int = _variable("LOG_FILE_MODE", "0640", _octal, _MODE)
    log_retention_days: int = _variable("LOG_RETENTION_DAYS", "30", int, _WHOLE["log_retention_days"])
    log_queue_size: int = _variable("LOG_QUEUE_SIZE", "0", int, _WHOLE["log_queue_size"])
    log_sample_rates: tuple[tuple[str, float], ...] = _variable("LOG_SAMPLE_RATE", "1", _rates, _RATES)
    log_slow_seconds: float = _variable("LOG_SLOW_SECONDS", "1", float, _SECONDS)
    log_buffer_lines: int = _variable("LOG_BUFFER_LINES", "0", int, _WHOLE["log_buffer_lines"])
    log_fold_seconds: float = _variable("LOG_FOLD_SECONDS", "0", float, _SECONDS)
    audit_log_path: str = _variable("AUDIT_LOG_PATH", "", str)
    sensitive_fields: tuple[str, ...] = _variable("SENSITIVE_FIELDS", "password,token,secret", _names)
    sensitive_patterns: tuple[str, ...] = _variable("SENSITIVE_PATTERNS", "", _words)
    redact: Callable[[str], str] | None = None
    google_cloud_project: str = _variable("GOOGLE_CLOUD_PROJECT", "", str)

    def __post_init__(self) -> None:
        default_level = "DEBUG" if self.environment.lower() == "development" else "INFO"
        for name in ("environment", "log_format", "log_profile", "log_output"):
            self._set(name, getattr(self, name).lower())
        self._set("log_level", self.log_level.upper() or default_level)
        for name, (parse, allowed) in _TEXTS.items():
            given = getattr(self, name)
            if isinstance(given, str):
                try:
                    self._set(name, parse(given))
                except ValueError:
                    raise SettingsError(self.variables()[name], given, allowed) from None
            elif isinstance(given, list):
                self._set(name, tuple(given))
        self._require("service_name", bool(self.service_name), "a name")
        for name, choices in _CHOICES.items():
            self._require(name, getattr(self, name) in choices, f"one of {', '.join(choices)}")
        for name, bounds in _WHOLE_NUMBERS.items():
            self._require(name, _is_whole(getattr(self, name), *bounds), _WHOLE[name])
        for name in ("log_slow_seconds", "log_fold_seconds"):
            self._require(name, _is_number(getattr(self, name), _LONGEST), _SECONDS)
        self._require("log_levels", all(level in LOG_LEVELS for _, level in self.log_levels), _LOGGER_LEVELS)
        self._require("log_sample_rates", all(_is_number(rate, 1) for _, rate in self.log_sample_rates), _RATES)
        self._require("log_file_path", bool(self.log_file_path) or self.log_output != "file", "a path to a file")
        self._require("log_file_mode", _is_whole(self.log_file_mode, 0o200, 0o777), _MODE)
        same = self.log_output == "file" and Path(self.audit_log_path).absolute() == Path(self.log_file_path).absolute()
        self._require("audit_log_path", not self.audit_log_path or not same, "another file than LOG_FILE_PATH")
        self._require("sensitive_fields", all(isinstance(field, str) for field in self.sensitive_fields), "words")
        self._require("sensitive_patterns", all(map(_is_pattern, self.sensitive_patterns)), _PATTERNS)
        if self.redact is not None and not (callable(self.redact) and isinstance(self.redact, Hashable)):
            raise ConfigurationError("redact", self.redact, "a function that takes a text and returns it redacted")

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # the way a frozen dataclass sets its own fields

    def _require(self, name: str, valid: bool, allowed: str) -> None:  # noqa: FBT001 - a predicate, not a switch
        if not valid:
            value = getattr(self, name)
            shown = _text(name, value) if name == "log_file_mode" or isinstance(value, tuple) else value
            raise SettingsError(self.variables()[name], shown, allowed)

    @property
    def stack_traces(self) -> bool:
        """Whether stack traces may be logged: not in production."""
        return self.environment != "production"

    @property
    def sensitive_keys(self) -> tuple[str, ...]:
        """All that a key may contain to be redacted: the configured fields and those that always are."""
        return (*self.sensitive_fields, *ALWAYS_SENSITIVE)

    @classmethod
    def read(cls, name: str) -> Any:
        """What the environment says of one setting, whatever is wrong with the others."""
        read: Callable[[], Any] = cls.__dataclass_fields__[name].default_factory  # type: ignore[assignment]
        return read()

    @classmethod
    def variables(cls) -> dict[str, str]:
        """The environment variable of every setting that has one."""
        return {f.name: f.metadata["variable"] for f in dataclasses.fields(cls) if f.metadata}

    def __str__(self) -> str:
        """One `VARIABLE=value` per line."""
        return "\n".join(
            f"{variable}={_text(name, getattr(self, name))}" for name, variable in self.variables().items()
        )


def _text(name: str, value: Any) -> str:
    """A value as its variable would have it."""
    if name == "log_file_mode" and isinstance(value, int):
        return f"{value:04o}"
    if name == "sensitive_patterns":
        return " ".join(map(str, value))
    if isinstance(value, tuple):
        return ",".join(f"{item[0]}={item[1]}" if isinstance(item, tuple) else str(item) for item in value)
    return str(value)
