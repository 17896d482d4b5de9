"""`/tasks`: what the threads and the asyncio tasks of this process are doing, as stacks.

A stack is a list of `file:line function`, the innermost last: no source, no arguments, no local variables. It is taken
in the event loop, for only there tasks stand still: some microseconds for each task, of which there are at most
`MAX_TASKS`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from types import FrameType
from typing import Any, Final

from asgi_obs.logs.safe import escape
from asgi_obs.ops.answer import Answer, json_answer
from asgi_obs.ops.request import OpsRequest

__all__ = ["Tasks"]

MAX_TASKS: Final = 500
"""Tasks in one answer, and as many threads."""

MAX_FRAMES: Final = 50
"""Of one stack, the innermost."""

MAX_TEXT: Final = 200
"""Characters of a name that the application has chosen."""

_NO_LOOP: Final = "not in an event loop of asyncio"

_FRAMES: Final = ("cr_frame", "gi_frame", "ag_frame")
_AWAITED: Final = ("cr_await", "gi_yieldfrom", "ag_await")
"""Of coroutines, generators and async generators: https://docs.python.org/3/library/inspect.html#types-and-members"""


class Tasks:
    """The endpoint."""

    async def __call__(self, _request: OpsRequest) -> Answer:
        """Answer a request."""
        return json_answer({"pid": os.getpid(), **_threads(), **_tasks()})


def _threads() -> dict[str, Any]:
    known = {thread.ident: thread for thread in threading.enumerate()}
    frames = sys._current_frames()
    threads = [_thread(known.get(ident), frame) for ident, frame in islice(frames.items(), MAX_TASKS)]
    left_out = len(frames) - len(threads)
    frames.clear()  # our own frame is among them: without this only the garbage collector could free them all
    return {"threads": threads, "threads_left_out": left_out}


def _thread(thread: threading.Thread | None, frame: FrameType) -> dict[str, Any]:
    about = {"name": None, "daemon": None} if thread is None else {"name": _named(thread.name), "daemon": thread.daemon}
    return {**about, "stack": _stack([*islice(_callers(frame), MAX_FRAMES)][::-1])}


def _tasks() -> dict[str, Any]:
    try:
        current, tasks = asyncio.current_task(), asyncio.all_tasks()
    except RuntimeError:  # trio: its tasks are reached by instruments only, which have to be there from the start
        return {"tasks": None, "reason": _NO_LOOP}
    shown = [_task(task, is_current=task is current) for task in islice(tasks, MAX_TASKS)]
    return {"tasks": shown, "tasks_left_out": len(tasks) - len(shown)}


def _task(task: asyncio.Task[Any], *, is_current: bool) -> dict[str, Any]:
    coroutine = task.get_coro()
    return {
        "name": _named(task.get_name()),
        "coroutine": _named(getattr(coroutine, "__qualname__", type(coroutine).__qualname__)),
        "state": "running" if is_current else "waiting",
        "stack": _stack(_awaiting(coroutine)),
    }


def _stack(frames: Iterable[FrameType]) -> list[str]:
    """The innermost of some frames, of which the innermost is the last."""
    return [_place(frame) for frame in deque(frames, MAX_FRAMES)]


def _place(frame: FrameType) -> str:
    code = frame.f_code
    function = getattr(code, "co_qualname", code.co_name)  # Python 3.11 and later have the first
    return escape(f"{code.co_filename}:{frame.f_lineno} {function}")


def _named(text: str) -> str:
    return escape(text[:MAX_TEXT])


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame, and those that called it."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _awaiting(coroutine: Any) -> Iterator[FrameType]:
    """The frame of a coroutine, and those of what it awaits; the task itself only tells the first."""
    while coroutine is not None:
        frame = _first(coroutine, _FRAMES)
        if frame is not None:
            yield frame
        coroutine = _first(coroutine, _AWAITED)


def _first(coroutine: Any, names: Iterable[str]) -> Any:
    return next((value for name in names if (value := getattr(coroutine, name, None)) is not None), None)
