from __future__ import annotations

import logging
from typing import Any

import pytest

from asgi_obs.logs.profiles.base import standard_level


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [
        ("ERROR", 40, "ERROR"),
        ("ERROR", 1, "ERROR"),
        ("SUCCESS", 25, "INFO"),
        ("Level 1", 1, "TRACE"),
        ("Level 99", 99, "FATAL"),
        ("odd", None, "INFO"),
        (["unhashable"], "odd", "INFO"),
    ],
)
def test_a_level_that_others_made_up_counts_as_the_next_lower(name: Any, number: Any, expected: str) -> None:
    assert standard_level(name, logging.makeLogRecord({"levelno": number})) == expected
