"""A PostgreSQL of the tests' own: a real server on loopback that is gone when the tests are, however they end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil
import pytest

DEADLINE: Final = 30.0
"""Seconds that a server may take to start or to stop; never reached if all is well."""

DEBIAN: Final = Path("/usr/lib/postgresql")
"""Debian keeps the programs of each version here, and off the PATH."""

USER: Final = "postgres"
"""Who runs the server if we are root, which it refuses; and its superuser."""

OPTIONS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "dynamic_shared_memory_type": "mmap",
    "shared_buffers": "16MB",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "jit": "off",
}

GUARDIAN: Final = """
cat
if read -r pid < "$0/data/postmaster.pid"; then
    kill -CONT "$pid"
    kill -QUIT "$pid"
    while [ -e "$0/data/postmaster.pid" ] && kill -0 "$pid"; do sleep 0.02; done
fi
rm -rf "$0"
"""
"""Ends the server and removes its directory when its own input ends, as it does when we are killed."""


class Postgres:
    """A server on a port of its own; every test of the session may have the same one.

    Args:
        directory: An empty directory for its files.
    """

    def __init__(self, directory: Path) -> None:
        self._data = directory / "data"
        self._log = directory / "log"
        self._user = USER if os.geteuid() == 0 else os.geteuid()
        shutil.chown(directory, self._user)
        # Held, but not listened to: nobody else gets the port while the server is down, and the server does.
        self._port = socket.socket()
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._port.bind(("127.0.0.1", 0))
        subprocess.run(
            [_program("initdb"), "-D", self._data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True,
            user=self._user,
            stdout=subprocess.DEVNULL,
        )
        self.start()

    def url(self, driver: str) -> str:
        """The URL of the database for SQLAlchemy.

        Args:
            driver: `psycopg`, which is sync and async, or `asyncpg`.
        """
        return f"postgresql+{driver}://{USER}@127.0.0.1:{self._port.getsockname()[1]}/postgres"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        port = str(self._port.getsockname()[1])
        options = [f"--{name}={value}" for name, value in OPTIONS.items()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [_program("postgres"), "-D", self._data, "-p", port, *options],
                stdout=log,
                stderr=log,
                user=self._user,
                start_new_session=True,  # the interrupt of a terminal is for the tests
            )
        give_up_at = time.monotonic() + DEADLINE
        while not self._is_ready():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < give_up_at, self._log.read_text()
            time.sleep(0.01)

    def stop(self) -> None:
        """End the server at once; its connections break."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(DEADLINE)

    def suspend(self) -> None:
        """Have the server answer nothing more; its connections stay, and new ones wait."""
        postmaster = psutil.Process(self._process.pid)
        postmaster.suspend()  # first: it starts the others, and sees to those that end
        for process in postmaster.children():
            process.suspend()

    def resume(self) -> None:
        """Have a suspended server go on."""
        postmaster = psutil.Process(self._process.pid)
        for process in [*postmaster.children(), postmaster]:
            process.resume()

    def close(self) -> None:
        """Let go of a server that has ended, or is about to."""
        self._process.wait(DEADLINE)
        self._port.close()

    def _is_ready(self) -> bool:
        """As pg_ctl asks: https://www.postgresql.org/docs/current/storage-file-layout.html."""
        status = self._data / "postmaster.pid"
        return status.exists() and "ready" in status.read_text()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The server of the session: it stays up, and whoever makes a table in it drops it again."""
    with _server() as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server for one test, which may do to it what it likes."""
    with _server() as server:
        yield server


@contextmanager
def _server() -> Iterator[Postgres]:
    _program("postgres")  # or there is nothing to do
    # Not pytest's `tmp_path`: that is in a directory which only its owner may enter.
    directory = Path(tempfile.mkdtemp(prefix="postgres-"))
    guardian = subprocess.Popen(
        ["sh", "-c", GUARDIAN, directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with guardian:
        server = Postgres(directory)
        yield server
    server.close()


def _program(name: str) -> str:
    versions = sorted(DEBIAN.glob("*/bin"), reverse=True)
    path = os.pathsep.join([*map(str, versions), os.environ["PATH"]])
    program = shutil.which(name, path=path)
    if program is None and "CI" not in os.environ:  # pragma: no cover - not in CI
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    assert program is not None, "PostgreSQL is not installed: apt-get install postgresql"
    return program
