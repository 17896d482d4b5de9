from __future__ import annotations

import re

import pytest

from asgi_obs.redaction.mask import mask_behind

SIGN = re.compile("([ab])=")


def _end(text: str, start: int) -> int:
    return start + 3


@pytest.mark.parametrize(("text", "masked"), [("a=123 b=456 a=789", "a=****** b=456 a=******"), ("x", "x"), ("", "")])
def test_what_is_behind_a_sign_that_meets_the_condition_is_masked(text: str, masked: str) -> None:
    assert mask_behind(text, SIGN, _end, lambda found: found[1] == "a") == masked


def test_quotes_and_brackets_with_nothing_in_them_stay() -> None:
    assert mask_behind("a=()", SIGN, lambda text, start: len(text)) == "a=()"
