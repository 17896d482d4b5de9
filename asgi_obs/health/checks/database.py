"""A database, through the application's own pool: when that is exhausted, the service cannot work.

It costs one statement on a connection of the pool, and for an engine that is not async a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from asgi_obs.engines import engine_of
from asgi_obs.errors import ConfigurationError
from asgi_obs.health.checks.options import require_seconds
from asgi_obs.health.result import CheckResult

if TYPE_CHECKING:
    from sqlalchemy import Engine, Pool, TextClause

__all__ = ["DatabaseCheck"]

VISIT: Final = "asgi_obs.database"
"""The name of the threads and tasks that are with a database."""


class DatabaseCheck:
    """Takes a connection out of the pool, executes a statement, and puts the connection back, whatever happens.

    It waits no longer than its own `checkout_timeout` for a connection, and the pool's timeout stays as it is for
    everybody else. How long a driver may connect, or wait for an answer, is up to the driver: a statement that hangs
    is given up by the timeout of the registry, but where the engine is not async its connection cannot be put
    back before the driver gives up too (`connect_timeout`, `tcp_user_timeout`).

    It says nothing of a `sqlite://` in memory: SQLAlchemy gives every thread one of its own there, and closes those of
    other threads when there are more than five.

    Args:
        engine: An `Engine` or an `AsyncEngine` of SQLAlchemy 2; the latter works under asyncio only.
        statement: What is executed.
        checkout_timeout: Seconds to wait for a connection.

    Raises:
        MissingExtraError: SQLAlchemy is not installed.
        ConfigurationError: A value is not allowed.
    """

    def __new__(cls, engine: Any, **_options: Any) -> DatabaseCheck:  # noqa: PYI034 - `Self` is not in Python 3.10
        """One whose call is async, if the engine is: the registry looks at that."""
        return object.__new__(_AsyncDatabaseCheck if hasattr(engine, "sync_engine") else cls)

    def __init__(self, engine: Any, *, statement: str = "SELECT 1", checkout_timeout: float = 1.0) -> None:
        self._sync_engine, self._statement = _prepared(engine, statement)
        require_seconds("checkout_timeout", checkout_timeout)
        self._engine = engine
        self._checkout_timeout = checkout_timeout
        self._late: tuple[Pool, Thread] | None = None

    def __call__(self) -> CheckResult | Awaitable[CheckResult]:
        """Check; raises what SQLAlchemy raises."""
        if self._is_one_waiting():
            return self._no_connection()
        pool = self._sync_engine.pool
        connected: Future[None] = Future()
        done: Future[None] = Future()
        thread = Thread(target=self._visit, args=(connected, done), name=VISIT, daemon=True)
        thread.start()
        wait((connected, done), self._checkout_timeout, FIRST_COMPLETED)
        if connected.cancel() and not done.done():
            self._late = pool, thread
            return self._no_connection()
        done.result()
        return self._answered()

    def _is_one_waiting(self) -> bool:
        """Whether a thread of before still waits for a connection of this pool: more of them would pile up."""
        if self._late is None:
            return False
        pool, thread = self._late
        return pool is self._sync_engine.pool and thread.is_alive()

    def _visit(self, connected: Future[None], done: Future[None]) -> None:
        """Nothing stops a thread that waits for a connection: when it gets one too late, it puts it back."""
        try:
            with self._sync_engine.connect() as connection:
                if not connected.set_running_or_notify_cancel():
                    return
                connected.set_result(None)
                connection.execute(self._statement).close()
            done.set_result(None)
        except BaseException as error:  # noqa: BLE001 - it belongs to the one who waits
            done.set_exception(error)

    def _no_connection(self) -> CheckResult:
        return CheckResult.unhealthy(f"no free connection within {self._checkout_timeout:g} s ({self._pool_state()})")

    def _answered(self) -> CheckResult:
        return CheckResult.healthy(f"answers ({self._pool_state()})")

    def _pool_state(self) -> str:
        from sqlalchemy import QueuePool

        pool = self._sync_engine.pool
        if isinstance(pool, QueuePool):  # the only one that counts, with its async kin
            return f"pool size {pool.size()}, checked out {pool.checkedout()}"
        return type(pool).__name__


class _AsyncDatabaseCheck(DatabaseCheck):
    async def __call__(self) -> CheckResult:
        loop = asyncio.get_running_loop()
        connected: asyncio.Future[None] = loop.create_future()
        # In a task of its own: a cancelled statement would cost the pool its connection.
        visit = loop.create_task(self._visit_in_task(connected), name=VISIT)
        visit.add_done_callback(_has_ended)
        try:
            await asyncio.wait((connected, visit), timeout=self._checkout_timeout, return_when=FIRST_COMPLETED)
            if not connected.done() and not visit.done():
                return self._no_connection()
            await asyncio.wait((visit,))
            visit.result()
        finally:
            connected.cancel()
            if not visit.done():
                loop.call_later(self._checkout_timeout, visit.cancel)
        return self._answered()

    async def _visit_in_task(self, connected: asyncio.Future[None]) -> None:
        async with self._engine.connect() as connection:
            if not connected.cancelled():
                connected.set_result(None)
                await connection.execute(self._statement)


def _has_ended(visit: asyncio.Task[None]) -> None:
    if not visit.cancelled():
        visit.exception()  # or asyncio would log what nobody waits for any more


def _prepared(engine: Any, statement: object) -> tuple[Engine, TextClause]:
    """The engine that does the work, and the statement for it."""
    sync_engine = engine_of(engine, option="engine", feature="DatabaseCheck")
    if not isinstance(statement, str) or not statement.strip():
        raise ConfigurationError("statement", statement, "a statement of SQL")
    from sqlalchemy import text

    return sync_engine, text(statement)
