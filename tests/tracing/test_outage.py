from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from asgi_obs.tracing import outage as module
from asgi_obs.tracing.outage import Outages, exporters_warnings

EXPORTER = logging.getLogger("opentelemetry.exporter.otlp.proto.test")


@pytest.fixture(autouse=True)
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO):
        yield caplog


def lines(said: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in said.records]


def test_an_outage_is_said_once_when_it_begins_and_once_when_it_is_over(said: pytest.LogCaptureFixture) -> None:
    outages = Outages("collector:4317", 2048)

    outages.succeeded(0)
    outages.failed("refused")
    outages.failed("refused")
    outages.succeeded(70)
    outages.succeeded(70)
    outages.failed("reset")
    outages.succeeded(75)

    assert lines(said) == [
        ("WARNING", "Spans cannot be sent to collector:4317: refused"),
        ("INFO", "Spans can be sent to collector:4317 again; 70 were lost"),
        ("WARNING", "Spans cannot be sent to collector:4317: reset"),
        ("INFO", "Spans can be sent to collector:4317 again; 5 were lost"),
    ]


def test_a_queue_that_was_full_is_said_once_a_minute(
    said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    outages = Outages("collector:4317", 2048)

    outages.succeeded(10)
    outages.succeeded(25)
    now += module.REPORT_INTERVAL
    outages.succeeded(25)

    full = "more than 2048 waited for collector:4317 (OTEL_BSP_MAX_QUEUE_SIZE)"
    assert lines(said) == [("WARNING", f"10 spans were lost: {full}"), ("WARNING", f"15 spans were lost: {full}")]


def test_what_is_lost_at_exit_is_said(said: pytest.LogCaptureFixture) -> None:
    outages = Outages("collector:4317", 2048)

    outages.ended(0)
    outages.ended(3)

    assert lines(said) == [("WARNING", "3 spans were lost at exit: collector:4317 has not answered in time")]


def test_a_forked_process_says_it_for_itself(said: pytest.LogCaptureFixture) -> None:
    outages = Outages("collector:4317", 2048)
    outages.failed("refused")

    outages.start_anew()
    outages.succeeded(0)
    outages.failed("refused")

    assert [level for level, _ in lines(said)] == ["WARNING", "WARNING"]


def test_what_exporters_warn_of_is_taken_and_does_not_get_to_the_log(said: pytest.LogCaptureFixture) -> None:
    with exporters_warnings() as warnings:
        EXPORTER.warning("tried %s", 1)
        EXPORTER.error("given up")
        EXPORTER.info("a detail")
        EXPORTER.warning("does not fit: %s %s", 1)
        logging.getLogger("shop").warning("something else")

    assert warnings == ["tried 1", "given up"]
    assert lines(said) == [("INFO", "a detail"), ("WARNING", "something else")]


def test_what_exporters_of_others_say_gets_to_the_log(said: pytest.LogCaptureFixture) -> None:
    with exporters_warnings() as warnings:
        thread = threading.Thread(target=EXPORTER.warning, args=["metrics cannot be sent"])
        thread.start()
        thread.join()
    EXPORTER.warning("nor logs")

    assert warnings == []
    assert lines(said) == [("WARNING", "metrics cannot be sent"), ("WARNING", "nor logs")]


def test_a_logger_is_listened_to_once_and_before_filters_of_its_own() -> None:
    own = logging.Filter("own")
    EXPORTER.addFilter(own)

    for _ in range(3):
        with exporters_warnings():
            pass

    assert [type(other).__name__ for other in EXPORTER.filters] == ["_OfThisThread", "Filter"]
    EXPORTER.removeFilter(own)
