"""Results of checks, and what they come to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_obs.errors import ConfigurationError
from asgi_obs.health.result import MAX_TEXT, CheckResult, overall

HEALTHY = CheckResult.healthy()
DEGRADED = CheckResult.degraded("slow")
UNHEALTHY = CheckResult.unhealthy("gone")


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ([], "healthy"),
        ([(HEALTHY, True), (HEALTHY, False)], "healthy"),
        ([(DEGRADED, True), (HEALTHY, True)], "degraded"),
        ([(DEGRADED, False)], "degraded"),
        ([(UNHEALTHY, False), (HEALTHY, True)], "degraded"),
        ([(UNHEALTHY, True), (HEALTHY, True)], "unhealthy"),
        ([(DEGRADED, False), (UNHEALTHY, False), (UNHEALTHY, True)], "unhealthy"),
    ],
)
def test_the_service_is_as_healthy_as_its_critical_checks(results, status) -> None:
    assert overall(results) == status


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (None, "healthy"),
        (True, "healthy"),
        (False, "unhealthy"),
        (DEGRADED, "degraded"),
        ({"status": "healthy"}, "unhealthy"),
    ],
)
def test_what_a_check_returns_stands_for_a_result(answer, status) -> None:
    assert CheckResult.from_answer(answer).status == status


def test_a_return_value_of_another_type_is_named() -> None:
    assert CheckResult.from_answer(1).message == "the check returned int: expected CheckResult, bool or None"


def test_the_text_of_an_error_is_a_detail_and_its_class_the_message() -> None:
    assert CheckResult.from_error(OSError("no route to 10.0.0.3")) == CheckResult(
        "unhealthy", "OSError", "no route to 10.0.0.3"
    )


def test_an_error_without_a_text_has_no_detail() -> None:
    assert CheckResult.from_error(OSError()).detail is None


@pytest.mark.parametrize("how", [RuntimeError, SystemExit])
def test_an_error_whose_text_cannot_be_had_is_a_result_all_the_same(how) -> None:
    class BrokenError(Exception):
        def __str__(self) -> str:
            raise how

    assert CheckResult.from_error(BrokenError()) == CheckResult.unhealthy(BrokenError.__qualname__)


@pytest.mark.parametrize(
    ("option", "value"), [("status", "fine"), ("message", OSError("no")), ("message", None), ("detail", 3)]
)
def test_a_result_with_a_wrong_value_is_refused(option, value) -> None:
    with pytest.raises(ConfigurationError, match=f"{option}="):
        CheckResult(**{"status": "healthy", option: value})


@pytest.mark.parametrize(
    ("text", "presented"),
    [
        ("postgresql://app:hunter2@db:5432/app refused", "postgresql://******@db:5432/app refused"),
        ("redis://:p@ss@cache/0", "redis://******@cache/0"),
        ("http://memory/health?api_key=secret3", "http://memory/health?api_key=******"),
        ("a://u:secret1@b and c://u:secret2@d", "a://******@b and c://******@d"),
        ("http://db:5432/app refused", "http://db:5432/app refused"),
        ("mail to ops@example.com", "mail to ops@example.com"),
        ("\ud800", "?"),
        ("x\n[+] db 1 ms fine\r\nhealthy", "x [+] db 1 ms fine  healthy"),
        ("\x1b[2J\x00\x85\u2028\u202etxet", " [2J    txet"),
        ("nicht verfügbar: データベース 🙂", "nicht verfügbar: データベース 🙂"),
    ],
)
def test_texts_are_handed_out_without_the_credentials_in_urls(text, presented) -> None:
    result = CheckResult.unhealthy(text, text).measured(0.0)
    assert (result.message, result.detail) == (presented, presented)


def test_the_time_is_kept_in_milliseconds_with_two_decimals() -> None:
    assert HEALTHY.measured(0.0123456).duration_ms == 12.35


def test_a_long_password_is_gone_before_the_text_is_cut() -> None:
    result = CheckResult.unhealthy("x://u:" + "s" * 2 * MAX_TEXT + "@host").measured(0.0)
    assert result.message == "x://******@host"


@given(
    before=st.text(max_size=50),
    user=st.text(alphabet="abc:%-", max_size=20),
    after=st.text(alphabet="abc:/@?# ", max_size=2 * MAX_TEXT),
)
def test_no_text_around_it_saves_a_password(before: str, user: str, after: str) -> None:
    result = CheckResult.unhealthy(f"{before}://{user}:HUNTER2@{after}").measured(0.0)
    assert "HUNTER2" not in result.message
    assert len(result.message) <= MAX_TEXT
    assert result.message.isprintable()
    result.message.encode()
