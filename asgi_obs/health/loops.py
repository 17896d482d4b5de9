"""What anyio leaves out: tasks that belong to nobody, and calls from any thread into an event loop.

anyio's tasks belong to whoever started them, and its threads hold up the end of the process. Here is what asyncio and
trio have in common beyond that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Final

from anyio import get_cancelled_exc_class

__all__ = ["EventLoop", "current_loop", "spawn"]

_tasks: Final[set[asyncio.Task[None]]] = set()


@dataclass(frozen=True, slots=True)
class EventLoop:
    """An event loop, for other threads.

    Attributes:
        call_soon: Has a function called in it; raises RuntimeError when the loop has ended.
        is_closed: Whether it will never run again, as far as that can be known.
    """

    call_soon: Callable[[Callable[[], object]], object]
    is_closed: Callable[[], bool]


def current_loop() -> EventLoop:
    """The event loop that the calling task runs in.

    Raises:
        RuntimeError: There is none.
    """
    if _is_asyncio():
        loop = asyncio.get_running_loop()
        return EventLoop(loop.call_soon_threadsafe, loop.is_closed)
    from trio.lowlevel import current_trio_token

    # trio cancels every task when it ends: these know it without asking.
    return EventLoop(current_trio_token().run_sync_soon, bool)


def spawn(
    function: Callable[[], Coroutine[Any, Any, None]], context: Context, end: Callable[[], object]
) -> Callable[[], object]:
    """Run a function in a task of its own, which ends with the event loop at the latest.

    Args:
        function: What to run; it should not raise.
        context: The context variables that the task has.
        end: Called when the task has ended, even if it was cancelled before it could begin.

    Returns:
        What cancels the task, called in its event loop. asyncio cancels it once, and it may go on; trio cancels it
        wherever it waits from then on.

    Raises:
        RuntimeError: There is no event loop, or it is about to end.
    """
    if _is_asyncio():
        # Python 3.10 takes no context for a task: a task copies the one in which it is made.
        task: asyncio.Task[None] = context.run(asyncio.get_running_loop().create_task, function())
        _tasks.add(task)  # the event loop itself holds its tasks weakly
        task.add_done_callback(_tasks.discard)
        task.add_done_callback(lambda _: end())
        return task.cancel
    return _spawn_in_trio(function, context, end)


def _spawn_in_trio(
    function: Callable[[], Coroutine[Any, Any, None]], context: Context, end: Callable[[], object]
) -> Callable[[], object]:
    from trio import CancelScope
    from trio.lowlevel import spawn_system_task

    scope = CancelScope()

    async def run() -> None:
        try:
            with scope:
                await function()
        finally:
            end()

    spawn_system_task(run, context=context)
    return scope.cancel


def _is_asyncio() -> bool:
    return get_cancelled_exc_class() is asyncio.CancelledError
