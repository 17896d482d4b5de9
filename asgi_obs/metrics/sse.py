"""The sse_* families: event streams that are open, how long they stayed and how they ended, and their events.

Part of `MetricsMiddleware`. A stream counts as open from the start of its response on. Its events are counted as
its chunks pass, by a parser that holds one short line at most, whatever is sent. The format is that of
https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from asgi_obs.exchange import Exchange
from asgi_obs.metrics.catalogue import create
from asgi_obs.metrics.labels import OTHER, EndpointLabel, Family, family
from asgi_obs.types import Message

__all__ = ["EventParser", "EventStream", "EventStreamMetrics"]

DEFAULT_TYPE: Final = "message"
"""The type of an event that names none."""

MAX_LINE: Final = 80
"""Bytes of a line that are looked at: the field `event: ` and the longest type that is kept, and some more."""

_TYPE: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,63}")
_BOM: Final = b"\xef\xbb\xbf"


class EventParser:
    """Reads an event stream chunk by chunk and tells the types of its events.

    An event counts where a client would dispatch it: at the blank line behind it, if it has data. Comments, which
    keep connections alive, are none.
    """

    __slots__ = ("_after_cr", "_at_start", "_has_data", "_line", "_type")

    def __init__(self) -> None:
        self._line = b""
        self._type = DEFAULT_TYPE
        self._has_data = self._after_cr = False
        self._at_start = True

    def feed(self, chunk: bytes) -> list[str]:
        """The types of the events that end in this chunk. A type that cannot be a label is `__other__`."""
        if self._after_cr and chunk:  # a CR ended the last chunk: an LF here belongs to it
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        types: list[str] = []
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._extend(chunk, start, end)
            if self._end_line():
                types.append(self._type)
                self._type = DEFAULT_TYPE
            start = end + 1
        self._extend(chunk, start, len(chunk))
        return types

    def _extend(self, chunk: bytes, start: int, end: int) -> None:
        self._line += chunk[start : min(end, start + MAX_LINE - len(self._line))]

    def _end_line(self) -> bool:
        """Take in the line; return whether it ends an event."""
        line, self._line = self._line, b""
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            complete, self._has_data = self._has_data, False
            if not complete:
                self._type = DEFAULT_TYPE
            return complete
        field, _, value = line.partition(b":")
        if field == b"data":
            self._has_data = True
        elif field == b"event":
            self._type = _type_of(value.removeprefix(b" "))
        return False


def _type_of(value: bytes) -> str:
    if not value:
        return DEFAULT_TYPE
    return value.decode("ascii") if _TYPE.fullmatch(value) else OTHER


class EventStreamMetrics:
    """Moves the sse_* families.

    Args:
        registry: Where they are scraped.
        endpoint: Makes the endpoint label.
        max_series: The cap on the series of each.
    """

    def __init__(self, registry: CollectorRegistry, *, endpoint: EndpointLabel, max_series: int) -> None:
        self._endpoint = endpoint
        self._active: Gauge = create("sse_connections_active", registry)
        self._events: Family[Counter] = family("sse_events_sent_total", registry, max_series=max_series)
        self._duration: Family[Histogram] = family("sse_connection_duration_seconds", registry, max_series=max_series)

    def started(self) -> EventStream:
        """The response of an event stream starts."""
        self._active.inc()
        return EventStream(self._events.child)

    def ended(self, exchange: Exchange) -> None:
        """An event stream ended, or its start could not be sent."""
        self._active.dec()
        labels = (self._endpoint(exchange.route, exchange), str(exchange.outcome))
        self._duration.child(labels).observe(exchange.duration)


class EventStream:
    """What is remembered of one event stream: how far its parser is.

    Args:
        child: Returns the counter of an event type.
    """

    __slots__ = ("_child", "_parser")

    def __init__(self, child: Callable[[tuple[str, ...]], Counter]) -> None:
        self._child = child
        self._parser = EventParser()

    def message(self, exchange: Exchange, message: Message) -> None:  # noqa: ARG002 - as WebSocketSession.message
        """Count the events that end in a chunk."""
        for event_type in self._parser.feed(message.get("body", b"")):
            self._child((event_type,)).inc()
