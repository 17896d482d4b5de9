"""OpenTelemetry's own environment variables, where the SDK would go on without a word or stop with a riddle."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from math import inf
from typing import Final, TypeVar

from asgi_obs.errors import SettingsError

__all__ = ["choice_of", "choices_of", "first_set", "flag_of", "positive_of", "require_span_limits"]

_N = TypeVar("_N", int, float)

SPAN_LIMITS: Final = (
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
)
"""https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#span-limits"""


def first_set(*variables: str) -> tuple[str, str] | None:
    """The first of some variables that is not empty, and its value."""
    found = ((name, os.environ.get(name, "").strip()) for name in variables)
    return next((pair for pair in found if pair[1]), None)


def choice_of(*variables: str, allowed: Collection[str]) -> str:
    """The value of the first that is set, in lower case; default the first that is allowed.

    Raises:
        SettingsError: It is none of those allowed.
    """
    name, value = first_set(*variables) or ("", next(iter(allowed)))
    if value.lower() not in allowed:
        raise SettingsError(name, value, f"one of {', '.join(allowed)}")
    return value.lower()


def choices_of(variable: str, *, allowed: Collection[str]) -> tuple[str, ...]:
    """The values of a list with commas, each once and in lower case; default the first that is allowed.

    Raises:
        SettingsError: One is none of those allowed.
    """
    name, value = first_set(variable) or (variable, next(iter(allowed)))
    choices = tuple(dict.fromkeys(choice.strip().lower() for choice in value.split(",")))
    if not set(choices) <= set(allowed):
        raise SettingsError(name, value, f"one or more of {', '.join(allowed)}, separated by commas")
    return choices


def flag_of(*variables: str) -> bool | None:
    """Whether the first that is set is true; None if none is.

    Raises:
        SettingsError: It is neither true nor false.
    """
    return None if first_set(*variables) is None else choice_of(*variables, allowed=("false", "true")) == "true"


def positive_of(*variables: str, kind: Callable[[str], _N]) -> _N | None:
    """The number that the first that is set has; None if none is.

    Args:
        variables: Their names.
        kind: `int` or `float`.

    Raises:
        SettingsError: It is no positive number of this kind.
    """
    name, value = first_set(*variables) or ("", "")
    try:
        number = kind(value) if value else None
    except ValueError:
        number = kind("0")
    if number is None or 0 < number < inf:
        return number
    raise SettingsError(name, value, "a positive whole number" if kind is int else "a positive number")


def require_span_limits() -> None:
    """See to the limits of the SDK: it reads one of them when it is imported, and fails then.

    Raises:
        SettingsError: One of them is no limit.
    """
    for name in SPAN_LIMITS:
        value = os.environ.get(name, "unset")
        try:
            valid = value.strip().lower() == "unset" or int(value) >= 0
        except ValueError:
            valid = False
        if not valid:
            raise SettingsError(name, value, "a whole number from 0 on, or unset")
