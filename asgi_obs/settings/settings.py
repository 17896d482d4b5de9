"""`Settings`: what may be set, what it means, and what is allowed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asgi_obs.errors import ConfigurationError, SettingsError
from asgi_obs.settings.environment import variable
from asgi_obs.settings.ops import OpsSettings
from asgi_obs.settings.parse import (
    flag,
    is_number,
    is_pattern,
    is_regex,
    is_whole,
    levels,
    names,
    octal,
    rates,
    trust,
    words,
)

__all__ = [
    "ALWAYS_SENSITIVE",
    "ENVIRONMENTS",
    "KNOWN_METHODS",
    "LOG_FORMATS",
    "LOG_LEVELS",
    "LOG_PROFILES",
    "TRACE_RESPONSE_HEADERS",
    "UNMATCHED",
    "Settings",
]

ENVIRONMENTS: Final = ("development", "testing", "staging", "production")
LOG_FORMATS: Final = ("json", "text")
LOG_PROFILES: Final = ("default", "ecs", "otel", "gcp")
LOG_OUTPUTS: Final = ("stdout", "file")
KNOWN_METHODS: Final = ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
"""RFC 9110, section 9, RFC 5789 and the QUERY method."""

TRACE_RESPONSE_HEADERS: Final = ("none", "server-timing", "traceresponse")
UNMATCHED: Final = ("group", "path")
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

_CHOICES: Final = {
    "environment": ENVIRONMENTS,
    "log_level": LOG_LEVELS,
    "log_format": LOG_FORMATS,
    "log_profile": LOG_PROFILES,
    "log_output": LOG_OUTPUTS,
    "metrics_unmatched": UNMATCHED,
    "trace_response_header": TRACE_RESPONSE_HEADERS,
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
_REGEXES: Final = "regular expressions, separated by commas"
_TRUST: Final = "true, false, or networks such as 10.0.0.0/8, separated by commas"
_FLAG: Final = "true or false"
_MODE: Final = "permissions in octal, from 0200 to 0777"
_LOGGER_LEVELS: Final = f"logger=LEVEL, comma-separated, with one of {', '.join(LOG_LEVELS)}"
_RATES: Final = "a rate from 0 to 1, or route=rate, comma-separated, with * for all other routes"


_TEXTS: Final[dict[str, tuple[Callable[[str], object], str]]] = {
    "log_levels": (levels, _LOGGER_LEVELS),
    "log_sample_rates": (rates, _RATES),
    "sensitive_fields": (names, ""),
    "sensitive_patterns": (words, ""),
    "otlp_insecure": (flag, _FLAG),
    "trust_incoming": (trust, _TRUST),
    "excluded_urls": (names, _REGEXES),
    "semconv_opt_in": (names, ""),
    "known_methods": (names, ""),
    "capture_request_headers": (names, _REGEXES),
    "capture_response_headers": (names, _REGEXES),
    "sanitize_headers": (names, _REGEXES),
    "ops_allowed_networks": (names, ""),
    "ops_endpoints": (names, ""),
    "probe_aliases": (flag, _FLAG),
}
"""Settings that may be given as the text of their variable."""


def _captured(what: str) -> tuple[str, ...]:
    return variable(f"OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_{what}", "", names, _REGEXES)


@dataclass(frozen=True, kw_only=True)
class Settings(OpsSettings):
    """What the environment says; `Settings()` reads it, and what is given by keyword wins.

    The settings of the ops surface are those of `OpsSettings`.

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
        metrics_unmatched: `METRICS_UNMATCHED`, the endpoint of requests that no route matched: `group` (default) puts
            them together as `__unmatched__`, `path` keeps the first 100 raw paths.
        otlp_endpoint: `OTLP_ENDPOINT`, where `setup_tracing` sends spans. Default `localhost:4317`. OpenTelemetry's own
            `OTEL_EXPORTER_OTLP_ENDPOINT` and its relatives win.
        otlp_insecure: `OTLP_INSECURE`, whether without TLS. Default true. `OTEL_EXPORTER_OTLP_INSECURE` wins.
        trust_incoming: `TRUST_INCOMING`, whose trace context is continued: of every caller (true, default), of none
            (false), or of those in some networks (`10.0.0.0/8,fd00::/8`).
        trace_response_header: `TRACE_RESPONSE_HEADER`, how a response tells its trace: `none` (default),
            `server-timing` or `traceresponse`.
        excluded_urls: `OTEL_PYTHON_EXCLUDED_URLS`, regular expressions; a request whose URL one of them is found in
            has no span.
        semconv_opt_in: `OTEL_SEMCONV_STABILITY_OPT_IN`, which HTTP conventions spans follow: `http` (the stable ones,
            default), `http/dup` (both) or `default` (the old ones). What it says of other signals is not ours.
        known_methods: `OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS`, the methods that spans tell by their names; all others
            are `_OTHER`. Default `KNOWN_METHODS`.
        capture_request_headers: `OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST`, regular expressions for the
            names of request headers that become attributes.
        capture_response_headers: `OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE`, likewise.
        sanitize_headers: `OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS`, regular expressions for the names
            of those whose values do not; sensitive ones never do.

    Raises:
        SettingsError: A value is not allowed; the message names the variable, the value and what is.
    """

    service_name: str = variable("SERVICE_NAME", "unknown_service", str)
    version: str = variable("VERSION", "unknown", str)
    environment: str = variable("ENVIRONMENT", "development", str)
    log_level: str = variable("LOG_LEVEL", "", str)
    log_levels: tuple[tuple[str, str], ...] = variable("LOG_LEVELS", "", levels, _LOGGER_LEVELS)
    log_format: str = variable("LOG_FORMAT", "json", str)
    log_profile: str = variable("LOG_PROFILE", "default", str)
    log_output: str = variable("LOG_OUTPUT", "stdout", str)
    log_file_path: str = variable("LOG_FILE_PATH", "", str)
    log_file_mode: int = variable("LOG_FILE_MODE", "0640", octal, _MODE)
    log_retention_days: int = variable("LOG_RETENTION_DAYS", "30", int, _WHOLE["log_retention_days"])
    log_queue_size: int = variable("LOG_QUEUE_SIZE", "0", int, _WHOLE["log_queue_size"])
    log_sample_rates: tuple[tuple[str, float], ...] = variable("LOG_SAMPLE_RATE", "1", rates, _RATES)
    log_slow_seconds: float = variable("LOG_SLOW_SECONDS", "1", float, _SECONDS)
    log_buffer_lines: int = variable("LOG_BUFFER_LINES", "0", int, _WHOLE["log_buffer_lines"])
    log_fold_seconds: float = variable("LOG_FOLD_SECONDS", "0", float, _SECONDS)
    audit_log_path: str = variable("AUDIT_LOG_PATH", "", str)
    sensitive_fields: tuple[str, ...] = variable("SENSITIVE_FIELDS", "password,token,secret", names)
    sensitive_patterns: tuple[str, ...] = variable("SENSITIVE_PATTERNS", "", words)
    redact: Callable[[str], str] | None = None
    google_cloud_project: str = variable("GOOGLE_CLOUD_PROJECT", "", str)
    metrics_unmatched: str = variable("METRICS_UNMATCHED", "group", str)
    otlp_endpoint: str = variable("OTLP_ENDPOINT", "localhost:4317", str)
    otlp_insecure: bool = variable("OTLP_INSECURE", "true", flag, _FLAG)
    trust_incoming: bool | tuple[str, ...] = variable("TRUST_INCOMING", "true", trust, _TRUST)
    trace_response_header: str = variable("TRACE_RESPONSE_HEADER", "none", str)
    excluded_urls: tuple[str, ...] = variable("OTEL_PYTHON_EXCLUDED_URLS", "", names, _REGEXES)
    semconv_opt_in: tuple[str, ...] = variable("OTEL_SEMCONV_STABILITY_OPT_IN", "", names)
    known_methods: tuple[str, ...] = variable("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", ",".join(KNOWN_METHODS), names)
    capture_request_headers: tuple[str, ...] = _captured("SERVER_REQUEST")
    capture_response_headers: tuple[str, ...] = _captured("SERVER_RESPONSE")
    sanitize_headers: tuple[str, ...] = _captured("SANITIZE_FIELDS")

    def __post_init__(self) -> None:
        default_level = "DEBUG" if self.environment.lower() == "development" else "INFO"
        for name in _CHOICES.keys() - {"log_level"}:
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
            self._require(name, is_whole(getattr(self, name), *bounds), _WHOLE[name])
        self._require("otlp_insecure", isinstance(self.otlp_insecure, bool), _FLAG)
        for name in ("log_slow_seconds", "log_fold_seconds"):
            self._require(name, is_number(getattr(self, name), _LONGEST), _SECONDS)
        self._require("log_levels", all(level in LOG_LEVELS for _, level in self.log_levels), _LOGGER_LEVELS)
        self._require("log_sample_rates", all(is_number(rate, 1) for _, rate in self.log_sample_rates), _RATES)
        self._require("log_file_path", bool(self.log_file_path) or self.log_output != "file", "a path to a file")
        self._require("log_file_mode", is_whole(self.log_file_mode, 0o200, 0o777), _MODE)
        same = self.log_output == "file" and Path(self.audit_log_path).absolute() == Path(self.log_file_path).absolute()
        self._require("audit_log_path", not self.audit_log_path or not same, "another file than LOG_FILE_PATH")
        self._require("sensitive_fields", all(isinstance(field, str) for field in self.sensitive_fields), "words")
        for name in ("excluded_urls", "capture_request_headers", "capture_response_headers", "sanitize_headers"):
            self._require(name, all(map(is_regex, getattr(self, name))), _REGEXES)
        for name in ("capture_request_headers", "capture_response_headers", "sanitize_headers"):
            self._require(name, is_regex("|".join(getattr(self, name))), f"{_REGEXES}, without flags")
        self._require("sensitive_patterns", all(map(is_pattern, self.sensitive_patterns)), _PATTERNS)
        if self.redact is not None and not (callable(self.redact) and isinstance(self.redact, Hashable)):
            raise ConfigurationError("redact", self.redact, "a function that takes a text and returns it redacted")
        self._check_ops()

    @property
    def stack_traces(self) -> bool:
        """Whether stack traces may be logged: not in production."""
        return self.environment != "production"

    @property
    def sensitive_keys(self) -> tuple[str, ...]:
        """All that a key may contain to be redacted: the configured fields and those that always are."""
        return (*self.sensitive_fields, *ALWAYS_SENSITIVE)
