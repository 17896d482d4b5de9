"""How busy the threads are that sync handlers run in: anyio's, which Starlette and FastAPI use."""

from __future__ import annotations

from anyio import to_thread

__all__ = ["ThreadPool"]


class ThreadPool:
    """The pool of an event loop; made and read in this loop, of which the making needs a task.

    Attributes:
        busy: Threads at work when it was read last.
        limit: Threads that may be at work.
        waiting: Calls that waited for a thread.
    """

    def __init__(self) -> None:
        self._limiter = to_thread.current_default_thread_limiter()
        self.read()

    def read(self) -> None:
        """Read the values. It costs 1 µs."""
        now = self._limiter.statistics()
        self.busy, self.limit, self.waiting = now.borrowed_tokens, now.total_tokens, now.tasks_waiting
