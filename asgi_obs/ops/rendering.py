"""Making text of metrics in a thread, in such a way that requests do not notice.

A thread that works takes the interpreter away from the event loop, each time for up to 5 ms, and a request gives it
away several times. So the thread works for 0.1 ms and rests for 0.4 ms. 10,000 series take some 60 ms of work, spread
over 0.3 s; without the rests the 99th percentile of requests would be fifteen times as high
(`python -m tests.benchmarks.scrape`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from time import perf_counter, sleep
from typing import Any, Final

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from asgi_obs.metrics.streaming import stream
from asgi_obs.ops.negotiation import Encoder

__all__ = ["Pace", "compress", "render"]

WORK: Final = 0.0001
"""Seconds of work until the next rest: what a request may have to wait for, each time that it waits."""

REST: Final = 0.0004
"""Seconds of a rest."""

PATIENCE: Final = 2.0
"""Seconds after which there are no more rests: a scraper that gives up has nothing of what was spared."""

GZIP_LEVEL: Final = 6
"""10,000 series shrink to 7 % of their size with it; level 9 takes three times as long for hardly less."""

CHUNK: Final = 4096
"""Bytes to compress between two looks at the clock."""

GZIP: Final = 16
"""https://docs.python.org/3/library/zlib.html#zlib.compressobj: `wbits` with it asks for that format."""


class Pace:
    """Has a thread rest now and then, so that others get to work.

    Args:
        clock: Seconds from any point in time.
        rest: Waits for some seconds.
    """

    def __init__(self, clock: Callable[[], float] = perf_counter, rest: Callable[[float], None] = sleep) -> None:
        self._clock = clock
        self._rest = rest
        self._due = clock() + WORK
        self._end = clock() + PATIENCE

    def keep(self) -> None:
        """Rest if it is time to: call it after every bit of work, it costs 0.1 µs."""
        now = self._clock()
        if self._due <= now < self._end:
            self._rest(REST)
            self._due = self._clock() + WORK


def render(view: Any, encode: Encoder, pace: Pace) -> bytes:
    """The metrics as text.

    Args:
        view: The registry, or something else that an encoder of `prometheus_client` takes.
        encode: The encoder.
        pace: The pace to keep.

    Raises:
        Exception: What a collector raises.
    """
    return encode(_Paced(stream(view), pace))


def compress(data: bytes, pace: Pace) -> bytes:
    """The data in the format of gzip.

    Args:
        data: What to compress.
        pace: The pace to keep: it needs no interpreter, but a core.
    """
    compressor = zlib.compressobj(GZIP_LEVEL, wbits=zlib.MAX_WBITS | GZIP)
    parts = []
    for start in range(0, len(data), CHUNK):
        parts.append(compressor.compress(data[start : start + CHUNK]))
        pace.keep()
    return b"".join((*parts, compressor.flush()))


class _Paced:
    """Families for an encoder, which goes through them and their samples once."""

    def __init__(self, families: Iterable[Metric], pace: Pace) -> None:
        self._families = families
        self._pace = pace

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            paced: Any = copy(family)  # the collector may have kept it
            paced.samples = self._samples(family.samples)
            yield paced

    def _samples(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        for sample in samples:
            self._pace.keep()
            yield sample
