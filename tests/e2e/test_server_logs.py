"""Real servers in processes of their own: from the moment our code is loaded every line is ours."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

DEADLINE = 60.0

APPLICATION = """
import logging
from asgi_obs import RequestLoggingMiddleware, setup_logging

farewells = 0
{setup}

async def hello(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({{"type": "lifespan.startup.complete"}})
        for number in range(farewells):
            logging.getLogger("shop.end").info("bye %s", number)
        await send({{"type": "lifespan.shutdown.complete"}})
        return
    logging.getLogger("shop").warning("in the handler")
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"hello"}})

app = RequestLoggingMiddleware(hello)
"""
SETUP = 'setup_logging("shop", "INFO")'
QUEUED = """
from asgi_obs import Settings
from asgi_obs.logs import queued

queued.LISTEN_INTERVAL = 0  # this process does not live long
setup_logging(settings=Settings(service_name="shop", log_level="INFO", log_queue_size=10_000))
farewells = 5_000
"""

UVICORN = ["uvicorn", "shop:app", "--fd", "{fd}", "--ws", "none"]
GUNICORN = [
    "gunicorn", "shop:app", "-b", "fd://{fd}", "-k", "uvicorn_worker.UvicornWorker", "--access-logfile", "-",
]  # fmt: skip
HYPERCORN = ["hypercorn", "shop:app", "-b", "fd://{fd}", "--access-logfile", "-"]
GUNICORNS_LINE = re.compile(r"\[\d{4}-[^]]+\] \[(\d+)\] \[INFO\] (.+)")


class Said:
    """What a server has written until it ended."""

    def __init__(self, pid: int, out: str, err: str) -> None:
        self.pid = pid
        self.out = out
        self.err = err

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def messages(self) -> list[tuple[str, str]]:
        return [(line["component"], line["message"]) for line in self.lines]


def serve(directory: Path, command: list[str], setup: str = SETUP) -> Said:
    """Start a server, ask it once, end it."""
    (directory / "shop.py").write_text(APPLICATION.format(setup=setup))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = "http://{}:{}/".format(*listener.getsockname())
        server = subprocess.Popen(
            [sys.executable, "-m", *(word.format(fd=listener.fileno()) for word in command)],
            cwd=directory,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(directory), "ENVIRONMENT": "testing"},
            pass_fds=[listener.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    answer = ""
    with suppress(httpx.TransportError):  # the server has ended, and its output says why
        # The socket listens already: what is asked before the server is up waits for it.
        answer = httpx.get(url, timeout=DEADLINE).text
    server.send_signal(signal.SIGTERM)
    out, err = server.communicate(timeout=DEADLINE)
    assert answer == "hello", err
    return Said(server.pid, out, err)


def assert_said_once(said: Said, *expected: tuple[str, str]) -> None:
    """Each of these is a line, once, and there is one line for the request and none of an access log."""
    for component, start in (*expected, ("shop", "in the handler"), ("asgi_obs.request", "GET / 200")):
        found = [message for name, message in said.messages if name == component and message.startswith(start)]
        assert len(found) == 1, (component, start, said.messages, said.err)
    assert {line["service"] for line in said.lines} == {"shop"}
    assert not any("access" in component for component, _ in said.messages)


@pytest.mark.parametrize("options", [[], ["--log-level", "info", "--use-colors"]])
def test_uvicorn_that_loads_the_application(tmp_path: Path, options: list[str]) -> None:
    said = serve(tmp_path, [*UVICORN, *options])
    assert_said_once(
        said,
        ("uvicorn.error", "Started server process"),
        ("uvicorn.error", "Application startup complete"),
        ("uvicorn.error", "Shutting down"),
        ("uvicorn.error", "Finished server process"),
    )
    # Said before the application was loaded, or not at all.
    assert [line for line in said.err.splitlines() if "Uvicorn running" not in line] == []


def test_uvicorn_that_the_application_starts(tmp_path: Path) -> None:
    run = "import sys, uvicorn\n    uvicorn.run('shop:app', fd=int(sys.argv[1]))"
    main = f"{SETUP}\nif __name__ == '__main__':\n    {run}"
    said = serve(tmp_path, ["shop", "{fd}"], setup=main)
    assert_said_once(said, ("uvicorn.error", "Started server process"), ("uvicorn.error", "Finished server process"))
    assert [line for line in said.err.splitlines() if "Uvicorn running" not in line] == []


def test_uvicorn_with_a_log_config_of_our_factories(tmp_path: Path) -> None:
    config = {
        "version": 1,
        "formatters": {"json": {"()": "asgi_obs.StructuredLogFormatter", "service_name": "shop"}},
        "handlers": {"out": {"()": "asgi_obs.logs.stdout.StdoutHandler", "formatter": "json"}},
        "root": {"handlers": ["out"], "level": "INFO"},
        "loggers": {"asgi_obs": {}, "uvicorn": {}, "uvicorn.access": {"level": "WARNING"}},
    }
    (tmp_path / "log.json").write_text(json.dumps(config))
    said = serve(tmp_path, [*UVICORN, "--log-config", "log.json"], setup="")
    assert_said_once(said, ("uvicorn.error", "Started server process"), ("uvicorn.error", "Finished server process"))
    assert said.err == ""


def test_workers_of_gunicorn_from_when_they_have_loaded_the_application(tmp_path: Path) -> None:
    said = serve(tmp_path, GUNICORN)
    assert_said_once(said, ("uvicorn.error", "Started server process"), ("uvicorn.error", "Finished server process"))
    assert said.pid not in {line["pid"] for line in said.lines}
    by_others = [message for pid, message in GUNICORNS_LINE.findall(said.err) if int(pid) != said.pid]
    assert [message for message in by_others if not message.startswith("Booting worker")] == []


@pytest.mark.parametrize("where", ["preloaded", "configuration"])
def test_master_of_gunicorn_where_it_has_loaded_our_code(tmp_path: Path, where: str) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(
        "preload_app = True" if where == "preloaded" else f"from asgi_obs import setup_logging\n{SETUP}"
    )
    said = serve(tmp_path, GUNICORN)
    assert_said_once(
        said,
        ("gunicorn.error", "Starting gunicorn"),
        ("gunicorn.error", "Listening at"),
        ("gunicorn.error", "Booting worker"),
        ("uvicorn.error", "Started server process"),
        ("gunicorn.error", "Handling signal: term"),
        ("gunicorn.error", "Shutting down"),
    )
    assert {line["pid"] for line in said.lines if line["message"].startswith("Listening")} == {said.pid}
    assert said.err == ""


def test_files_that_gunicorn_was_told_to_write_are_written_too(tmp_path: Path) -> None:
    said = serve(tmp_path, [*GUNICORN, "--preload", "--error-logfile", "gunicorn.log"])
    assert_said_once(said, ("gunicorn.error", "Listening at"))
    assert "Listening at" in (tmp_path / "gunicorn.log").read_text()


@pytest.mark.parametrize("workers", [0, 1])
def test_hypercorn(tmp_path: Path, workers: int) -> None:
    said = serve(tmp_path, [*HYPERCORN, "--workers", str(workers)])
    assert_said_once(said, ("hypercorn.error", "Running on"))
    assert said.err == ""


@pytest.mark.parametrize("options", [[], ["--preload"]])
def test_lines_in_a_queue_are_written_before_the_worker_that_was_forked_dies(
    tmp_path: Path, options: list[str]
) -> None:
    said = serve(tmp_path, [*GUNICORN, *options], setup=QUEUED)
    assert_said_once(said, ("uvicorn.error", "Started server process"), ("uvicorn.error", "Finished server process"))
    assert [message for name, message in said.messages if name == "shop.end"] == [f"bye {n}" for n in range(5_000)]
