"""A real uvicorn on a free port of the loopback interface, in a thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from asgi_obs.types import ASGIApp

DEADLINE = 30.0
"""Seconds after which a server that does not start, or does not stop, fails the test."""


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()


@contextmanager
def serve(app: ASGIApp, **options: Any) -> Iterator[str]:
    """Serve the application; gives `127.0.0.1:port`. Options go to `uvicorn.Config`."""
    server = _Server(uvicorn.Config(app, log_config=None, **options))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        assert server.ready.wait(DEADLINE)
        try:
            yield "{}:{}".format(*listener.getsockname())
        finally:
            server.should_exit = True
            thread.join(DEADLINE)
            assert not thread.is_alive()
