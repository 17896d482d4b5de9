"""Our spans are those of opentelemetry-instrumentation-asgi but for a table of differences, which is in the docs."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import pytest

from asgi_obs.settings import Settings
from tests.tracing.differences import DIFFERENCES, Difference
from tests.tracing.oracle import SETTINGS, Case, contrib, observe, ours, unwrapped
from tests.tracing.oracle_requests import AGENTS, ANSWERS, CALLERS, PATHS, QUERIES, case_of

SEEDS: Final = range(420)
PAGE: Final = Path(__file__).parents[2] / "docs" / "span-conventions.md"


@lru_cache(None)
def compared(seed: int) -> tuple[Case, dict[str, Any], dict[str, Any]]:
    """A request, what we make of it, and what the other does."""
    case = case_of(seed)
    theirs = observe(case.readable(), contrib())
    if case.breaks:
        theirs["the request"] = observe(case, contrib())["the request"]
    return case, observe(case, ours()), theirs


def differences_of(case: Case, field: str) -> list[Difference]:
    return [difference for difference in DIFFERENCES if difference.field == field and difference.applies(case)]


def test_there_are_hundreds_of_requests_and_no_two_are_the_same() -> None:
    assert len({repr(case_of(seed)) for seed in SEEDS}) == len(SEEDS) >= 300


@pytest.mark.parametrize("seed", SEEDS)
def test_a_span_is_that_of_the_other_but_for_the_differences(seed: int) -> None:
    case, found, theirs = compared(seed)
    expected = {}

    for field in (found.keys() | theirs.keys()) - ({"name"} if theirs["name"] is None else set()):
        differences = differences_of(case, field)
        assert len(differences) <= 1, field
        expected[field] = differences[0].expected(case) if differences else theirs.get(field)

    assert {field: found.get(field) for field in expected} == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_a_request_is_answered_as_without_us(seed: int) -> None:
    case, found, _ = compared(seed)

    assert found["the request"] == observe(case, unwrapped)["the request"]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_caller_is_the_parent_exactly_if_the_recommendation_says_so(seed: int) -> None:
    case, found, _ = compared(seed)

    assert (found["name"] is not None) is (case.caller.sampled or not case.caller.continued)
    assert bool(found.get("parent")) is (case.caller.continued and case.caller.sampled)
    assert found.get("trace state", case.caller.state) == case.caller.state


@pytest.mark.parametrize(
    "difference", DIFFERENCES, ids=lambda difference: f"{difference.field}, {difference.when}"[:80]
)
def test_a_difference_is_seen(difference: Difference) -> None:
    cases = (compared(seed) for seed in SEEDS)

    assert any(
        difference in differences_of(case, difference.field)
        and found.get(difference.field) != theirs.get(difference.field)
        for case, found, theirs in cases
        if theirs["name"]
    )


def test_the_page_has_the_differences() -> None:
    table = PAGE.read_text().partition("\n## Differences")[2]

    assert [line for line in table.splitlines() if line.startswith("| ")][1:] == [str(each) for each in DIFFERENCES]


def old(mode: str) -> Settings:
    return Settings(sensitive_fields=SETTINGS.sensitive_fields, excluded_urls=(), semconv_opt_in=(mode,))


OLD: Final = {
    *("http.scheme", "http.host", "net.host.port", "http.flavor", "http.target", "http.url", "http.method"),
    *("http.server_name", "http.user_agent", "net.peer.ip", "net.peer.port", "http.status_code"),
}
"""What the other tells by the old conventions."""


@pytest.mark.parametrize("mode", ["default", "http/dup"])
@pytest.mark.parametrize("seed", SEEDS[:100])
def test_the_old_conventions_are_told_as_by_the_other(seed: int, mode: str) -> None:
    case = replace(case_of(seed), path=PATHS[1], agent=AGENTS[1])
    case = replace(case.readable(), caller=CALLERS[1], story=ANSWERS[seed % len(ANSWERS)])
    case = replace(case, query=QUERIES[1], kind="http")
    theirs = observe(case, contrib(mode))
    found = observe(case, ours(old(mode)))

    told = {name: value for name, value in theirs.items() if name in OLD}
    assert {name: found.get(name) for name in told} == told
    assert {"http.method", "http.url", "http.status_code"} <= told.keys()
    assert ("url.path" in found) is (mode == "http/dup")


def test_both_conventions_say_all_that_either_does() -> None:
    case = replace(case_of(0), caller=CALLERS[0])

    both, stable, legacy = (observe(case, ours(old(mode))) for mode in ("http/dup", "http", "default"))

    assert both == {**legacy, **stable}
    assert legacy.keys() & OLD
    assert not stable.keys() & OLD


@pytest.mark.parametrize(
    "case",
    [case for case in map(case_of, SEEDS) if case.breaks and case.kind == "http"][:20],
    ids=lambda case: repr(case.query.sent),
)
def test_the_old_conventions_are_told_of_what_the_other_cannot_read(case: Case) -> None:
    found = observe(replace(case, caller=CALLERS[0]), ours(old("http/dup")))

    assert {"http.url", "url.path", "http.status_code"} <= found.keys()


@pytest.mark.parametrize("mode", ["default", "http/dup"])
def test_secrets_are_redacted_in_the_old_conventions_too(mode: str) -> None:
    case = Case(ANSWERS[0], path=PATHS[5], query=QUERIES[4], agent=AGENTS[5])

    found = observe(case, ours(old(mode)))

    assert "hunter2" not in repr(found)
    assert found["http.url"].startswith("http://testserver/reset/token=******")
