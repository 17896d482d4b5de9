"""Folding: the files of processes that have ended become one, so that totals stay and files do not pile up.

Happens when a process starts and at every scrape; costs a lock of each file when nobody has died. A process may be
killed at any instant of it. The new file is written under another name, together with the names of those whose values
it has absorbed; renaming it is what counts. Absorbed files are removed behind that, by the next one if need be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from asgi_obs.metrics.multiprocess.directory import FOLDED, exclusive, is_live, process_files
from asgi_obs.metrics.multiprocess.file import MetricFile, read_entries
from asgi_obs.metrics.multiprocess.series import ABSORBED, Entry, combine, decode, encode

__all__ = ["Snapshot", "Totals", "add", "fold", "take_snapshot"]

NEW: Final = "folded.new"
DAMAGED: Final = ".damaged"
"""The end of the name of a file that was set aside."""

Totals: TypeAlias = dict[str, Entry]
"""Entries by key."""


@dataclass
class Snapshot:
    """What the files said at one instant.

    Attributes:
        ended: The totals of all processes that have ended.
        live: The entries of each process that lives, by PID; damaged ones raise ValueError.
        problems: What went wrong with single files.
    """

    ended: Totals = field(default_factory=dict)
    live: list[tuple[str, Iterator[tuple[str, float, float]]]] = field(default_factory=list)
    problems: list[Exception] = field(default_factory=list)


def add(totals: Totals, entries: Iterable[tuple[str, float, float]]) -> None:
    """Add the entries of a file to totals.

    Raises:
        ValueError: They are damaged.
    """
    for key, value, time in entries:
        present = totals.get(key)
        totals[key] = (value, time) if present is None else combine(decode(key), present, (value, time))


def take_snapshot(path: Path, patience: float) -> Snapshot:
    """Read all files of a directory, once those of dead processes are folded.

    Args:
        path: The directory.
        patience: Seconds to wait for others that do the same.

    Raises:
        TimeoutError: One of them has not finished in that time.
        OSError: A file cannot be read.
    """
    with exclusive(path, patience):
        found, living = _fold(path)
        for pid, file in living:
            try:
                found.live.append((pid, read_entries(file)))
            except ValueError as error:
                found.problems.append(error)
    return found


def fold(path: Path) -> list[Exception]:
    """Fold what is to be folded, unless somebody else is at it; returns what went wrong with single files.

    Raises:
        OSError: A file cannot be read.
    """
    with suppress(TimeoutError), exclusive(path, 0):
        return _fold(path)[0].problems
    return []


def _fold(path: Path) -> tuple[Snapshot, list[tuple[str, Path]]]:
    found = Snapshot()
    absorbed = _read_folded(path, found)
    living, dead = [], []
    for pid, file in process_files(path):
        if file.name in absorbed:
            continue
        if is_live(file):
            living.append((pid, file))
        elif _absorb(file, found):
            dead.append(file)
    if dead:
        try:
            _write_folded(path, found.ended, [*absorbed, *(file.name for file in dead)])
            _remove(dead)
        except OSError as error:  # all is as it was: they are folded when there is room
            found.problems.append(error)
    return found, living


def _read_folded(path: Path, found: Snapshot) -> set[str]:
    """Read the totals so far; returns the names of the files in them that cannot be removed."""
    file = path / FOLDED
    if not file.exists() or not _absorb(file, found):
        return set()
    absorbed = {decode(key).name: key for key in found.ended if decode(key).type == ABSORBED}
    for key in absorbed.values():
        del found.ended[key]
    left = [path / name for name in absorbed if (path / name).exists()]
    try:
        _remove(left)
    except OSError as error:
        found.problems.append(error)
    return {file.name for file in left if file.exists()}


def _absorb(file: Path, found: Snapshot) -> bool:
    """Add what outlives the process of a file to the totals; a damaged file is set aside."""
    try:
        entries = [entry for entry in read_entries(file) if decode(entry[0]).outlives]
    except ValueError as error:
        found.problems.append(error)
        file.rename(f"{file}{DAMAGED}")
        return False
    add(found.ended, entries)
    return True


def _write_folded(path: Path, totals: Totals, absorbed: Iterable[str]) -> None:
    new = path / NEW
    new.unlink(missing_ok=True)
    file = MetricFile(new)
    try:
        for name in absorbed:
            file.cell(encode(ABSORBED, "", "", name))
        for key, entry in totals.items():
            cells, index = file.cell(key)
            cells[index], cells[index + 1] = entry
    finally:
        file.close()
    new.rename(path / FOLDED)


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink()
