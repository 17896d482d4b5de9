"""Bytes as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_obs.health.checks.sizes import size_text


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.977 KiB"),
        (1024, "1 KiB"),
        (999.6 * 1024, "0.976 MiB"),
        (1.25 * 2**30, "1.25 GiB"),
        (50 * 2**30, "50 GiB"),
        (2**63 - 1, "8 EiB"),
    ],
)
def test_a_size_has_three_digits_and_a_unit(size, expected) -> None:
    assert size_text(size) == expected


@given(st.integers(0, 999 * 2**60))
def test_no_size_needs_an_exponent(size) -> None:
    assert "e" not in size_text(size)
