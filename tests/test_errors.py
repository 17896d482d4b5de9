"""The error tree, and what becomes of an error that must not reach a request."""

from __future__ import annotations

import logging
import pickle
from types import SimpleNamespace

import pytest

from asgi_obs import errors
from asgi_obs.errors import (
    AsgiObsError,
    ConfigurationError,
    MissingExtraError,
    SettingsError,
    on_report,
    report,
)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still, and reports that start from nothing."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(errors, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(errors, "_last_logged", {})
    monkeypatch.setattr(errors, "_listeners", [])
    return clock


def test_every_error_is_an_asgi_obs_error():
    assert issubclass(SettingsError, ConfigurationError)
    assert issubclass(ConfigurationError, AsgiObsError)
    assert issubclass(MissingExtraError, AsgiObsError)


def test_errors_can_be_caught_as_what_python_has_for_them():
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(MissingExtraError, ImportError)


def test_a_configuration_error_names_option_value_and_what_is_allowed():
    error = ConfigurationError("buckets", [], "at least one bucket")

    assert str(error) == "buckets=[] is not valid: expected at least one bucket"
    assert (error.option, error.value, error.allowed) == ("buckets", [], "at least one bucket")


def test_a_missing_extra_says_what_to_install():
    error = MissingExtraError("setup_tracing()", "otel")

    assert str(error) == "setup_tracing() needs an optional dependency: pip install 'asgi-obs[otel]'"
    assert error.extra == "otel"


@pytest.mark.parametrize(
    "error",
    [ConfigurationError("a", 1, "b"), SettingsError("A", "1", "b"), MissingExtraError("a", "b")],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_the_way_between_processes(error):
    again = pickle.loads(pickle.dumps(error))  # noqa: S301

    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_a_report_is_logged_with_its_place_and_the_traceback(clock, caplog):
    try:
        raise ValueError("what happened")
    except ValueError as error:
        report("Place.hook", error)

    [record] = caplog.records
    assert (record.name, record.levelno) == ("asgi_obs", logging.ERROR)
    assert record.getMessage() == "Place.hook failed; requests are not affected"
    assert "what happened" in caplog.text
    assert "Traceback" in caplog.text


def test_a_place_is_logged_at_most_once_a_minute(clock, caplog):
    for clock.now in (0.0, 1.0, 59.9, 60.0, 61.0, 119.9, 120.0):
        report("Place.hook", ValueError(clock.now))

    assert [record.exc_info[1].args for record in caplog.records] == [(0.0,), (60.0,), (120.0,)]


def test_another_place_is_logged_at_once(clock, caplog):
    report("one", ValueError())
    report("two", ValueError())

    assert len(caplog.records) == 2


def test_every_report_is_counted_also_those_that_are_not_logged(clock):
    counted = []
    on_report(counted.append)
    for _ in range(3):
        report("Place.hook", ValueError())

    assert counted == ["Place.hook"] * 3


def test_several_listeners_are_told(clock):
    counted = []
    on_report(counted.append)
    on_report(counted.append)
    report("Place.hook", ValueError())

    assert len(counted) == 2


def test_a_listener_that_raises_stops_neither_the_log_nor_the_others(clock, caplog):
    counted = []

    def broken(component):
        raise RuntimeError("counter")

    on_report(broken)
    on_report(counted.append)
    report("Place.hook", ValueError())

    assert counted == ["Place.hook"]
    assert "Place.hook failed" in caplog.text


def test_a_log_filter_that_raises_reaches_nobody(clock):
    """A filter is user code in the logging path; unlike a handler's its errors are not caught by `logging`."""

    def broken(record):
        raise RuntimeError("filter")

    logger = logging.getLogger("asgi_obs")
    logger.addFilter(broken)
    try:
        report("Place.hook", ValueError())
    finally:
        logger.removeFilter(broken)


def test_a_report_of_an_error_without_a_traceback_is_logged(clock, caplog):
    report("Place.hook", ValueError("never raised"))

    assert "never raised" in caplog.text
