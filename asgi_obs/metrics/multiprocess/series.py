"""The keys of the files: what a value is, in a text that is the same in every process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain
from typing import Final, TypeAlias

__all__ = ["ABSORBED", "HELP", "Entry", "Series", "combine", "decode", "encode", "help_key", "writable"]

HELP: Final = "help"
"""The type of a key that tells the help of a family in place of a name; its value says nothing."""

ABSORBED: Final = "absorbed"
"""The type of a key that names a file whose values are in this one; its value says nothing."""

MAX_DECODED: Final = 1 << 16
"""Keys that are kept as they were taken apart, some 50 MB; where there are more, each costs 5 µs at every scrape."""

Entry: TypeAlias = tuple[float, float]
"""A value, and the time it was set if that matters."""


@dataclass(frozen=True, slots=True)
class Series:
    """What a key says.

    Attributes:
        type: counter, gauge, histogram or summary; or `HELP`, or `ABSORBED`.
        mode: What a gauge shows of several processes, in the words of `prometheus_client`; else empty.
        family: The name of the family.
        name: The name of the sample.
        labels: Names and values, by name.
        outlives: Whether the value still counts when its process has ended.
        by_process: Whether each process is shown by itself, with its PID.
    """

    type: str
    mode: str
    family: str
    name: str
    labels: tuple[tuple[str, str], ...]
    outlives: bool
    by_process: bool


def encode(
    kind: str, mode: str, family: str, name: str, labelnames: Sequence[str] = (), labelvalues: Sequence[str] = ()
) -> str:
    """The key of a series, the same whatever the order of its labels; see `Series`."""
    labels = sorted(zip(labelnames, labelvalues, strict=True))
    return writable(json.dumps([kind, mode, family, name, labels], ensure_ascii=False, separators=(",", ":")))


def writable(text: str) -> str:
    """The text with `?` for each lone surrogate: one would make every scrape of every process fail, for good."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


@cache  # one for each family
def help_key(family: str, text: str) -> str:
    """The key that tells the help of a family."""
    return encode(HELP, "", family, text)


@lru_cache(MAX_DECODED)  # what was in files that are gone has to go too
def decode(key: str) -> Series:
    """What a key says.

    Raises:
        ValueError: It is none of ours.
    """
    try:
        kind, mode, family, name, labels = json.loads(key)
        pairs = tuple((label, value) for label, value in labels)
    except (TypeError, RecursionError):
        raise ValueError(f"{key!r} is no key") from None
    if not all(isinstance(part, str) for part in (kind, mode, family, name, *chain(*pairs))):
        raise ValueError(f"{key!r} is no key")
    by_process = mode in {"all", "liveall"}
    return Series(kind, mode, family, name, pairs, not (by_process or mode.startswith("live")), by_process)


def combine(series: Series, present: Entry, other: Entry) -> Entry:
    """The entry of a series for two processes that both have one."""
    rule = series.mode.removeprefix("live")
    if rule == "min":
        return min(present, other)
    if rule == "max":
        return max(present, other)
    if rule == "mostrecent":
        return max(present, other, key=lambda entry: entry[1])
    return present[0] + other[0], 0.0
