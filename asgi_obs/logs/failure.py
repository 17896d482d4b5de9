"""An exception -> the `error` of a line: its type and message, its causes, the members of a group, its stack.

Made for every record with an exception. Without causes it costs about 1.5 µs. Its stack costs what `traceback` takes:
4 µs a frame with Python 3.10, and 50 from 3.11 on, which marks the failing part of each line. All of it is bounded,
whatever was raised, and never holds the values of local variables.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, groupby, islice
from pathlib import Path
from traceback import FrameSummary, StackSummary, TracebackException
from typing import Any, Final, TypeAlias

from asgi_obs.classify import error_type
from asgi_obs.logs.safe import safe_text

__all__ = ["describe"]

MAX_CAUSES: Final = 10
MAX_MEMBERS: Final = 30
"""Of all groups in one error together; so their depth is bounded too."""

MAX_FRAMES: Final = 100
"""Of one exception. One that is repeated, as in an endless recursion, counts once: `traceback` folds it."""

MAX_STACK: Final = 64 * 1024
"""Characters of the stack, with those of all causes and members."""

MAX_EXCEPTIONS: Final = 200
MAX_DEPTH: Final = 5_000
"""Exceptions, and frames of all of them, that `traceback` is given to read: it has no bounds of its own."""

_OURS: Final = str(Path(__file__).parents[1] / "_")[:-1]
"""How the file names of this package begin."""

_Groups: TypeAlias = "deque[tuple[dict[str, Any], Sequence[BaseException]]]"


def describe(error: BaseException, *, stack: bool) -> dict[str, Any]:
    """Describe an exception, unredacted; never raises.

    Args:
        error: The exception. One with `exceptions` is a group, whatever its class: Python 3.10 knows several.
        stack: Add the traceback as Python prints it, without the frames of this library.

    Returns:
        `type` and `message`; of an exception with causes also `causes`, from the nearest on; of a group
        `exceptions`, its members, and `exceptions_left_out`, how many more it has. A member has all of these, a
        cause all but `causes`.
    """
    groups: _Groups = deque()
    described = _entry(error, groups)
    left = MAX_MEMBERS
    while groups:
        entry, members = groups.popleft()
        shown = members[:left]
        left -= len(shown)
        entry["exceptions"] = [_entry(member, groups) for member in shown]
        if len(members) > len(shown):
            entry["exceptions_left_out"] = len(members) - len(shown)
    if stack:
        described["stack"] = _stack_of(error)
    return described


def _entry(error: BaseException, groups: _Groups) -> dict[str, Any]:
    entry = _named(error, groups)
    cause = _cause_of(error)
    if cause is not None and cause is not error:
        causes = islice(_chain(cause, known={id(error)}), MAX_CAUSES)
        entry["causes"] = [_named(cause, groups) for cause in causes]
    return entry


def _named(error: BaseException, groups: _Groups) -> dict[str, Any]:
    """The type and the message; of a group, what is to be filled in later is added to `groups`."""
    entry = {"type": error_type(error), "message": safe_text(error)}
    members = _members_of(error)
    if members:
        groups.append((entry, members))
    return entry


def _chain(error: BaseException | None, known: set[int]) -> Iterator[BaseException]:
    """An exception and its causes, each of them once."""
    while error is not None and id(error) not in known:
        known.add(id(error))
        yield error
        error = _cause_of(error)


def _cause_of(error: BaseException) -> BaseException | None:
    """What Python prints above an exception."""
    try:
        cause = error.__cause__
        if cause is None and not error.__suppress_context__:
            cause = error.__context__
    except Exception:  # noqa: BLE001 - an attribute of somebody else's exception
        return None
    return cause if isinstance(cause, BaseException) else None


def _members_of(error: BaseException) -> Sequence[BaseException]:
    """The members of a group; others may have `exceptions` of any sort."""
    try:
        members = getattr(error, "exceptions", ())
    except Exception:  # noqa: BLE001 - an attribute of somebody else's exception
        return ()
    is_group = type(members) in {list, tuple} and all(isinstance(member, BaseException) for member in members)
    return members if is_group else ()


def _stack_of(error: BaseException) -> str:
    failure: Exception | None = None
    for render in (_with_causes, _alone):
        try:
            return _shortened(render(error))
        except Exception as raised:  # noqa: BLE001 - attributes of somebody else's exception; too deep a recursion
            failure = raised
    return f"<no stack: {type(failure).__name__}>"


def _with_causes(error: BaseException) -> str:
    if not _is_bounded(error):
        return _alone(error)
    # Lines are looked up when they are formatted: those of the frames that stay.
    whole = TracebackException(type(error), error, error.__traceback__, lookup_lines=False, compact=True)
    waiting: deque[TracebackException | None] = deque((whole,))
    while waiting:
        part = waiting.popleft()
        if part is not None:
            _trim(part.stack)
            waiting.extend((part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or ())))
    return "".join(whole.format())


def _is_bounded(error: BaseException) -> bool:
    """Whether an exception is small enough to be read as a whole, with its causes and members."""
    found: dict[int, BaseException] = {}
    waiting = [error]
    frames = 0
    while waiting and len(found) <= MAX_EXCEPTIONS and frames <= MAX_DEPTH:
        current = waiting.pop()
        if id(current) not in found:
            found[id(current)] = current
            frames += sum(1 for _ in islice(traceback.walk_tb(current.__traceback__), MAX_DEPTH + 1))
            waiting.extend(filter(None, (_cause_of(current), *_members_of(current))))
    return not waiting and len(found) <= MAX_EXCEPTIONS and frames <= MAX_DEPTH


def _alone(error: BaseException) -> str:
    """The traceback of an exception that cannot be read as a whole: its own last frames."""
    frames = traceback.extract_tb(error.__traceback__, limit=-MAX_FRAMES)
    _trim(frames)
    return "".join(
        (
            "<no causes, and no frames but the last>\n",
            "Traceback (most recent call last):\n",
            *frames.format(),
            f"{error_type(error)}: {safe_text(error)}\n",
        )
    )


def _trim(frames: StackSummary) -> None:
    """Leave out the frames of this library, unless the error is its own, and the middle of too many."""
    if frames and not frames[-1].filename.startswith(_OURS):
        frames[:] = [frame for frame in frames if not frame.filename.startswith(_OURS)]
    runs = [list(run) for _, run in groupby(frames, key=lambda frame: (frame.filename, frame.lineno, frame.name))]
    if len(runs) > MAX_FRAMES:
        half = MAX_FRAMES // 2
        left_out = sum(map(len, runs[half:-half]))
        note = FrameSummary("...", 0, f"<{left_out} frames left out>", lookup_line=False, line="")
        frames[:] = [*chain(*runs[:half]), note, *chain(*runs[-half:])]


def _shortened(text: str) -> str:
    """A text without its middle if it is too long; by whole lines, or redaction would miss half a secret."""
    if len(text) <= MAX_STACK:
        return text
    lines = text.splitlines(keepends=True)
    head = _count_fitting(lines)
    tail = _count_fitting(lines[:head:-1])
    left_out = len(lines) - head - tail
    return "".join((*lines[:head], f"<{left_out} lines left out>\n", *lines[len(lines) - tail :]))


def _count_fitting(lines: Sequence[str]) -> int:
    """How many lines, from the first on, fit into half of a stack."""
    room = MAX_STACK // 2
    for count, line in enumerate(lines):
        room -= len(line)
        if room < 0:
            return count
    return len(lines)
