"""States and reasons."""

from __future__ import annotations

import pytest

from asgi_obs.errors import ConfigurationError
from asgi_obs.health.state import Readiness, ReadinessReport, not_ready


def test_a_state_that_is_not_ready_has_its_reason() -> None:
    assert not_ready("loading the model", "starting") == Readiness("starting", "loading the model")


def test_a_reason_is_one_line() -> None:
    assert not_ready("no model\nhealthy", "starting").reason == "no model healthy"


@pytest.mark.parametrize("state", ["ready", "gone", None])
def test_not_ready_is_starting_or_draining(state) -> None:
    with pytest.raises(ConfigurationError, match="state="):
        not_ready("why", state)


@pytest.mark.parametrize("reason", ["", None, 3])
def test_a_reason_is_required(reason) -> None:
    with pytest.raises(ConfigurationError, match="reason="):
        not_ready(reason, "draining")


def test_what_has_a_reason_is_not_ready() -> None:
    assert ReadinessReport("healthy", {}, "ready", None).ready
    assert not ReadinessReport("unhealthy", {}, "ready", "unhealthy: database").ready
