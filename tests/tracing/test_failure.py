"""An exception on a span: event, status, error.type; without secrets, and able to be exported."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from asgi_obs.redaction import redactor_of
from asgi_obs.tracing.failure import record_failure
from tests.tracing.spans import Spans, attributes_of

REDACTOR = redactor_of(("password",))


class OutOfStock(Exception):
    pass


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Group(Exception):
    """As exception groups were before Python 3.11 had them."""

    def __init__(self, *members: Exception) -> None:
        self.exceptions = members
        super().__init__("several")


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def recorded(error: BaseException, *, stack: bool = True) -> ReadableSpan:
    spans = Spans()
    with spans.provider.get_tracer("test").start_as_current_span("work") as span:
        record_failure(span, raised(error), REDACTOR, stack=stack)
    [ended] = spans()
    return ended


def event_of(span: ReadableSpan) -> dict[str, Any]:
    [event] = span.events
    assert event.name == "exception"
    return dict(event.attributes or {})


def test_an_exception_is_an_event_a_status_and_an_attribute() -> None:
    span = recorded(OutOfStock("none left"))

    name = f"{__name__}.OutOfStock"
    event = event_of(span)
    assert (event["exception.type"], event["exception.message"]) == (name, "none left")
    assert event["exception.stacktrace"].startswith("Traceback (most recent call last):")
    assert event["exception.stacktrace"].rstrip().endswith("OutOfStock: none left")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "OutOfStock: none left")
    assert attributes_of(span) == {"error.type": name}


def test_a_builtin_is_named_without_its_module() -> None:
    assert attributes_of(recorded(ValueError("no"))) == {"error.type": "ValueError"}


def test_the_stack_may_be_left_out() -> None:
    assert event_of(recorded(ValueError("no"), stack=False)) == {
        "exception.type": "ValueError",
        "exception.message": "no",
    }


def test_secrets_in_message_and_stack_are_redacted() -> None:
    span = recorded(ValueError("login with password=hunter2 failed"))

    assert event_of(span)["exception.message"] == "login with password=****** failed"
    assert span.status.description == "ValueError: login with password=****** failed"
    assert "hunter2" not in span.to_json()


def test_the_type_is_returned() -> None:
    span = Spans().provider.get_tracer("test").start_span("work")

    assert record_failure(span, KeyError("x"), REDACTOR, stack=False) == "KeyError"


def test_the_stack_tells_the_members_of_a_group_and_the_causes() -> None:
    error = ValueError("outer")
    error.__cause__ = KeyError("inner")

    assert "KeyError: 'inner'" in event_of(recorded(error))["exception.stacktrace"]
    assert event_of(recorded(Group(error)))["exception.type"] == f"{__name__}.Group"


def test_an_exception_that_cannot_be_printed_is_recorded_nonetheless() -> None:
    event = event_of(recorded(Unprintable()))

    assert event["exception.message"] == "<unprintable Unprintable>"


@pytest.mark.parametrize("stack", [True, False])
def test_lone_surrogates_do_not_lose_the_span(stack: bool) -> None:
    span = recorded(ValueError("caf\udce9"), stack=stack)

    assert event_of(span)["exception.message"] == "caf?"
    assert span.status.description == "ValueError: caf?"
