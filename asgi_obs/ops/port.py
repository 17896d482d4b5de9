"""The ops app on a port of its own, served by uvicorn from inside the process, in the event loop of the application.

In that loop, for the checks use what belongs to it. The workers of one service share the port: whichever gets a scrape
answers for all of them (`asgi_obs.metrics.multiprocess`). Needs asyncio.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import nullcontext, suppress
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import psutil

from asgi_obs.errors import ConfigurationError, MissingExtraError, report
from asgi_obs.types import ASGIApp

if TYPE_CHECKING:
    import uvicorn

__all__ = ["OpsServer"]

PATIENCE: Final = 1
"""Seconds that open connections have to end in."""


class OpsServer:
    """Serves an application on an address.

    Args:
        app: The application.
        host: The address, or the name of the host.
        port: The port.

    Raises:
        MissingExtraError: uvicorn is not installed.
    """

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        self._app = app
        self._address = (host, port)
        self._running: tuple[uvicorn.Server, asyncio.Task[None]] | None = None
        if find_spec("uvicorn") is None:
            raise MissingExtraError("OPS_PORT", "server")

    def start(self) -> None:
        """Listen, and serve from now on, in the running event loop.

        Raises:
            ConfigurationError: The address cannot be listened on, or the event loop is not one of asyncio.
        """
        if asyncio._get_running_loop() is None:
            raise ConfigurationError("OPS_PORT", self._address[1], "0 under trio: a port of its own needs asyncio")
        listener = self._listen()
        server = _make_server(self._app)
        task = asyncio.get_running_loop().create_task(server.serve(sockets=[listener]), name="asgi_obs.ops")
        task.add_done_callback(partial(_ended, listener))
        self._running = server, task

    def _listen(self) -> socket.socket:
        host, port = self._address
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listener = socket.create_server(address[:2], family=family, reuse_port=hasattr(socket, "SO_REUSEPORT"))
        except OSError as error:
            raise ConfigurationError("OPS_PORT", port, f"a free port of {host}: {error}") from error
        strangers = _strangers(port)
        if strangers:
            listener.close()
            raise ConfigurationError("OPS_PORT", port, f"a port that another service (PID {strangers[0]}) does not use")
        return listener

    async def stop(self) -> None:
        """Serve no more."""
        if self._running is not None:
            (server, task), self._running = self._running, None
            server.should_exit = True
            with suppress(Exception):  # `_ended` has reported it
                await asyncio.wait_for(task, 2 * PATIENCE)


def _strangers(port: int) -> list[int]:
    """The processes that listen on a port and are no workers beside this one; the kernel lets a user's share it."""
    try:
        here = psutil.Process()
        family = {child.pid for child in (here.parent() or here).children()} | {here.pid}
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:  # not everywhere may everybody look
        return []
    listening = (each for each in connections if each.status == psutil.CONN_LISTEN and each.laddr[1:] == (port,))
    return [each.pid for each in listening if each.pid is not None and each.pid not in family]


def _make_server(app: ASGIApp) -> uvicorn.Server:
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # Who asks is who is connected: a header could name anybody.
            proxy_headers=False,
            timeout_graceful_shutdown=PATIENCE,
        )
    )
    server.capture_signals = nullcontext  # type: ignore[assignment] # they are for the application's server
    return server


def _ended(listener: socket.socket, task: asyncio.Task[None]) -> None:
    listener.close()  # a task that was cancelled in time has not
    if not task.cancelled() and (error := task.exception()) is not None:
        report("OpsServer", error)
