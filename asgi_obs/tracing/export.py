"""The way of spans to a collector: bounded, and every loss is counted.

OpenTelemetry's `BatchSpanProcessor` makes the batches; `BoundedSpanProcessor` stands before it and refuses spans when
the queue is full, `CountedSpanExporter` stands behind it and hears of every batch. So a sampled span that has ended was
exported, is counted in `trace_spans_dropped_total`, or waits; when the process ends none waits any more. What was sent
and not confirmed counts as lost. That costs a lock per span, under a microsecond. This module imports the SDK.

On SIGTERM what waits is sent at once, and from then on every span when it ends: where there is no lifespan nothing of
ours is called any more (`asgi_obs.logs.signals` says what servers do).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import Final
from weakref import WeakSet

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from asgi_obs.errors import SettingsError, report
from asgi_obs.logs.signals import TERMINATE, call_on
from asgi_obs.tracing.flush import LIMIT, PATIENCE, TELLING, SharedWait, within
from asgi_obs.tracing.ledger import SpanLedger
from asgi_obs.tracing.outage import Outages, exporters_warnings
from asgi_obs.tracing.variables import positive_of

__all__ = ["BoundedSpanProcessor", "CountedSpanExporter"]

QUEUE_SIZE: Final = 2048
BATCH_SIZE: Final = 512
DELAY_MILLIS: Final = 5000
"""https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#batch-span-processor"""

CLOSING: Final = 1.0
"""Seconds for a connection to be closed, when `PATIENCE` is over."""

HOLD: Final = 1.0
"""Seconds that SIGTERM may hold up an event loop, which then goes on to end what it does."""

LISTEN_INTERVAL: Final = 0.1
"""Seconds after which it is seen to that SIGTERM is still heard."""


