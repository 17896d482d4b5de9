"""The options of a check."""

from __future__ import annotations

import pytest

from asgi_obs.errors import ConfigurationError
from asgi_obs.health.options import CheckOptions

INFINITE = float("inf")
NAN = float("nan")


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("critical", [1, None, "yes"]),
        ("readiness", [0, "no"]),
        ("liveness", ["True"]),
        ("timeout", [0, -1, INFINITE, NAN, True, "5", None]),
        ("ttl", [-0.1, INFINITE, NAN, False, "5", None]),
        ("period", [0, -1, INFINITE, NAN, True, "5"]),
        ("failures", [0, -1, 1.0, True, "2", None]),
        ("successes", [0, 2.5, False]),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(option, values) -> None:
    for value in values:
        with pytest.raises(ConfigurationError, match=f"^{option}="):
            CheckOptions(**{option: value})


@pytest.mark.parametrize(
    ("option", "options"),
    [
        ("initial", {"initial": "healthy"}),
        ("initial", {"initial": "fine", "period": 1.0}),
        ("period", {"period": 1.0, "liveness": True}),
        ("ttl", {"period": 1.0, "ttl": 1.0}),
    ],
)
def test_options_that_contradict_each_other_are_refused(option, options) -> None:
    with pytest.raises(ConfigurationError, match=f"^{option}="):
        CheckOptions(**options)


@pytest.mark.parametrize("initial", [None, "healthy", "degraded", "unhealthy"])
def test_a_check_with_a_period_begins_as_it_is_told(initial) -> None:
    assert CheckOptions(period=15, initial=initial).initial == initial
