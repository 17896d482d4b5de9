"""How late the event loop is."""

from __future__ import annotations

import pytest

from asgi_obs.errors import ConfigurationError
from asgi_obs.health import CheckResult
from asgi_obs.health.checks import EventLoopLagCheck


@pytest.mark.parametrize(
    ("lag", "expected"),
    [
        (None, CheckResult.healthy("not measured")),
        (0.1, CheckResult.healthy("up to 100 ms late")),
        (0.101, CheckResult.degraded("up to 101 ms late")),
        (1.0, CheckResult.degraded("up to 1000 ms late")),
        (1.5, CheckResult.unhealthy("up to 1500 ms late")),
    ],
)
def test_it_compares_the_lag_with_the_thresholds(lag, expected) -> None:
    assert EventLoopLagCheck(measure=lambda: lag)() == expected


def test_by_default_it_asks_what_is_measured_for_the_metrics() -> None:
    assert EventLoopLagCheck(degraded=3600, unhealthy=3600)().status == "healthy"


@pytest.mark.parametrize(
    ("options", "wrong"),
    [({"degraded": -1}, "degraded"), ({"unhealthy": 0.05}, "unhealthy"), ({"measure": 0.1}, "measure")],
)
def test_wrong_options_are_refused(options, wrong) -> None:
    with pytest.raises(ConfigurationError) as raised:
        EventLoopLagCheck(**options)
    assert raised.value.option == wrong
