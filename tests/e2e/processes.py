"""Programs in processes of their own: those of `log_writer`, and servers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]

DEADLINE = 60.0
"""Seconds after which a process that does not end, or a request without a response, fails the test."""


def start(program: str, *arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.e2e.log_writer", program, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, **options)


@contextmanager
def serving(program: str, *arguments: object, **options: Any) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """A program that is a server, and a client of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Connections inherit it; the server does not set it for a socket that it is given.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fd = listener.fileno()
        with start(program, fd, *arguments, pass_fds=[fd], **options) as process:
            url = "http://{}:{}".format(*listener.getsockname())
            # The connection waits in the listener until the server is up.
            with httpx.Client(base_url=url, timeout=DEADLINE, trust_env=False) as client:
                try:
                    yield process, client
                finally:
                    process.kill()


@contextmanager
def serving_program(program: str, log: Path, **variables: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server with its lines in a file, and its address; it listens already.

    Args:
        program: The arguments for Python; `{fd}` is the socket.
        log: The file for its standard output.
        **variables: Its environment.
    """
    environment = {"PATH": os.environ["PATH"], "ENVIRONMENT": "testing", "LOG_LEVEL": "INFO", **variables}
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("wb") as out:
        command = [sys.executable, *program.format(fd=listener.fileno()).split()]
        options: dict[str, Any] = {"pass_fds": [listener.fileno()], "stdout": out, "env": environment, "cwd": ROOT}
        url = "http://{}:{}".format(*listener.getsockname())
        with subprocess.Popen(command, **options) as process:
            listener.close()  # so that nobody answers when the server has closed it
            try:
                yield process, url
            finally:
                process.kill()
