from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_obs import errors
from asgi_obs.redaction import text as texts
from asgi_obs.redaction.keys import Words
from asgi_obs.redaction.mask import MASK
from asgi_obs.redaction.text import TextRules
from asgi_obs.settings import Settings

from .corpus import SECRETS
from .innocents import INNOCENT_TEXTS

WORDS = Words(Settings(sensitive_fields=("password", "token", "secret")).sensitive_keys)
RULES = TextRules(WORDS, (), None)

_SIGNS = (
    "=",
    ": ",
    '"',
    "'",
    "\\",
    '\\"',
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "<",
    ">",
    "/",
    "&",
    ";",
    ",",
    "@",
    "\n",
    "%3D",
    "%6b",
    "%",
    "+",
    "=",
)
_WORDS = (
    "password",
    "Api-Key",
    "TOKEN",
    "se\u017f\u017f\u0131on",
    "\u212aey",
    "cook\u0130e",
    "s",
    "_",
    "-",
    " ",
    ".",
    "--",
)
_LOOKS = ("://", "u:p@h", "?a=", "eyJ", "Bearer ", "Basic ", "sk-", "[parameters: ", "identified by ", "4111", "é", "1")
_PRINTED = (
    *("pass", "Pass", "PASS ", "AUTH ", "-pass ", "db", "pwd", "mysql ", " -p", "sig=", "&", "> ", "`", "accountkey"),
    *("\x1b[", "\x1b[1m", "\\x1b[0m", "\\n", "input_value=", "'loc': ('", "'input': '", "<Cookie a", "Cookie(value='"),
    *("%3A%2F%2Fu", "%40h", "4111+1111+", "4111%201111%20", "Row ('", "LINE 1: ...a) VALUES (", "set (", ") = ('"),
    *("Key (a", ")=(", ") already exists", "ailing row contains (a) = (", "The duplicate key value is (", ").\n"),
    *(
        "Duplicate entry '",
        "' for key 'a'",
        'invalid input syntax for a: "',
        'malformed a literal: "',
        '\\"',
        "\nLINE 1: '",
    ),
    *(
        'date out of range: "',
        '" is out of range for type a',
        "incorrect date value: '",
        "' for column ",
        "the char value '",
    ),
    *('COPY a, line 1: "', "JSON data, line 1: ", "invalid input syntax for type json\nDETAIL: ", "invalid UUID '"),
    *("invalid input for query argument $1: ", "Truncated value: '", "'. ", "' to data type "),
    *(" or '", " | None = '", " IN ('", "::text = '", "...", "\n  ", "_type", "s_details", "name: ", "value="),
)
FRAGMENTS = st.sampled_from((*_SIGNS, *_WORDS, *_LOOKS, *_PRINTED, *SECRETS, *INNOCENT_TEXTS))
FRAGMENTED = st.lists(FRAGMENTS | st.text(max_size=3), max_size=8).map("".join)


@given(FRAGMENTED)
@example("\u212aey-1234")
def test_what_is_passed_unseen_no_rule_would_change(text: str) -> None:
    assert RULES.is_suspicious(text) or RULES.apply(text) == text


@given(FRAGMENTED)
def test_what_was_redacted_is_not_changed_again(text: str) -> None:
    redacted = RULES.redact(text)

    assert isinstance(redacted, str)
    assert RULES.redact_query(text) is not None


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_between_quotes_behind_its_name_goes_whole(secret: str) -> None:
    assert RULES.redact(f"a password={secret!r}, b") in {f"a password={quote}{MASK}{quote}, b" for quote in "'\""}


