from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_obs.logs.profiles import PROFILES, make_profile
from asgi_obs.settings import LOG_PROFILES, Settings

HEAD = ("timestamp", "level", "service", "component", "message", "hostname", "pid", "environment", "version")
NAMES = st.text() | st.sampled_from(
    [
        *("correlation_id", "trace_id", "span_id", "user_id", "method", "path", "route", "status_code", "bytes_in"),
        *("bytes_out", "outcome", "query", "client_ip", "user_agent", "http_version", "scheme", "close_code"),
        *("@timestamp", "log.level", "http", "asgi_obs", "labels", "event", "client", "process"),
        *("http.route", "exception.type", "url.path", "user.id"),
        *("severity", "time", "httpRequest", "stack_trace", "@type", "logging.googleapis.com/trace"),
    ]
)
SHAPES = st.sampled_from(
    [
        lambda mark: mark,
        lambda mark: int(mark),
        lambda mark: [mark],
        lambda mark: {"type": mark},
        lambda mark: {"deep": {"stack": [mark]}},
    ]
)


def test_there_is_a_profile_for_every_name_but_that_of_our_own_schema() -> None:
    assert set(PROFILES) == set(LOG_PROFILES) - {"default"}
    assert make_profile(Settings(log_profile="default")) is None


@pytest.mark.parametrize("name", PROFILES)
@given(shapes=st.dictionaries(NAMES.filter(lambda name: name not in HEAD), SHAPES), error=SHAPES)
def test_nothing_of_a_line_is_lost(name: str, shapes: dict[str, Any], error: Any) -> None:
    marks = {field: str(10_000 + number) for number, field in enumerate((*HEAD, *shapes, "error"))}
    line: dict[str, Any] = {field: marks[field] for field in HEAD}
    line.update((field, shape(marks[field])) for field, shape in shapes.items())
    line["error"] = error(marks["error"])
    before = json.dumps(line)
    profile = make_profile(Settings(log_profile=name))
    assert profile is not None

    made = json.dumps(profile(line, logging.makeLogRecord({"created": float(marks["timestamp"])})))

    assert {field for field, mark in marks.items() if mark not in made} == set()
    assert json.dumps(line) == before
