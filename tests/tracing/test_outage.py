from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from asgi_obs.errors import REPORT_INTERVAL
from asgi_obs.tracing import outage as module
from asgi_obs.tracing.outage import Outages, exporters_warnings

EXPORTER = logging.getLogger("opentelemetry.exporter.otlp.proto.test")


@pytest.fixture(autouse=True)
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO):
        yield caplog


def lines(said: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in said.records]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def outages() -> Outages:
    return Outages("collector:4317", 2048)


FULL = "more than 2048 waited (OTEL_BSP_MAX_QUEUE_SIZE)"


def test_an_outage_is_said_once_when_it_begins_and_once_when_it_is_over(
    said: pytest.LogCaptureFixture, clock: list[float], outages: Outages
) -> None:
    outages.succeeded(0)
    outages.failed("refused", 1)
    clock[0] += REPORT_INTERVAL
    outages.failed("refused", 40)
    outages.succeeded(70)
    outages.succeeded(70)
    clock[0] += REPORT_INTERVAL
    outages.failed("reset", 72)
    outages.succeeded(75)

    assert lines(said) == [
        ("WARNING", "Spans cannot be sent to collector:4317: refused; 1 were lost"),
        ("INFO", "Spans can be sent to collector:4317 again; 70 were lost"),
        ("WARNING", "Spans cannot be sent to collector:4317: reset; 2 were lost"),
        ("INFO", "Spans can be sent to collector:4317 again; 5 were lost"),
    ]


def test_a_collector_that_comes_and_goes_is_said_once_a_minute_and_no_loss_is_kept_back(
    said: pytest.LogCaptureFixture, clock: list[float], outages: Outages
) -> None:
    for second in range(61):
        outages.failed("refused", second + 1)
        outages.succeeded(second + 1)
        clock[0] += 1

    assert lines(said) == [
        ("WARNING", "Spans cannot be sent to collector:4317: refused; 1 were lost"),
        ("INFO", "Spans can be sent to collector:4317 again; 1 were lost"),
        ("WARNING", "Spans cannot be sent to collector:4317: refused; 60 were lost"),
        ("INFO", "Spans can be sent to collector:4317 again; 60 were lost"),
    ]


def test_what_an_outage_has_cost_that_was_not_announced_is_said_when_it_may_be(
    said: pytest.LogCaptureFixture, clock: list[float], outages: Outages
) -> None:
    outages.failed("refused", 1)
    outages.succeeded(1)
    outages.failed("reset.", 5)
    outages.succeeded(9)
    clock[0] += REPORT_INTERVAL
    outages.succeeded(9)
    clock[0] += REPORT_INTERVAL
    outages.succeeded(10)
    clock[0] += REPORT_INTERVAL
    outages.failed("refused", 11)
    outages.succeeded(11)

    assert lines(said)[2:] == [
        ("WARNING", "8 spans were lost on the way to collector:4317: reset"),
        ("WARNING", f"1 spans were lost on the way to collector:4317: {FULL}"),
        ("WARNING", "Spans cannot be sent to collector:4317: refused; 1 were lost"),
        ("INFO", "Spans can be sent to collector:4317 again; 1 were lost"),
    ]


def test_a_queue_that_was_full_is_said_once_a_minute(
    said: pytest.LogCaptureFixture, clock: list[float], outages: Outages
) -> None:
    outages.succeeded(10)
    outages.succeeded(25)
    clock[0] += REPORT_INTERVAL
    outages.succeeded(25)

    lost = "spans were lost on the way to collector:4317"
    assert lines(said) == [("WARNING", f"10 {lost}: {FULL}"), ("WARNING", f"15 {lost}: {FULL}")]


def test_a_flush_in_vain_begins_an_outage(said: pytest.LogCaptureFixture, outages: Outages) -> None:
    outages.stalled(4.5, 7, last=False)
    outages.stalled(4.5, 7, last=False)
    outages.failed("refused", 0)
    outages.succeeded(0)

    assert lines(said) == [
        ("WARNING", "Spans cannot be sent to collector:4317: no answer within 4.5 s, and 7 wait"),
        ("INFO", "Spans can be sent to collector:4317 again; 0 were lost"),
    ]


def test_the_last_word_is_not_said_if_it_was_said_before(said: pytest.LogCaptureFixture, outages: Outages) -> None:
    outages.stalled(4.5, 7, last=False)
    outages.stalled(1, 7, last=True)

    assert len(lines(said)) == 1


def test_the_last_word_is_said_once_whatever_was_said_before(said: pytest.LogCaptureFixture, outages: Outages) -> None:
    outages.failed("refused", 0)
    outages.stalled(1 / 3, 7, last=True)
    outages.stalled(4.5, 9, last=True)

    assert lines(said)[1:] == [
        ("WARNING", "Spans cannot be sent to collector:4317: no answer within 0.33 s, and 7 wait")
    ]


def test_what_is_lost_at_exit_is_said_and_so_is_what_was_not_said_before(
    said: pytest.LogCaptureFixture, outages: Outages
) -> None:
    outages.ended(0, 0)
    outages.failed("refused", 2)
    outages.ended(3, 8)

    assert lines(said)[1:] == [
        ("WARNING", "3 spans were lost on the way to collector:4317: refused"),
        ("WARNING", "3 spans were lost at exit: collector:4317 has not answered in time"),
    ]


def test_a_forked_process_says_it_for_itself(said: pytest.LogCaptureFixture, outages: Outages) -> None:
    outages.failed("refused", 0)

    outages.start_anew()
    outages.succeeded(0)
    outages.failed("refused", 0)

    assert [level for level, _ in lines(said)] == ["WARNING", "WARNING"]


@pytest.mark.parametrize(
    "reason",
    [
        "Max retries exceeded with url: /v1/traces?api_key=s3cret (Caused by NewConnectionError)",
        "Max retries exceeded with url: '/v1/traces?s3cret'",
        "no route to http://user:s3cret@collector:4318/v1/traces",
        "authorization: Bearer s3cret",
    ],
)
def test_a_reason_is_redacted(said: pytest.LogCaptureFixture, outages: Outages, reason: str) -> None:
    outages.failed(reason, 0)
    outages.ended(0, 1)

    assert [("s3cret" in text, "******" in text) for _, text in lines(said)] == [(False, True)] * 2


def test_a_reason_has_an_end(said: pytest.LogCaptureFixture, outages: Outages) -> None:
    outages.failed("no " * 1000, 0)

    ((_, text),) = lines(said)
    assert len(text) < 600


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
