"""The metrics of a registry as text, in the format the scraper asks for, for as many scrapers as there may be.

A rendering runs in a thread, off the event loop, and scrapes that ask for the same at the same time share one, to its
end, whoever of them goes away. There are limits, as promhttp has them (`MaxRequestsInFlight` and `Timeout` in
https://pkg.go.dev/github.com/prometheus/client_golang/prometheus/promhttp#HandlerOpts): who comes too many or waits
too long gets a 503. A rendering that hangs keeps its thread, one of few, until it returns; nothing piles up behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Final, TypeAlias

from anyio import move_on_after
from prometheus_client import CollectorRegistry

from asgi_obs.errors import report
from asgi_obs.health.concurrency import SingleFlight, ThreadCall, ThreadRoom
from asgi_obs.health.forks import ForkSafeLock
from asgi_obs.metrics.multiprocess import view_of
from asgi_obs.metrics.process.monitor import sample_if_stale
from asgi_obs.ops.answer import Answer, Header, json_answer
from asgi_obs.ops.negotiation import Encoder, accepts_gzip, choose_format
from asgi_obs.ops.rendering import Pace, compress, render

__all__ = ["Exposition"]

MAX_RENDERINGS: Final = 4
"""Renderings at a time, each of something else: another format, other names, compressed or not."""

TIMEOUT: Final = 10.0
"""Seconds that a scrape may take; Prometheus waits for as long."""

_TOO_MANY: Final = json_answer({"detail": "too many scrapes at a time"}, status=503)
_TOO_LATE: Final = json_answer({"detail": "the metrics could not be read in time"}, status=503)

_VARY: Final[Header] = (b"vary", b"accept, accept-encoding")

_Kind: TypeAlias = tuple[str, bool, frozenset[str]]
"""What a scrape asks for: the content type, whether compressed, the names."""


@dataclass(frozen=True)
class _Rendering:
    call: ThreadCall[Answer]
    deadline: float


class Exposition:
    """Renders the metrics of one registry.

    Args:
        registry: The metrics.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._flight: SingleFlight[Answer] = SingleFlight()
        self._threads = ThreadRoom("asgi_obs.exposition", size=MAX_RENDERINGS)
        self._lock = ForkSafeLock()
        self._renderings: dict[_Kind, _Rendering] = {}

    async def answer(self, accept: str = "", accept_encoding: str = "", names: Iterable[str] = ()) -> Answer:
        """Render the metrics; a 503 if there are too many renderings, or if it takes more than 10 s.

        Args:
            accept: The request's `Accept`.
            accept_encoding: Its `Accept-Encoding`.
            names: The names of the samples to render; default all.

        Raises:
            Exception: What a collector raises.
        """
        encode, content_type = choose_format(accept)
        kind = (content_type, accepts_gzip(accept_encoding), frozenset(names))
        return await self._flight.run(kind, partial(self._answer, kind, partial(self._render, encode, kind)))

    async def _answer(self, kind: _Kind, function: Callable[[], Answer]) -> Answer:
        rendering = self._begin(kind, function)
        if rendering is None:
            return _TOO_MANY
        error = TimeoutError(f"a collector has not returned within {TIMEOUT} seconds")
        try:
            with move_on_after(rendering.deadline - monotonic()):
                return await self._threads.outcome(rendering.call)
        except TimeoutError as raised:  # such as that other processes have the files of the metrics locked
            error = raised
        finally:
            self._forget()
        report("Exposition.answer", error)
        return _TOO_LATE

    def _begin(self, kind: _Kind, function: Callable[[], Answer]) -> _Rendering | None:
        """The rendering of a kind that is going on, even if it is overdue, or a new one; None if there is no room."""
        self._forget()
        with self._lock:
            if kind not in self._renderings:
                if len(self._renderings) >= MAX_RENDERINGS:
                    return None
                self._renderings[kind] = _Rendering(self._threads.submit(function), monotonic() + TIMEOUT)
            return self._renderings[kind]

    def _forget(self) -> None:
        """Let go of what has ended, and of its text."""
        with self._lock:
            self._renderings = {kind: it for kind, it in self._renderings.items() if it.call in self._threads}

    def _render(self, encode: Encoder, kind: _Kind) -> Answer:
        content_type, compressed, names = kind
        sample_if_stale()
        pace = Pace()
        view = view_of(self._registry, pace.keep)
        body = render(view.restricted_registry(names) if names else view, encode, pace)
        headers: tuple[Header, ...] = ((b"content-type", content_type.encode("ascii")), _VARY)
        if compressed:
            body = compress(body, pace)
            headers += ((b"content-encoding", b"gzip"),)
        return Answer(body, headers)
