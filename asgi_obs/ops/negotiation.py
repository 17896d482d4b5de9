"""The format and the compression of a scrape: what the scraper wants most of what there is.

Formats: Prometheus text 0.0.4 (default) and 1.0.0, OpenMetrics 1.0.0;
https://prometheus.io/docs/instrumenting/content_negotiation/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from prometheus_client.exposition import choose_encoder

__all__ = ["Encoder", "accepts_gzip", "by_preference", "choose_format"]

Encoder: TypeAlias = Callable[[Any], bytes]
"""Makes text of the families that the `collect()` of its argument returns."""

OPENMETRICS: Final = "application/openmetrics-text"

_ANY_TEXT: Final = frozenset({"text/plain", "text/*", "*/*"})
_VERSIONS: Final = {OPENMETRICS: frozenset({"", "1.0.0"}), "text/plain": frozenset({"", "0.0.4", "1.0.0"})}


def choose_format(accept: str) -> tuple[Encoder, str]:
    """The encoder and the content type: those of the most wanted media range that we have.

    Args:
        accept: The request's `Accept`.
    """
    for media_range in by_preference(accept):
        media_type, *parameters = (part.strip() for part in media_range.split(";"))
        version = next((p.removeprefix("version=") for p in parameters if p.startswith("version=")), "")
        # The version would go into our content type as it came: only one that we know may.
        if version in _VERSIONS.get(media_type, ()) or media_type in _ANY_TEXT - _VERSIONS.keys():
            return choose_encoder(media_range)
    return choose_encoder("")


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether the body may be compressed.

    Args:
        accept_encoding: The request's `Accept-Encoding`.
    """
    return any(coding == "gzip" for coding in by_preference(accept_encoding.lower()))


def by_preference(header: str) -> Iterator[str]:
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
