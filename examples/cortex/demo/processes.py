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
from threading import Thread
from types import TracebackType
from typing import IO, Any, final

import httpx

from examples.cortex.serve import SERVICES, spans_file

READY_WITHIN = 20.0
STOPS_WITHIN = 6.0

USERS = ("ada", "bob")

NAMES = {"api": "cortex-api", "memory": "memory-service", "cognition": "cognition-service"}
"""What the services call themselves."""

DEPLOYMENT = {
    "VERSION": "1.0.0",
    "ENVIRONMENT": "staging",
    "LOG_LEVEL": "INFO",
    "OTEL_BSP_SCHEDULE_DELAY": "200",  # milliseconds; the default of 5 seconds is good for a collector
}
"""What asgi_obs and OpenTelemetry read from the environment of all of them."""

DIRECT = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
"""They talk to each other without the proxy that our environment may name."""


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
            text with the service in front unless our environment says otherwise.

    Attributes:
        urls: Where they listen, by service.
        passwords: Those of the users, by name.
    """

    def __init__(self, directory: Path, *, port: int = 0, captured: bool = True) -> None:
        self._directory = directory
        self._ports = {service: port if service == "api" else 0 for service in SERVICES}
        self._captured = captured
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._relays: list[Thread] = []
        self.urls: dict[str, str] = {}
        self.passwords = {user: secrets.token_urlsafe(24) for user in USERS}

    def __enter__(self) -> Processes:
        try:
            with ExitStack() as listeners:
                # Ports are bound here and handed on: between choosing a port and using it nobody can take it.
                sockets = {service: listeners.enter_context(self._listen(service)) for service in SERVICES}
                self.urls = {service: "http://{}:{}".format(*one.getsockname()) for service, one in sockets.items()}
                for service, listening in sockets.items():
                    self._running[service] = self._start(service, listening.fileno())
            with httpx.Client(trust_env=False) as client:
                for service in SERVICES:
                    self._wait_until_ready(service, client)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def wait(self) -> str:
        """Wait until one of them has ended by itself; return which."""
        while True:
            for service, process in self._running.items():
                if process.poll() is not None:
                    return service
            time.sleep(0.1)

    def restart(self, service: str) -> None:
        """Start one that has ended again, on the port it had."""
        _close(self._running[service])
        with self._listen(service) as listening:
            self._running[service] = self._start(service, listening.fileno())

    def log(self, service: str) -> tuple[list[dict[str, Any]], list[str]]:
        """What a service has logged so far: the records, and the lines that are not JSON objects."""
        return read_json_lines(self._log_file(service))

    def spans(self, service: str) -> list[dict[str, Any]]:
        """The spans that a service has finished so far."""
        return read_json_lines(self._directory / spans_file(service))[0]

    def _log_file(self, service: str) -> Path:
        return self._directory / f"{service}.log"

    def _listen(self, service: str) -> socket.socket:
        port = self._ports[service]
        try:
            listening = socket.create_server(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise ServiceError(f"{NAMES[service]} cannot have port {port}: {error}") from error
        self._ports[service] = listening.getsockname()[1]
        return listening

    def _start(self, service: str, fd: int) -> subprocess.Popen[bytes]:
        environment = self._environment(service)
        named = not self._captured and environment["LOG_FORMAT"] == "text"
        with self._log_file(service).open("wb") as log:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "examples.cortex.serve",
                    service,
                    f"--fd={fd}",
                    f"--directory={self._directory}",
                ],
                env=environment,
                pass_fds=(fd,),
                stdin=subprocess.PIPE,  # it ends with us: the service does too then
                stdout=log if self._captured else subprocess.PIPE if named else None,
                stderr=subprocess.STDOUT if self._captured or named else None,
                start_new_session=True,  # Ctrl-C is for us, who end them
            )
        if process.stdout is not None:
            self._relays.append(Thread(target=_relay, args=(service, process.stdout), daemon=True))
            self._relays[-1].start()
        return process

    def _environment(self, service: str) -> dict[str, str]:
        if self._captured:
            environment = {**os.environ, **DEPLOYMENT, "LOG_FORMAT": "json"}
        else:
            colours = {"FORCE_COLOR": "1"} if sys.stdout.isatty() else {}  # through a pipe
            environment = {**DEPLOYMENT, "LOG_FORMAT": "text", **colours, **os.environ}
        environment |= {
            **DIRECT,
            "SERVICE_NAME": NAMES[service],
            "MEMORY_SERVICE_URL": self.urls["memory"],
            "COGNITION_SERVICE_URL": self.urls["cognition"],
        }
        if service == "api":
            environment["CORTEX_USERS"] = json.dumps(self.passwords)
        return environment

    def _wait_until_ready(self, service: str, client: httpx.Client) -> None:
        process, deadline = self._running[service], time.monotonic() + READY_WITHIN
        said = "it did not answer"
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ServiceError(f"{NAMES[service]} ended with {process.returncode}\n{self._log_text(service)}")
            try:
                answer = client.get(f"{self.urls[service]}/health/ready")
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
            _close(process)
        for relay in self._relays:
            relay.join()


def _close(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()


def _relay(service: str, lines: IO[bytes]) -> None:
    """Print what a service says, with its name."""
    with lines:
        for line in lines:
            sys.stdout.write(f"{service:11}{line.decode(errors='replace')}")
            sys.stdout.flush()


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
