from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from asgi_obs import errors
from asgi_obs.errors import SettingsError
from asgi_obs.logs import signals
from asgi_obs.tracing import export as module
from asgi_obs.tracing import flush as flushing
from asgi_obs.tracing.export import BoundedSpanProcessor
from asgi_obs.tracing.ledger import DROPPED, SpanLedger
from tests.tracing.receivers import DEADLINE, GrpcReceiver, HttpReceiver, free_port, until


class Collector(SpanExporter):
    """An exporter that takes spans, refuses them, or holds still."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.tried = 0
        self.fails: Exception | bool = False
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.shutdowns = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.tried += 1
        assert self.goes_on.wait(DEADLINE)
        if isinstance(self.fails, Exception):
            raise self.fails
        if self.fails:
            return SpanExportResult.FAILURE
        self.taken += [span.name for span in spans]
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.shutdowns += 1


class Line:
    """A provider whose spans go through a processor of ours to a collector."""

    def __init__(self, collector: SpanExporter) -> None:
        self.processor = BoundedSpanProcessor(lambda: collector, "collector:4317")
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(self.processor)
        self.ledger: SpanLedger = self.processor.ledger
        self._before = DROPPED._value.get()

    def end(self, count: int, name: str = "a") -> None:
        tracer = self.provider.get_tracer("test")
        for _ in range(count):
            tracer.start_span(name).end()

    @property
    def dropped(self) -> int:
        return int(DROPPED._value.get() - self._before)


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.goes_on.set()


@pytest.fixture
def line(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """One whose spans wait for a flush, or for a full batch."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "20")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    line = Line(collector)
    yield line
    collector.goes_on.set()
    line.provider.shutdown()


def test_a_span_is_exported(line: Line, collector: Collector) -> None:
    line.end(3)

    assert line.ledger.outstanding == 3
    assert line.provider.force_flush()
    assert collector.taken == ["a", "a", "a"]
    assert (line.ledger.exported, line.ledger.lost, line.ledger.outstanding) == (3, 0, 0)


def test_a_span_that_was_not_sampled_is_none(collector: Collector) -> None:
    line = Line(collector)
    line.provider.sampler = ALWAYS_OFF

    line.end(3)
    line.processor.on_end(ReadableSpan("without a context"))

    assert line.ledger.outstanding == 0
    line.provider.shutdown()


def test_a_full_queue_takes_no_more_and_every_span_is_accounted_for(line: Line, collector: Collector) -> None:
    collector.goes_on.clear()
    line.end(10)
    until(lambda: collector.tried == 1)

    line.end(90)
    assert line.ledger.outstanding == 10 + 20
    assert line.dropped == 70

    collector.goes_on.set()
    assert line.provider.force_flush()
    assert (len(collector.taken), line.dropped, line.ledger.outstanding) == (30, 70, 0)


