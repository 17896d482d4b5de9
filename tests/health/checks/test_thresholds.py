"""Two thresholds."""

from __future__ import annotations

import pytest

from asgi_obs.errors import ConfigurationError
from asgi_obs.health import CheckResult
from asgi_obs.health.checks.thresholds import graded, require_ascending


@pytest.mark.parametrize(
    ("first", "second", "option", "allowed"),
    [
        (-0.1, 0.5, "first", "a number from 0 to 1"),
        (1.1, 1.2, "first", "a number from 0 to 1"),
        (0.5, 0.4, "second", "a number from 0.5 to 1"),
        (0.5, "1", "second", "a number from 0.5 to 1"),
    ],
)
def test_thresholds_ascend(first, second, option, allowed) -> None:
    with pytest.raises(ConfigurationError) as raised:
        require_ascending(1, first=first, second=second)
    assert (raised.value.option, raised.value.allowed) == (option, allowed)


def test_thresholds_may_be_the_same() -> None:
    assert require_ascending(1, first=0.5, second=0.5) is None


@pytest.mark.parametrize(
    ("degraded", "unhealthy", "status"),
    [
        (False, False, "healthy"),
        (True, False, "degraded"),
        (True, True, "unhealthy"),
        (False, True, "unhealthy"),
    ],
)
def test_the_worst_threshold_that_was_passed_counts(degraded, unhealthy, status) -> None:
    assert graded("so much", degraded=degraded, unhealthy=unhealthy) == CheckResult(status, "so much")
