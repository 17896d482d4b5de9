from __future__ import annotations

import pytest

from asgi_obs.redaction.prefilter import prefilter

MAY_HOLD = prefilter(["token", r"api\.?key", "://", "gh[ps][a-z0-9]{3}", "4[0-9]{3}", r"\[raw\]", "sig=", "пароль"])


@pytest.mark.parametrize(
    "text",
    [
        "a token",
        "T-o_k EN",
        "api key",
        "Api.Key",
        "http://h",
        "ghp_abc",
        "4-1 1_1",
        "[RAW]",
        "sig=",
        "ПАРОЛЬ",
        "é to\u200bken token",
        "\ud800token",
        "to\u212aEN",
    ],
)
def test_a_text_with_a_trigger_is_suspicious(text: str) -> None:
    assert MAY_HOLD(text)


@pytest.mark.parametrize(
    "text", ["", "tok", "to.ken", "api..key", ":/", "ghx_abc", "411", "[r aw", "sig", "пароль"[1:], "\ud800"]
)
def test_any_other_is_not(text: str) -> None:
    assert not MAY_HOLD(text)
