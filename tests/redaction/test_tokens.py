from __future__ import annotations

import pytest

from asgi_obs.redaction.tokens import redact_tokens

from .corpus import BLOCKS, TOKENS

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc"


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_is_known_by_its_looks(token: str) -> None:
    assert redact_tokens(f"use {token}, please") == "use ******, please"
    assert token not in redact_tokens(f"https://h/{token}/x?a={token}")


@pytest.mark.parametrize("before", [r"\n", r"\t", r"\r\n", r"\x01", r"\u00e9", "%22", "%3D"])
@pytest.mark.parametrize("token", [*TOKENS[:12], JWT, "Bearer abc123", "Basic YW5uOmh1bnRlcjI="])
def test_a_token_begins_behind_an_escape(before: str, token: str) -> None:
    assert token.split()[-1] not in redact_tokens(f"a{before}{token}")


@pytest.mark.parametrize("block", BLOCKS)
def test_a_private_key_is_known_by_its_looks_however_it_is_written(block: str) -> None:
    assert redact_tokens(f"a {block} b") == "a ****** b"
    assert redact_tokens(f"a {block!r} b") == "a '******' b"
    assert redact_tokens(f"a {block[:200]}") == "a ******"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (f"/verify/{JWT}/x", "/verify/******/x"),
        (f"token_{JWT}.txt", "token_******"),
        (f"greyJay-on-a-branch.{JWT}", "greyJay-on-a-branch.******"),
        ("Bearer abc123", "Bearer ******"),
        ("?a=Bearer%20abc123&b", "?a=Bearer%20******&b"),
        ("Bearer+abc123", "Bearer+******"),
        ("bearer: aBcDef", "bearer: ******"),
        ("Bearer abcdefghijklmnopqrstuvwxyz==.", "Bearer ******."),
        ("Basic YW5uOmh1bnRlcjI=", "Basic ******"),
        ("basic YW5uOmh1bnRlcjI", "basic ******"),
        ('Digest username="ann", nonce=abc, response="x y" end', "Digest ****** end"),
        ("AWS4-HMAC-SHA256 Credential=a/b, Signature=c", "AWS4-HMAC-SHA256 ******"),
        ("AccountName=x;AccountKey=abcdefghijklmnopqrst==;a", "AccountName=x;AccountKey=******;a"),
        ("?sv=2020&sig=abcdefghijklmnop%3D&a", "?sv=2020&sig=******&a"),
        ("https://hooks.slack.com/services/T00/B00/abcdefghijklm", "https://hooks.slack.com/services/******"),
        ("https://discord.com/api/webhooks/12/abcdefghijklmnop", "https://discord.com/api/webhooks/12/******"),
    ],
)
def test_credentials_of_http_are_masked(text: str, redacted: str) -> None:
    assert redact_tokens(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "the bearer of bad news",
        "Bearer authentication is required",
        'Bearer realm="api1"',
        "Basic authentication is required",
        "Basic abcde",
        "Basic 9999 plan",
        "heyJude.mp3",
        "greyJay-on-a-branch.of.trees",
        "eyJhbGciOiJIUzI1NiJ9",
        "eyJhbGciOiJIUzI1NiJ9/x.y",
        "sk-fading-circle-item-container",
        "sk-a-very-long-kebab-name-2026-edition",
        "sig=ok",
        "-----BEGIN CERTIFICATE-----\nPRIVATE KEY\n-----END CERTIFICATE-----",
    ],
)
def test_innocent_words_stay(text: str) -> None:
    assert redact_tokens(text) == text
