"""The error tree, and what happens to an error that must not reach a request.

    AsgiObsError
    ├── ConfigurationError (ValueError)     a wrong option of a class or function
    │   └── SettingsError                   a wrong environment variable
    └── MissingExtraError (ImportError)     an optional dependency is not installed

All of them are raised at start-up. While requests are served nothing of ours is raised: a failing hook,
callback, check or sink goes to `report`, which counts it and says so in the log at most once a minute.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress

__all__ = [
    "AsgiObsError",
    "ConfigurationError",
    "MissingExtraError",
    "SettingsError",
    "on_report",
    "report",
    "report_call",
]

REPORT_INTERVAL = 60.0
"""Seconds between two log lines about the same place."""

_log = logging.getLogger("asgi_obs")
_last_logged: dict[str, float] = {}
_listeners: list[Callable[[str], None]] = []


class AsgiObsError(Exception):
    """The base of every error this library raises."""


class ConfigurationError(AsgiObsError, ValueError):
    """An option has a value it cannot have.

    Args:
        option: The name of the option, as the caller wrote it.
        value: The value that was given.
        allowed: What would have been accepted, in words.
    """

    def __init__(self, option: str, value: object, allowed: str) -> None:
        self.option = option
        self.value = value
        self.allowed = allowed
        super().__init__(option, value, allowed)

    def __str__(self) -> str:
        return f"{self.option}={self.value!r} is not valid: expected {self.allowed}"


class SettingsError(ConfigurationError):
    """An environment variable has a value it cannot have; the message names all three."""


class MissingExtraError(AsgiObsError, ImportError):
    """A feature was asked for whose optional dependency is not installed.

    Args:
        feature: What was asked for.
        extra: The extra of `asgi-obs` that brings it.
    """

    def __init__(self, feature: str, extra: str) -> None:
        self.feature = feature
        self.extra = extra
        super().__init__(feature, extra)

    def __str__(self) -> str:
        return f"{self.feature} needs an optional dependency: pip install 'asgi-obs[{self.extra}]'"


def on_report(listener: Callable[[str], None]) -> None:
    """Call `listener(component)` for every error that is reported from now on."""
    _listeners.append(listener)


def report(component: str, error: BaseException) -> None:
    """Count an error that must not reach the request, and log it at most once a minute per component.

    Args:
        component: The place that failed, such as `MetricsMiddleware.on_end`; from a bounded set.
        error: What it raised.
    """
    for listener in _listeners:
        with suppress(Exception):  # there is nobody left to tell
            listener(component)
    now = time.monotonic()
    if now - _last_logged.get(component, -REPORT_INTERVAL) >= REPORT_INTERVAL:
        _last_logged[component] = now
        with suppress(Exception):  # as above: a filter may raise
            _log.error(
                "%s failed; requests are not affected",
                component,
                exc_info=(type(error), error, error.__traceback__),
            )


def report_call(function: Callable[..., object], error: BaseException) -> None:
    """Report an error of a function of somebody else, by its name."""
    report(getattr(function, "__qualname__", type(function).__name__), error)