class CountedSpanExporter(SpanExporter):
    """Hands batches to an exporter, and keeps the books.

    Args:
        make: Makes the exporter; once more in a process that was forked, for a connection cannot be shared.
        ledger: The books.
        outages: Is told how it goes.
    """

    def __init__(self, make: Callable[[], SpanExporter], ledger: SpanLedger, outages: Outages) -> None:
        self._make = make
        self._ledger = ledger
        self._outages = outages
        self._exporter: SpanExporter | None = make()
        self._of_parent: SpanExporter | None = None

    def after_fork(self) -> None:
        """Leave the connection to the parent."""
        # Kept, for to free it could mean to use it.
        self._of_parent, self._exporter = self._exporter, None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export a batch; called by one thread at a time."""
        if not self._ledger.take(len(spans)):
            return SpanExportResult.FAILURE
        exported, reason = self._try(spans)
        self._ledger.finish(len(spans), exported=exported)
        if self._ledger.settled:
            pass  # broken off by `shutdown`, which has said so
        elif exported:
            self._outages.succeeded(self._ledger.lost)
        else:
            self._outages.failed(reason, self._ledger.lost)
        return SpanExportResult.SUCCESS if exported else SpanExportResult.FAILURE

    def _try(self, spans: Sequence[ReadableSpan]) -> tuple[bool, str]:
        with exporters_warnings() as warnings:
            try:
                if self._exporter is None:
                    self._exporter = self._make()
                exported = self._exporter.export(spans) is SpanExportResult.SUCCESS
            except Exception as error:  # noqa: BLE001 - fail open: the thread has to live
                return False, repr(error)
        # Of an HTTP exporter the last warning says only that it has given up.
        return exported, max(warnings, key=len, default="the exporter does not say why")

    def shutdown(self) -> None:
        """Close the connection; an export that waits to try again is broken off."""
        exporter, self._exporter = self._exporter, None
        if exporter is not None:
            exporter.shutdown()


class BoundedSpanProcessor(SpanProcessor):
    """Exports spans in batches, in a thread. Nothing here raises; but for SIGTERM the end of a span waits for nothing.

    `OTEL_BSP_MAX_QUEUE_SIZE`, `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` and `OTEL_BSP_SCHEDULE_DELAY` are obeyed.

    Args:
        make_exporter: Makes the exporter.
        destination: Where the spans go, for the log.

    Raises:
        SettingsError: One of the variables has a value that is not allowed.
    """

    def __init__(self, make_exporter: Callable[[], SpanExporter], destination: str) -> None:
        size, batch_size, delay_millis = _limits()
        self._ledger = SpanLedger(size)
        self._outages = Outages(destination, size)
        self._exporter = CountedSpanExporter(make_exporter, self._ledger, self._outages)
        self._batches = BatchSpanProcessor(
            self._exporter,
            max_queue_size=size,
            max_export_batch_size=batch_size,
            schedule_delay_millis=delay_millis,
        )
        self._wait = SharedWait()
        self._terminating = False
        _processors.add(self)
        self._listen()

    @property
    def ledger(self) -> SpanLedger:
        """Where the spans are."""
        return self._ledger

    def after_fork(self) -> None:
        """Start anew: what waits is up to the parent, and so is its connection."""
        self._ledger.start_anew()
        self._outages.start_anew()
        self._exporter.after_fork()
        self._wait.start_anew()
        self._terminating = False

    def on_end(self, span: ReadableSpan) -> None:
        """Have a span wait for the next batch, if it was sampled and there is room."""
        context = span.context
        if context is None or not context.trace_flags.sampled or not self._ledger.admit():
            return
        try:
            self._batches.on_end(span)
        except Exception as error:  # noqa: BLE001 - fail open: the span ends in the middle of a request
            if self._ledger.take(1):
                self._ledger.finish(1, exported=False)
            report("BoundedSpanProcessor.on_end", error)
        if self._terminating:
            within(PATIENCE, self._flush)
        elif time.monotonic() >= self._listen_again:
            self._listen()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what waits; returns whether that was possible in time.

        After one that was not, no other is tried until a batch has got through: they would wait in vain, one by one.
        """
        if not self._ledger.outstanding:
            return True
        seconds = self._wait.left(timeout_millis / 1000, self._ledger.exported)
        if seconds and within(seconds, self._batches.force_flush):
            self._wait.end()
        elif seconds:
            self._wait.give_up(self._ledger.exported)
            self._outages.stalled(seconds, self._ledger.outstanding, last=self._terminating)
        return not self._ledger.outstanding

    def terminate(self) -> None:
        """Export what waits, and from now on every span when it ends: the process may be killed after that.

        Called when SIGTERM comes, in the middle of anything: the work is done in threads.
        """
        is_first, self._terminating = not self._terminating, True
        # A server that has served sends itself the signal again: that is the end, and nothing is held up by it.
        seconds = HOLD if is_first and _in_event_loop() else PATIENCE
        within(seconds + TELLING, lambda: self._flush_at_last(seconds))

    def _flush_at_last(self, seconds: float) -> None:
        if within(seconds, self._flush) and not self._wait.is_over(self._ledger.exported):
            self._outages.tell(self._ledger.lost)
        else:
            self._outages.stalled(seconds, self._ledger.outstanding, last=True)

    def _flush(self) -> bool:
        return self.force_flush(int(LIMIT * 1000))

    def _listen(self) -> None:
        """Hear of SIGTERM. Asked for again and again: servers put handlers of their own in place of ours."""
        self._listen_again = time.monotonic() + LISTEN_INTERVAL
        call_on(TERMINATE, self.terminate)

    def shutdown(self) -> None:
        """Export what waits, but for `PATIENCE` at most, and count the rest as lost."""
        if self._ledger.settled:
            return
        self._ledger.close()
        ended = within(self._wait.left(PATIENCE, self._ledger.exported), self._batches.shutdown)
        self._outages.ended(self._ledger.settle(), self._ledger.lost)
        if not ended:
            within(CLOSING, self._exporter.shutdown)


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _limits() -> tuple[int, int, int]:
    """The size of the queue, that of a batch, and the milliseconds between two batches."""
    size = positive_of("OTEL_BSP_MAX_QUEUE_SIZE", kind=int) or QUEUE_SIZE
    # The SDK would stop at a queue that is smaller than its default batch.
    batch_size = positive_of("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", kind=int) or min(BATCH_SIZE, size)
    if batch_size > size:
        raise SettingsError("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", batch_size, f"at most OTEL_BSP_MAX_QUEUE_SIZE, {size}")
    return size, batch_size, positive_of("OTEL_BSP_SCHEDULE_DELAY", kind=int) or DELAY_MILLIS


_processors: Final[WeakSet[BoundedSpanProcessor]] = WeakSet()


def _after_fork() -> None:
    for processor in list(_processors):
        processor.after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows cannot fork
    # Registered before any processor is made: the SDK's threads find everything renewed when they start.
    os.register_at_fork(after_in_child=_after_fork)
