"""What the options of several checks may be."""

from __future__ import annotations

import math

import pytest

from asgi_obs.errors import ConfigurationError
from asgi_obs.health.checks.options import is_number, require_address, require_seconds


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, True), (1, True), (0.5, True), (1.01, False), (-1, False), (math.nan, False), (True, False), ("1", False)],
)
def test_a_number_is_within_its_bounds(value, expected) -> None:
    assert is_number(value, 0, 1) is expected


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan, None, "1", True, [1]])
def test_a_time_to_wait_is_some_seconds(value) -> None:
    with pytest.raises(ConfigurationError, match=r"expected a number of seconds above 0"):
        require_seconds("timeout", value)


def test_seconds_may_have_a_fraction() -> None:
    assert require_seconds("timeout", 0.5) is None


@pytest.mark.parametrize(
    ("host", "port", "option"),
    [
        ("", 80, "host"),
        (None, 80, "host"),
        (b"localhost", 80, "host"),
        ("localhost", 0, "port"),
        ("localhost", 65_536, "port"),
        ("localhost", "80", "port"),
        ("localhost", 80.0, "port"),
        ("localhost", True, "port"),
    ],
)
def test_an_address_is_a_host_and_a_port(host, port, option) -> None:
    with pytest.raises(ConfigurationError) as raised:
        require_address(host, port)
    assert raised.value.option == option


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_a_host_is_a_name_or_an_address(host) -> None:
    assert require_address(host, 65_535) is None
