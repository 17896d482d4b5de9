"""What is shown of a check that changes its mind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from asgi_obs.health.result import MAX_TEXT, CheckResult
from asgi_obs.health.threshold import Threshold

HEALTHY = CheckResult.healthy()
DEGRADED = CheckResult.degraded("slow")
DOWN = CheckResult.unhealthy("OSError", "no route").measured(0.25)


def shown(results: list[CheckResult], failures: int = 1, successes: int = 1) -> list[CheckResult]:
    threshold = Threshold(failures, successes)
    seen: list[CheckResult] = []
    for result in results:
        seen.append(threshold.show(seen[-1] if seen else None, result))
    return seen


def test_without_thresholds_every_result_is_shown_as_it_is() -> None:
    results = [HEALTHY, DOWN, DEGRADED, DOWN, HEALTHY]
    assert shown(results) == results


def test_the_first_result_is_shown_as_it_is() -> None:
    assert shown([DOWN], failures=3) == [DOWN]


def test_a_failure_below_the_threshold_is_a_detail_of_what_is_shown() -> None:
    _, first, second, third = shown([HEALTHY, DOWN, DOWN, DOWN], failures=3)
    assert first == CheckResult("healthy", "ok", "failed 1 of 3 times: OSError: no route", 250.0)
    assert second.detail == "failed 2 of 3 times: OSError: no route"
    assert third == DOWN


def test_a_success_below_the_threshold_too() -> None:
    _, first, second = shown([DOWN, HEALTHY, DEGRADED], successes=2)
    assert first == CheckResult("unhealthy", "OSError", "succeeded 1 of 2 times: ok", 0.0)
    assert second == DEGRADED


def test_only_failures_in_a_row_count() -> None:
    results = [HEALTHY, DOWN, DOWN, DEGRADED, DOWN, DOWN, HEALTHY]
    assert [result.status for result in shown(results, failures=3)] == [
        *["healthy"] * 3,
        *["degraded"] * 3,
        "healthy",
    ]


def test_a_long_text_is_cut() -> None:
    _, kept = shown([HEALTHY, CheckResult.unhealthy("x" * MAX_TEXT, "y" * MAX_TEXT)], failures=2)
    assert kept.detail is not None
    assert len(kept.detail) == MAX_TEXT


def model(statuses: list[str], failures: int, successes: int) -> list[str]:
    """What should be shown, from the whole history each time."""
    seen: list[str] = []
    for end in range(1, len(statuses) + 1):
        history = statuses[:end]
        failed = [status == "unhealthy" for status in history]
        streak = next((n for n, flag in enumerate(reversed(failed)) if flag is not failed[-1]), end)
        needed = failures if failed[-1] else successes
        if not seen or failed[-1] == (seen[-1] == "unhealthy") or streak >= needed:
            seen.append(history[-1])
        else:
            seen.append(seen[-1])
    return seen


@given(
    statuses=st.lists(st.sampled_from(["healthy", "degraded", "unhealthy"]), max_size=30),
    failures=st.integers(1, 4),
    successes=st.integers(1, 4),
)
def test_any_history_is_shown_as_the_model_has_it(statuses: list[str], failures: int, successes: int) -> None:
    results = [CheckResult(status) for status in statuses]
    assert [result.status for result in shown(results, failures, successes)] == model(statuses, failures, successes)
