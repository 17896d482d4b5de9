"""What was seen -> outcome, status, close code: the whole table."""

from __future__ import annotations

import asyncio

import pytest

from asgi_obs.classify import close_code_of, error_type, is_departure, outcome_of, status_of
from asgi_obs.errors import ConfigurationError


class ClientDisconnect(Exception): ...


class ClientDisconnected(OSError): ...


class WebSocketDisconnect(Exception): ...


class Group(Exception):
    """As an exception group is, on every Python."""

    def __init__(self, *exceptions):
        self.exceptions = exceptions


ERROR = ValueError("x")
GONE = OSError("x")
CANCELLED = asyncio.CancelledError()


@pytest.mark.parametrize(
    ("exception", "disconnected", "complete", "expected"),
    [
        (None, False, True, "completed"),
        (None, False, False, "incomplete"),
        (None, True, False, "client_disconnected"),
        (ERROR, False, False, "error"),
        (ERROR, False, True, "error"),
        (ERROR, True, False, "error"),
        (GONE, False, False, "error"),
        (GONE, True, False, "client_disconnected"),
        (ClientDisconnect(), True, False, "client_disconnected"),
        (ClientDisconnect(), False, False, "error"),
        (CANCELLED, False, False, "cancelled"),
        (CANCELLED, False, True, "cancelled"),
        (CANCELLED, True, False, "client_disconnected"),
        (KeyboardInterrupt(), False, False, "cancelled"),
        (GeneratorExit(), False, False, "cancelled"),
        (Group(ClientDisconnect(), CANCELLED), True, False, "client_disconnected"),
        (Group(ClientDisconnect(), ERROR), True, False, "error"),
        (Group(Group(GONE)), True, False, "client_disconnected"),
        (Group(), True, False, "error"),
    ],
)
def test_the_outcome_of_an_exchange(exception, disconnected, complete, expected):
    assert outcome_of(exception=exception, disconnected=disconnected, complete=complete) == expected


@pytest.mark.parametrize(
    ("sent", "outcome", "left_before_start", "expected"),
    [
        (200, "completed", False, 200),
        (404, "error", False, 404),
        (200, "incomplete", False, 200),
        (None, "error", False, 500),
        (None, "incomplete", False, 500),
        (None, "cancelled", False, 503),
        (200, "cancelled", False, 200),
        (None, "client_disconnected", True, 499),
        (None, "client_disconnected", False, 499),
        (200, "client_disconnected", True, 499),
        (200, "client_disconnected", False, 200),
        (None, "error", True, 500),
        (200, "error", True, 200),
    ],
)
def test_the_status_of_an_exchange(sent, outcome, left_before_start, expected):
    assert status_of(sent=sent, outcome=outcome, left_before_start=left_before_start) == expected


@pytest.mark.parametrize(
    ("seen", "accepted", "refused", "outcome", "expected"),
    [
        (1000, True, False, "completed", "1000"),
        (4001, True, False, "completed", "4001"),
        (1006, True, False, "client_disconnected", "1006"),
        (None, True, False, "client_disconnected", "1006"),
        (None, False, False, "client_disconnected", "1006"),
        (None, False, True, "completed", "denied"),
        (None, False, True, "incomplete", "denied"),
        (None, False, False, "incomplete", "denied"),
        (None, True, False, "incomplete", "1006"),
        (None, True, False, "cancelled", "1001"),
        (None, False, False, "cancelled", "1001"),
        (None, False, False, "error", "1011"),
        (None, True, False, "error", "1011"),
        (1000, True, False, "error", "1011"),
        (None, False, True, "error", "1011"),
    ],
)
def test_the_close_code_of_a_session(seen, accepted, refused, outcome, expected):
    assert close_code_of(seen=seen, accepted=accepted, refused=refused, outcome=outcome) == expected


@pytest.mark.parametrize(
    ("exception", "expected"),
    [
        (ClientDisconnect(), True),
        (ClientDisconnected(), True),
        (WebSocketDisconnect(), True),
        (GONE, False),
        (ERROR, False),
        (CANCELLED, False),
        (Group(ClientDisconnect(), WebSocketDisconnect()), True),
        (Group(ClientDisconnect(), ERROR), False),
        (Group(Group(ClientDisconnect())), True),
    ],
)
def test_a_departure_is_told_by_its_name(exception, expected):
    assert is_departure(exception) is expected


@pytest.mark.parametrize("exceptions", [5, {"row": "bad"}])
@pytest.mark.parametrize("judge", [is_departure, lambda e: outcome_of(exception=e, disconnected=True, complete=False)])
def test_an_exception_that_only_looks_like_a_group_is_judged_as_any_other(exceptions, judge):
    error = ValueError("x")
    error.exceptions = exceptions

    assert judge(error) in {False, "error"}


def test_a_built_in_exception_goes_by_its_name() -> None:
    assert error_type(KeyError("x")) == "KeyError"


def test_any_other_exception_goes_by_its_module_too() -> None:
    assert error_type(ConfigurationError("a", 1, "b")) == "asgi_obs.errors.ConfigurationError"