_HOSTILE = (
    *("password", "token=", "token(", "token[", "token]", "<token>", "('token', ", '"token": "', "--token ", "tokens="),
    *("Cookie: missing ", "('token', \"a", "token=<a", "token: not.so", "token='a\\'"),
    *("://", "://a:", "://a:b@", "://:", "?", "eyJ", "_eyJ", "a.", "Bearer ", "Basic YTpi", "Digest a=", "sk-a", "SG."),
    *("-----BEGIN PRIVATE KEY-----", "4111 ", "4", "\\", '\\"', '"', "'", "(", "[", "{", "<", "%", "%25", "token%3D"),
    *("[parameters: (", "[generated in ", "Failing row contains (", "insert into x (a", "Key (", "Duplicate entry '"),
    *(
        "Failing row contains (\n",
        "Key (a)=(",
        "Key (a)=(\n",
        "The duplicate key value is (",
        "Duplicate entry 'a' for ",
    ),
    *('invalid input syntax for a: "', 'invalid input syntax for a: "\n', 'invalid input syntax for a: \\\\"b"\n'),
    *(
        "incorrect date value: '",
        "the varchar value '\n",
        "LINE 1: '",
        "LINE 1: '\n",
        "JSON data, line 1: ",
        "COPY a, line 1",
    ),
    *("invalid input for query argument $1: '", "invalid UUID [", '"1" is out of range for type', '"'),
    *(
        "token=[\n",
        "token=(a\n",
        "token=['a\n",
        " token=(\n",
        "token='a\n",
        "token=a or 'b' ",
        "token: a | b = ",
        "token:\n a",
    ),
    *(
        "%3A%2F%2Fa",
        "to%6ben",
        "%",
        "4111+1111+",
        "input_value={",
        "'loc': ('token', ",
        "'input': ",
        "\x1b[",
        "<Cookie a",
    ),
    *("Cookie(value=", "Row (", "LINE 1: ...) values (", "set (token", "token in ('", "lower(token)=a(", "token::a "),
    *('name="token" ', 'name="token" value=', "'token', a value=", "x_token_type=", "tokens_details={'a_tokens': 1, "),
    *("PASS ", "AUTH ", "PASS a", "> AUTH a ", "pass ", "pass=", "-pass ", "mysql ", "mysql -p", "?sig=", "&sig="),
    *("identified by '", "password '", 'name="token"\r\n', "token:\n- ", "token: |\n a", "é", "\u017f", "\n", " "),
)


@pytest.mark.parametrize("piece", _HOSTILE)
def test_a_text_of_any_length_is_redacted_to_its_end(piece: str) -> None:
    hostile = piece * (100_000 // len(piece))

    assert "hunter2" not in RULES.redact(f"{hostile}\n password='hunter2'")


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("\x1b[36mpassword\x1b[0m=\x1b[35mx\x1b[0m n", f"password={MASK} n"),
        (r"'\x1b[36mpassword\x1b[0m=\x1b[35mx\x1b[0m n'", f"'password={MASK} n'"),
        ("\x1b[32m4111111111111111\x1b[0m", MASK),
        ("\x1b[32mall is well\x1b[0m", "\x1b[32mall is well\x1b[0m"),
    ],
)
def test_colours_hide_nothing_and_stay_where_nothing_is_redacted(text: str, redacted: str) -> None:
    assert RULES.redact(text) == redacted


def test_texts_that_are_clean_are_kept_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "MAX_CLEAN", 10)
    rules = TextRules(WORDS, (), None)
    for number in range(25):
        rules.redact(f"text {number}")
        rules.redact(f"text {number}" * 100)
        rules.redact(f"password={number}")

    assert 0 < len(rules.clean) <= 10
    assert all(text.startswith("text ") and len(text) <= texts.MAX_KEPT_TEXT for text in rules.clean)


def test_patterns_and_the_rule_see_every_text_and_the_rule_sees_it_last() -> None:
    seen: list[str] = []

    def rule(text: str) -> str:
        seen.append(text)
        return text.upper()

    rules = TextRules(Words(["token"]), [r"C-\d+"], rule)
    assert [rules.redact("customer C-17, token=x") for _ in range(2)] == [f"CUSTOMER {MASK}, TOKEN={MASK}"] * 2
    assert rules.redact_query("a=C-17") == f"A={MASK}"
    assert seen == [f"customer {MASK}, token={MASK}"] * 2 + [f"a={MASK}"]
    assert rules.clean == frozenset()


def _raising(text: str) -> str:
    raise RuntimeError(text)


def _silent(text: str) -> Any:
    return None


@pytest.mark.parametrize("rule", [_raising, _silent])
def test_a_rule_that_fails_masks_the_text_and_is_reported(rule: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [reported.append])

    assert TextRules(WORDS, (), rule).redact("anything") == MASK
    assert reported == [rule.__qualname__]
