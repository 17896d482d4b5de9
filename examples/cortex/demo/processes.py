"""Starts the three services, each a process of its own, waits until all are ready, and ends them."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, final

import httpx

from examples.cortex.serve import SERVICES, spans_file

READY_WITHIN = 20.0
STOPS_WITHIN = 6.0

USERS = ("ada", "bob")

NAMES = {"api": "cortex-api", "memory": "memory-service", "cognition": "cognition-service"}
"""What the services call themselves."""

DEPLOYMENT = {"VERSION": "1.0.0", "ENVIRONMENT": "staging", "LOG_LEVEL": "INFO"}
"""What asgi_obs reads from the environment of all of them."""


class ServiceError(Exception):
    """A service did not become ready."""


@final
class Processes:
    """The three services; a context manager.

    A `DATABASE_URL` in our environment is theirs; without one each makes a file of SQLite in the directory.

    Args:
        directory: Where they keep their files.
        port: The port of 127.0.0.1 for the API; 0 takes a free one, as the other two do.
        captured: Their logs go to files, as JSON, whatever our environment says; else to our standard output, as
            text unless our environment says otherwise.

    Attributes:
        urls: Where they listen, by service.
        passwords: Those of the users, by name.
    """

    def __init__(self, directory: Path, *, port: int = 0, captured: bool = True) -> None:
        self._directory = directory
        self._ports = {service: port if service == "api" else 0 for service in SERVICES}
        self._captured = captured
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.urls: dict[str, str] = {}
        self.passwords = {user: secrets.token_urlsafe(24) for user in USERS}

    def __enter__(self) -> Processes:
        try:
            with ExitStack() as listeners:
                # Ports are bound here and handed on: between choosing a port and using it nobody can take it.
                sockets = {
                    service: listeners.enter_context(socket.create_server(("127.0.0.1", port)))
                    for service, port in self._ports.items()
                }
                self.urls = {service: "http://{}:{}".format(*one.getsockname()) for service, one in sockets.items()}
                for service, listening in sockets.items():
                    self._running[service] = self._start(service, listening.fileno())
            for service in SERVICES:
                self._wait_until_ready(service)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def wait(self) -> str:
        """Wait until one of them ends by itself; return which."""
        while True:
            for service, process in self._running.items():
                if process.poll() is not None:
                    return service
            time.sleep(0.1)

    def log(self, service: str) -> tuple[list[dict[str, Any]], list[str]]:
        """What a service has logged so far: the records, and the lines that are not JSON objects."""
        return read_json_lines(self._log_file(service))

    def spans(self, service: str) -> list[dict[str, Any]]:
        """The spans that a service has finished so far."""
        return read_json_lines(self._directory / spans_file(service))[0]

    def _log_file(self, service: str) -> Path:
        return self._directory / f"{service}.log"

    def _start(self, service: str, fd: int) -> subprocess.Popen[bytes]:
        with self._log_file(service).open("wb") as log:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "examples.cortex.serve",
                    service,
                    f"--fd={fd}",
                    f"--directory={self._directory}",
                ],
                env=self._environment(service),
                pass_fds=(fd,),
                stdin=subprocess.PIPE,  # it ends with us: the service does too then
                stdout=log if self._captured else None,
                stderr=log if self._captured else None,
            )

    def _environment(self, service: str) -> dict[str, str]:
        if self._captured:
            environment = {**os.environ, **DEPLOYMENT, "LOG_FORMAT": "json"}
        else:
            environment = {**DEPLOYMENT, "LOG_FORMAT": "text", **os.environ}
        environment |= {
            "SERVICE_NAME": NAMES[service],
            "MEMORY_SERVICE_URL": self.urls["memory"],
            "COGNITION_SERVICE_URL": self.urls["cognition"],
        }
        if service == "api":
            environment["CORTEX_USERS"] = json.dumps(self.passwords)
        return environment

    def _wait_until_ready(self, service: str) -> None:
        process, deadline = self._running[service], time.monotonic() + READY_WITHIN
        said = "it did not answer"
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ServiceError(f"{NAMES[service]} ended with {process.returncode}\n{self._log_text(service)}")
            try:
                answer = httpx.get(f"{self.urls[service]}/health/ready", trust_env=False)
                if answer.status_code == 200:
                    return
                said = f"it answered {answer.status_code} {answer.text}"
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise ServiceError(
            f"{NAMES[service]} was not ready within {READY_WITHIN:g} s: {said}\n{self._log_text(service)}"
        )

    def _log_text(self, service: str) -> str:
        return self._log_file(service).read_text()

    def _stop(self) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(STOPS_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdin is not None
            process.stdin.close()


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