def test_every_span_of_many_threads_is_accounted_for(line: Line, collector: Collector) -> None:
    threads = [threading.Thread(target=line.end, args=[500]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert line.provider.force_flush()
    assert len(collector.taken) == line.ledger.exported
    assert line.ledger.exported + line.dropped == 4000


@pytest.mark.parametrize("failure", [True, OSError("no way")])
def test_a_batch_that_fails_is_lost_and_said_once(
    line: Line, collector: Collector, caplog: pytest.LogCaptureFixture, failure: Exception | bool
) -> None:
    collector.fails = failure
    line.end(3)
    line.provider.force_flush()
    line.end(4)
    line.provider.force_flush()

    assert (line.dropped, line.ledger.outstanding) == (7, 0)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "Spans cannot be sent to collector:4317: "
        + ("the exporter does not say why; 3 were lost" if failure is True else "OSError('no way'); 3 were lost")
    )


def test_the_end_of_an_outage_says_what_it_has_cost(
    line: Line, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    collector.fails = True
    line.end(5)
    line.provider.force_flush()
    collector.fails = False
    line.end(1)
    line.provider.force_flush()

    assert caplog.messages[1:] == ["Spans can be sent to collector:4317 again; 5 were lost"]


def test_a_processor_that_fails_loses_the_span_and_nothing_else(
    line: Line, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(span: ReadableSpan) -> None:
        raise MemoryError

    monkeypatch.setattr(line.processor._batches, "on_end", fail)
    monkeypatch.setattr(errors, "_last_logged", {})

    line.end(1)

    assert (line.dropped, line.ledger.outstanding) == (1, 0)
    assert "BoundedSpanProcessor.on_end failed" in caplog.text


def test_a_processor_that_fails_after_it_was_settled_counts_once(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(span: ReadableSpan) -> None:
        line.ledger.settle()
        raise MemoryError

    monkeypatch.setattr(line.processor._batches, "on_end", fail)

    line.end(1)

    assert line.dropped == 1


def test_a_flush_that_was_in_vain_is_not_tried_again_until_a_batch_gets_through(
    line: Line, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.goes_on.clear()
    line.end(1)
    assert not line.provider.force_flush(10)
    line.end(1)
    assert not line.provider.force_flush()
    assert caplog.messages == ["Spans cannot be sent to collector:4317: no answer within 0.01 s, and 1 wait"]

    collector.goes_on.set()
    until(lambda: line.ledger.exported)
    assert line.provider.force_flush()
    assert line.dropped == 0


def test_a_shutdown_exports_what_waits_and_later_spans_are_lost(line: Line, collector: Collector) -> None:
    line.end(3)
    line.provider.shutdown()
    line.end(2)
    line.provider.shutdown()

    assert len(collector.taken) == 3
    assert line.dropped == 2
    assert collector.shutdowns == 1


@pytest.mark.parametrize("outcome", [True, False])
def test_a_shutdown_waits_no_longer_than_patience_and_what_was_not_confirmed_is_lost(
    line: Line,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    outcome: bool,
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    collector.goes_on.clear()
    collector.fails = not outcome
    line.end(15)

    line.provider.shutdown()

    assert (line.dropped, line.ledger.outstanding) == (15, 0)
    assert collector.shutdowns == 1
    (said,) = caplog.messages
    assert said == "15 spans were lost at exit: collector:4317 has not answered in time"

    collector.goes_on.set()
    worker = line.processor._batches._batch_processor._worker_thread
    worker.join(DEADLINE)
    assert not worker.is_alive()
    assert line.dropped == 15
    assert caplog.messages == [said]
    assert collector.tried == 1


def test_a_shutdown_after_a_flush_in_vain_does_not_wait_at_all(line: Line, collector: Collector) -> None:
    collector.goes_on.clear()
    line.end(1)
    assert not line.provider.force_flush(10)

    line.provider.shutdown()  # `PATIENCE` is 5 s, and the collector holds still

    assert line.dropped == 1
    assert not collector.goes_on.is_set()


def test_a_flush_by_whoever_shuts_down_says_that_it_was_in_vain_and_a_second_one_does_not_wait(
    line: Line, collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(flushing, "PATIENCE", DEADLINE)
    monkeypatch.setattr(flushing, "LIMIT", 0.02)
    collector.goes_on.clear()
    line.end(2)

    assert not flushing.flush(line.provider)
    monkeypatch.setattr(flushing, "LIMIT", DEADLINE)
    assert not flushing.flush(line.provider)
    line.provider.shutdown()

    assert caplog.messages == [
        "Spans cannot be sent to collector:4317: no answer within 0.02 s, and 2 wait",
        "2 spans were lost at exit: collector:4317 has not answered in time",
    ]
    assert not collector.goes_on.is_set()


def test_who_flushes_while_another_does_waits_no_longer_than_that_one(line: Line, collector: Collector) -> None:
    collector.goes_on.clear()
    line.end(1)
    first = threading.Thread(target=line.provider.force_flush, args=[200])
    first.start()
    until(lambda: collector.tried)

    assert not line.provider.force_flush(int(DEADLINE * 1000))
    first.join()
    assert not collector.goes_on.is_set()


@pytest.fixture
def terminated(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The SIGTERM that a handler has got which was installed by somebody else."""
    before, numbers = signal.getsignal(signal.SIGTERM), list[int]()
    monkeypatch.setattr(signals, "_methods", {})
    signal.signal(signal.SIGTERM, lambda number, frame: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGTERM, before)


def test_a_signal_exports_what_waits_and_from_then_on_every_span_when_it_ends(
    terminated: list[int], line: Line, collector: Collector
) -> None:
    line.end(3)
    os.kill(os.getpid(), signal.SIGTERM)
    assert (len(collector.taken), terminated) == (3, [signal.SIGTERM])

    line.end(2)
    assert (len(collector.taken), line.ledger.outstanding) == (5, 0)


def test_a_server_that_puts_its_own_handler_in_place_of_ours_does_not_keep_the_signal_from_us(
    line: Line, collector: Collector, terminated: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic() + module.LISTEN_INTERVAL
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    line.end(1)
    os.kill(os.getpid(), signal.SIGTERM)

    assert (len(collector.taken), terminated) == (1, [signal.SIGTERM])


def test_an_event_loop_is_held_up_for_a_moment_and_who_sends_the_signal_again_waits_for_the_spans(
    line: Line, collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "HOLD", 0.01)
    collector.goes_on.clear()
    line.end(3)

    async def serve() -> None:
        line.processor.terminate()
        assert line.ledger.outstanding == 3
        threading.Timer(0.05, collector.goes_on.set).start()
        line.processor.terminate()

    asyncio.run(serve())

    assert len(collector.taken) == 3
    assert caplog.messages == ["Spans cannot be sent to collector:4317: no answer within 0.01 s, and 3 wait"]


def test_a_collector_that_hangs_is_waited_for_once_by_a_process_that_was_told_to_end(
    line: Line, collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LIMIT", 0.01)
    collector.goes_on.clear()
    line.end(3)
    line.processor.terminate()
    monkeypatch.setattr(module, "LIMIT", DEADLINE)
    line.end(2)
    line.processor.terminate()

    assert not collector.goes_on.is_set()
    assert caplog.messages == ["Spans cannot be sent to collector:4317: no answer within 0.01 s, and 3 wait"]
    line.provider.shutdown()
    assert caplog.messages[1:] == ["5 spans were lost at exit: collector:4317 has not answered in time"]


def test_what_was_lost_and_not_said_is_said_before_the_end(
    line: Line, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.fails = True
    line.end(3)
    line.provider.force_flush()
    line.end(2)
    line.processor.terminate()

    why = "the exporter does not say why"
    assert caplog.messages == [
        f"Spans cannot be sent to collector:4317: {why}; 3 were lost",
        f"2 spans were lost on the way to collector:4317: {why}",
    ]


def test_a_forked_process_was_not_told_to_end(line: Line, collector: Collector) -> None:
    line.processor.terminate()
    line.processor.after_fork()
    line.end(1)

    assert line.ledger.outstanding == 1


def test_a_forked_process_begins_with_nothing_and_with_an_exporter_of_its_own(
    line: Line, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.end(3)
    monkeypatch.setattr(module, "_processors", {line.processor})
    others = Collector()
    monkeypatch.setattr(line.processor._exporter, "_make", lambda: others)

    module._after_fork()
    line.processor._batches._batch_processor._queue.clear()  # as the SDK does in a child
    assert line.ledger.outstanding == 0
    line.end(2, "b")
    line.provider.force_flush()

    assert (collector.taken, others.taken) == ([], ["b", "b"])


def test_a_forked_process_that_has_sent_nothing_has_no_connection_to_close(line: Line, collector: Collector) -> None:
    module._after_fork()
    line.provider.shutdown()

    assert collector.shutdowns == 0


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (2048, 512, 5000)),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "100"}, (100, 100, 5000)),
        ({"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "7", "OTEL_BSP_SCHEDULE_DELAY": "20"}, (2048, 7, 20)),
    ],
)
def test_the_variables_of_the_batch_processor_are_obeyed(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, variables: dict[str, str], expected: tuple[int, ...]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    line = Line(collector)
    batches: Any = line.processor._batches._batch_processor
    found = (batches._max_queue_size, batches._max_export_batch_size, batches._schedule_delay_millis)

    assert (line.ledger.size, *found) == (expected[0], *expected)
    line.provider.shutdown()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096"),
    ],
)
def test_what_is_wrong_with_them_is_said(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=f"{name}='?{value}'? is not valid"):
        Line(collector)


@pytest.mark.parametrize("receiver_class", [GrpcReceiver, HttpReceiver])
def test_what_a_real_exporter_says_of_its_tries_is_the_reason_and_nothing_else_is_logged(
    receiver_class: type, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1.5")
    if receiver_class is GrpcReceiver:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Exporter
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Exporter
    receiver = receiver_class(free_port())
    line = Line(Exporter(f"http://{receiver.endpoint}"))

    line.end(1)
    line.provider.force_flush()
    (said,) = caplog.messages
    with receiver:
        line.end(1, "b")
        assert line.provider.force_flush()

    assert "refused" in said
    assert line.dropped == 1
    assert [span.name for span in receiver.inbox.spans] == ["b"]
    line.provider.shutdown()
