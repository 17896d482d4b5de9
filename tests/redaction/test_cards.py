from __future__ import annotations

import pytest

from asgi_obs.redaction.cards import is_card_number, redact_cards

from .corpus import CARDS


@pytest.mark.parametrize("card", CARDS)
def test_a_card_number_is_masked_in_any_sentence(card: str) -> None:
    assert redact_cards(f"paid with {card}.") == "paid with ******."
    assert redact_cards(f"card={card},cvv=1") == "card=******,cvv=1"
    assert redact_cards(f"'{card}'") == "'******'"


@pytest.mark.parametrize("before", [r"\n", r"\r\n", r"\x01", r"\u00e9", "%22", "x%20"])
def test_a_card_number_begins_behind_an_escape(before: str) -> None:
    assert redact_cards(f"{before}4111111111111111") == f"{before}******"


@pytest.mark.parametrize("separator", ["+", "%20", "%2520"])
def test_a_url_writes_spaces_in_its_own_way(separator: str) -> None:
    assert redact_cards(separator.join(["4111", "1111", "1111", "1111"])) == "******"
    assert redact_cards(separator.join(["3782", "822463", "10005"])) == "******"


def test_a_security_code_behind_a_card_number_goes_with_it() -> None:
    assert redact_cards("4111 1111 1111 1111 123 12/27") == "****** 12/27"


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",
        "4111 1111 1111 1112",
        "4111 1111 1111 1112 123",
        "4111 1111-1111 1111",
        "x4111111111111111",
        "4111111111111111x",
        "4111111111111111-1",
        "4111111111111111.5",
        "5.4111111111111111",
        "a-4111111111111111",
        "1111111111111117",
        "41111111111111111111111",
    ],
)
def test_other_numbers_stay(text: str) -> None:
    assert redact_cards(text) == text


@pytest.mark.parametrize(
    ("digits", "expected"),
    [("4111111111111111", True), ("4111111111111112", False), ("7111111111111111", False), ("5018", False)],
)
def test_prefix_length_and_check_digit_make_a_card_number(digits: str, expected: bool) -> None:
    assert is_card_number(digits) is expected
