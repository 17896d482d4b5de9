from __future__ import annotations

from typing import Any

import pytest

from asgi_obs.redaction.keys import Words, folded

WORDS = Words(["password", "token", "api_key", "apikey", "x-api-key", "session"])


def test_a_word_that_contains_another_is_no_word_of_its_own() -> None:
    assert WORDS.triggers == (r"api\.?key", "password", "session", "token")


@pytest.mark.parametrize("key", ["apiKey", "API KEY", "api.key", "x_api_key", "APIKEYS", b"Api-Key", ("a", "token")])
def test_separators_and_case_make_no_difference(key: Any) -> None:
    assert WORDS.is_sensitive(key)


@pytest.mark.parametrize(
    "key",
    [
        "tokens",
        "maxTokens",
        "total_tokens",
        "tokens-used",
        "tokensPerSecond",
        "token_count",
        "session_timeout",
        b"tokens",
    ],
)
def test_a_small_number_under_a_plural_or_a_measure_is_a_count(key: Any) -> None:
    assert WORDS.is_count(key, 512)
    assert WORDS.is_count(key, 1.5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("token", 5),
        ("session_id", 5),
        ("tokenset", 5),
        ("tokens", 10**7),
        ("tokens", "5"),
        ("tokens", True),
        ("tokens", None),
        ("tokens", float("nan")),
    ],
)
def test_anything_else_is_none(key: Any, value: Any) -> None:
    assert not WORDS.is_count(key, value)


def test_without_words_there_are_no_counts_of_them() -> None:
    assert not Words([]).is_count("max_tokens", 5)


@pytest.mark.parametrize(
    ("text", "expected"), [("TOKEN", "token"), ("\u017fECRET", "secret"), ("se\u017f\u017f\u0130\u0131", "sessii")]
)
def test_folding_removes_what_regular_expressions_do_not_see(text: str, expected: str) -> None:
    assert folded(text) == expected
