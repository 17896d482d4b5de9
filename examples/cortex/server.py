"""Starts the server as a process of its own, waits until it is ready, and ends it."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, final

import httpx

from examples.cortex.serve import SPANS_FILE, USERS

LOG_FILE = "cortex.log"
READY_WITHIN = 15.0
STOPS_WITHIN = 6.0

USER = "ada"

SERVICE = {"SERVICE_NAME": "cortex-core", "VERSION": "1.0.0", "ENVIRONMENT": "staging", "LOG_LEVEL": "INFO"}
"""What asgi_obs reads from the server's environment."""


class ServerError(Exception):
    """The server did not become ready."""


@final
class Server:
    """A Cortex server; a context manager.

    Args:
        directory: Where it keeps its files.
        port: The port of 127.0.0.1 to listen on; 0 takes a free one.
        captured: Its log goes to a file, as JSON, whatever our environment says; else to our standard output, as
            text unless our environment says otherwise.

    Attributes:
        url: Where it listens.
        token: The bearer token of its one user, `USER`.
    """

    def __init__(self, directory: Path, *, port: int = 0, captured: bool = True) -> None:
        self._directory = directory
        self._port = port
        self._captured = captured
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.token = secrets.token_urlsafe(24)

    def __enter__(self) -> Server:
        if self._captured:
            environment = {**os.environ, **SERVICE, "LOG_FORMAT": "json"}
        else:
            environment = {**SERVICE, "LOG_FORMAT": "text", **os.environ}
        environment[USERS] = json.dumps({self.token: USER})
        # The port is bound here and handed on: between choosing a port and using it nobody can take it.
        with (
            socket.create_server(("127.0.0.1", self._port)) as listening,
            (self._directory / LOG_FILE).open("wb") as log,
        ):
            self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            fd = listening.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "examples.cortex.serve", f"--fd={fd}", f"--directory={self._directory}"],
                env=environment,
                pass_fds=(fd,),
                stdout=log if self._captured else None,
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def wait(self) -> int:
        """Wait until it ends by itself; return its exit code."""
        assert self._process is not None
        return self._process.wait()

    def log(self) -> tuple[list[dict[str, Any]], list[str]]:
        """What it has logged so far: the records, and the lines that are not JSON objects."""
        return read_json_lines(self._directory / LOG_FILE)

    def spans(self) -> list[dict[str, Any]]:
        """The spans it has finished so far."""
        return read_json_lines(self._directory / SPANS_FILE)[0]

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_WITHIN
        said = "it did not answer"
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ServerError(f"the server ended with {process.returncode}\n{self._log_text()}")
            try:
                answer = httpx.get(f"{self.url}/health/ready")
                if answer.status_code == 200:
                    return
                said = f"it answered {answer.status_code} {answer.text}"
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise ServerError(f"the server was not ready within {READY_WITHIN:g} s: {said}\n{self._log_text()}")

    def _log_text(self) -> str:
        return (self._directory / LOG_FILE).read_text()

    def _stop(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(STOPS_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def read_json_lines(file: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The complete lines of a file that are JSON objects, and those that are not."""
    objects: list[dict[str, Any]] = []
    others: list[str] = []
    for line in file.read_text().splitlines(keepends=True):
        if not line.endswith("\n"):
            break  # still being written
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            objects.append(value)
        else:
            others.append(line)
    return objects, others
