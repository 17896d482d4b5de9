"""The metrics of a registry as text, in the format the scraper asks for.

A rendering runs in a thread, off the event loop, and scrapes that ask for the same at the same time share one.
Formats: Prometheus text 0.0.4 (default) and 1.0.0, OpenMetrics 1.0.0;
https://prometheus.io/docs/instrumenting/content_negotiation/.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from asgi_obs.health.concurrency import SingleFlight, ThreadRoom
from asgi_obs.ops.answer import Answer, Header

__all__ = ["Exposition"]

OPENMETRICS: Final = "application/openmetrics-text"

GZIP_LEVEL: Final = 6
"""10,000 series shrink to 7 % of their size with it; level 9 takes three times as long for hardly less."""

_ANY_TEXT: Final = frozenset({"text/plain", "text/*", "*/*"})
_VERSIONS: Final = {OPENMETRICS: frozenset({"", "1.0.0"}), "text/plain": frozenset({"", "0.0.4", "1.0.0"})}

# More than one rendering at a time only where scrapers ask for different things: they would share one core.
_threads: Final = ThreadRoom("asgi_obs.exposition", size=2)


class Exposition:
    """Renders the metrics of one registry.

    Args:
        registry: The metrics.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._flight: SingleFlight[Answer] = SingleFlight()

    async def answer(self, accept: str = "", accept_encoding: str = "", names: Iterable[str] = ()) -> Answer:
        """Render the metrics.

        Args:
            accept: The request's `Accept`.
            accept_encoding: Its `Accept-Encoding`.
            names: The names of the samples to render; default all.

        Raises:
            Exception: What a collector raises.
        """
        encoder, content_type = _choose_format(accept)
        wanted = frozenset(names)
        compressed = _accepts_gzip(accept_encoding)

        def render() -> Answer:
            registry = self._registry.restricted_registry(wanted) if wanted else self._registry
            body = encoder(registry)
            headers: tuple[Header, ...] = ((b"content-type", content_type.encode("ascii")),)
            if compressed:
                body = gzip.compress(body, GZIP_LEVEL)
                headers += ((b"content-encoding", b"gzip"),)
            return Answer(body, headers)

        return await self._flight.run((content_type, wanted, compressed), lambda: _threads.run(render))


def _choose_format(accept: str) -> tuple[Callable[[Any], bytes], str]:
    """The encoder and the content type: those of the most wanted media range that we have."""
    for media_range in _by_preference(accept):
        media_type, *parameters = (part.strip() for part in media_range.split(";"))
        version = next((p.removeprefix("version=") for p in parameters if p.startswith("version=")), "")
        # The version would go into our content type as it came: only one that we know may.
        if version in _VERSIONS.get(media_type, ()) or media_type in _ANY_TEXT - _VERSIONS.keys():
            return choose_encoder(media_range)
    return choose_encoder("")


def _accepts_gzip(accept_encoding: str) -> bool:
    return any(coding == "gzip" for coding in _by_preference(accept_encoding.lower()))


def _by_preference(header: str) -> Iterator[str]:
    """The elements of an `Accept` header without their weights, the most wanted first, the refused left out."""
    weighted = []
    for element in header.split(","):
        value, *parameters = (part.strip() for part in element.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.lower().startswith("q="):
                weight = _weight(parameter[2:])
            else:
                value += f";{parameter}"
        if weight > 0:
            weighted.append((weight, value))
    weighted.sort(key=lambda item: item[0], reverse=True)  # stable: among equals the first one named
    return (value for _, value in weighted)


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
