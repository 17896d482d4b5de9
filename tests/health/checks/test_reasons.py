"""Why a connection could not be made."""

from __future__ import annotations

import sys

import pytest

from asgi_obs.health.checks.reasons import reason_of

if sys.version_info < (3, 11):  # pragma: no cover - as anyio does
    from exceptiongroup import ExceptionGroup


def caused(cause: Exception | None) -> OSError:
    error = OSError("failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (None, "failed"),
        (OSError("refused"), "refused"),
        (ExceptionGroup("several", [OSError("refused"), OSError("unreachable")]), "refused; unreachable"),
    ],
)
def test_the_reason_is_what_was_behind_the_error(cause, expected) -> None:
    assert reason_of(caused(cause)) == expected
