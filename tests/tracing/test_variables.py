from __future__ import annotations

import pytest

from asgi_obs.errors import SettingsError
from asgi_obs.tracing.variables import (
    SPAN_LIMITS,
    choice_of,
    choices_of,
    first_set,
    flag_of,
    positive_of,
    require_span_limits,
)


def test_the_first_variable_that_says_something_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", " ")
    monkeypatch.setenv("B", " x ")
    monkeypatch.setenv("C", "y")

    assert first_set("A", "B", "C") == ("B", "x")
    assert first_set("A") is None


def test_a_choice_is_made_in_any_case_and_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choice_of("A", allowed=("one", "two")) == "one"
    monkeypatch.setenv("A", "TWO")
    assert choice_of("A", allowed=("one", "two")) == "two"


def test_a_wrong_choice_is_said_with_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "Three")

    with pytest.raises(SettingsError, match=r"A='Three' is not valid: expected one of one, two"):
        choice_of("A", allowed=("one", "two"))


def test_a_list_has_each_choice_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choices_of("A", allowed=("one", "two")) == ("one",)
    monkeypatch.setenv("A", "TWO, one,two")
    assert choices_of("A", allowed=("one", "two")) == ("two", "one")


@pytest.mark.parametrize("text", ["one,Three", "one,,two", "one two"])
def test_a_wrong_choice_in_a_list_is_said_with_what_is_allowed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("A", text)

    with pytest.raises(SettingsError, match=f"A='{text}' .* expected one or more of one, two, separated by commas"):
        choices_of("A", allowed=("one", "two"))


@pytest.mark.parametrize(("text", "expected"), [("", None), ("True", True), ("false", False)])
def test_a_flag_is_true_or_false_or_not_said(monkeypatch: pytest.MonkeyPatch, text: str, expected: bool | None) -> None:
    monkeypatch.setenv("A", text)

    assert flag_of("A") is expected


def test_a_number_is_positive_or_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert positive_of("A", kind=int) is None
    monkeypatch.setenv("A", "7")
    assert positive_of("A", kind=int) == 7
    monkeypatch.setenv("A", "0.5")
    assert positive_of("A", kind=float) == 0.5


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("0", int, "a positive whole number"),
        ("0.5", int, "a positive whole number"),
        ("-1", float, "a positive number"),
        ("inf", float, "a positive number"),
        ("nan", float, "a positive number"),
        ("ten", float, "a positive number"),
    ],
)
def test_what_is_no_such_number_is_said(monkeypatch: pytest.MonkeyPatch, text: str, kind: type, expected: str) -> None:
    monkeypatch.setenv("A", text)

    with pytest.raises(SettingsError) as raised:
        positive_of("A", kind=kind)

    assert str(raised.value) == f"A={text!r} is not valid: expected {expected}"


def test_limits_are_whole_numbers_or_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(SPAN_LIMITS, ("0", "128", " 7 ", "unset", "Unset"), strict=False):
        monkeypatch.setenv(name, value)

    assert require_span_limits() is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("name", SPAN_LIMITS)
@pytest.mark.parametrize("value", ["abc", "-1", "1.5", ""])
def test_what_is_no_limit_is_said(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=f"{name}='{value}' is not valid: expected a whole number from 0 on, or un"):
        require_span_limits()
