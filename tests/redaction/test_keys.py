from __future__ import annotations

from typing import Any

import pytest

from asgi_obs.redaction.keys import Words, folded, is_about

WORDS = Words(["password", "token", "api_key", "apikey", "x-api-key", "session"])


def test_a_word_that_contains_another_is_no_word_of_its_own() -> None:
    words = Words(["token", "api_key", "apikey", "x-api-key", "session", "sessions"])

    assert [word for word in words.triggers if "acc" not in word] == [r"api\.?key", "session", "token"]


@pytest.mark.parametrize(
    "key",
    [
        *("pwd", "userPwd", "PASSWD", "passphrase", "pass", "PASS", "db_pass", "dbPass", "DBPass", "dbpass", "--pass"),
        *("user[pass]", b"smtp.pass", "AccountKey", "shared_access_key"),
    ],
)
def test_other_names_of_a_word_are_sensitive_with_it(key: Any) -> None:
    assert WORDS.is_sensitive(key)
    assert not Words(["token"]).is_sensitive(key)


@pytest.mark.parametrize(
    "key",
    [
        *(
            "passenger",
            "compass",
            "bypass",
            "pass_rate",
            "passRate",
            "pass-through",
            "pass.count",
            "passed",
            "passport",
        ),
        *("design", "sig", "signature_algorithm", "pass rate", "account", "access_key_id"),
    ],
)
def test_words_that_only_look_like_them_are_not(key: str) -> None:
    assert not WORDS.is_sensitive(key)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [("pass", 999, True), ("Pass", 0.5, True), ("pass", 1000, False), ("db_pass", 5, False), ("pass", "5", False)],
)
def test_a_number_under_pass_that_is_no_pin_is_a_count(key: str, value: Any, expected: bool) -> None:
    assert WORDS.is_count(key, value) is expected


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
        ("tokens", {}),
        ("tokens", {"pin": 1234}),
        ("tokens", {"cached_tokens": "5"}),
        ("tokens", {5: 5}),
    ],
)
def test_anything_else_is_none(key: Any, value: Any) -> None:
    assert not WORDS.is_count(key, value)


def test_a_dictionary_of_counts_is_a_count() -> None:
    assert WORDS.is_count("prompt_tokens_details", {"cached_tokens": 0, "audio_tokens": 5})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("token_type", True),
        ("tokenEndpoint", True),
        ("token-url", True),
        ("password_changed_at", True),
        ("password.hash.algorithm", True),
        ("token", False),
        ("session_id", False),
        ("token_hash", False),
        ("type_token", False),
        ("tokentype", False),
    ],
)
def test_what_a_name_ends_with_tells_whether_it_is_about_a_secret(name: str, expected: bool) -> None:
    assert is_about(name) is expected


def test_without_words_there_are_no_counts_of_them() -> None:
    assert not Words([]).is_count("max_tokens", 5)


@pytest.mark.parametrize(
    ("text", "expected"), [("TOKEN", "token"), ("\u017fECRET", "secret"), ("se\u017f\u017f\u0130\u0131", "sessii")]
)
def test_folding_removes_what_regular_expressions_do_not_see(text: str, expected: str) -> None:
    assert folded(text) == expected
