"""The demo as its user runs it: real processes, real ports."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from examples.cortex.demo.parts import PARTS
from tests.e2e.processes import DEADLINE, ROOT
from tests.logs.sinks import until
from tests.postgres import Postgres

COMMAND = [sys.executable, "-m", "examples.cortex"]

NOWHERE = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
"""A proxy that is not there: nothing of the demo needs one."""


def start(*arguments: str, output: Any = subprocess.PIPE, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        text=True,
        stdout=output,
        stderr=output,
    )


def result_of(running: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, output and errors."""
    stdout, stderr = running.communicate(timeout=DEADLINE)
    return running.returncode, stdout, stderr


@pytest.fixture(scope="module", autouse=True)
def told() -> Iterator[subprocess.Popen[str]]:
    """A run of the demo; the other tests do not wait for it."""
    with start("--seconds", "1", **NOWHERE) as running:
        yield running
        running.terminate()


def test_the_demo_tells_the_whole_story_and_ends_with_zero(told: subprocess.Popen[str]) -> None:
    code, stdout, stderr = result_of(told)
    assert code == 0, stdout + stderr
    assert stderr == ""
    for expected in (
        "one request: story-",
        "POST /api/workspaces/{workspace_id}/conversations/{conversation_id}/messages",
        "message stored",
        "conversation summarised",
        "INSERT memory-service.db",
        "process message_created",
        "mcp.server.get_context",
        "memory_service_operations_total",
        "/health/ready",
        "ExportError: cannot export",
        "__unmatched__",
        f"{len(PARTS)} of {len(PARTS)} parts are there",
    ):
        assert expected in stdout
    assert str(ROOT) not in stdout
    assert max(len(line) for line in stdout.splitlines()) <= 120


def test_the_demo_tells_the_same_story_on_postgresql(postgres: Postgres) -> None:
    server, name = postgres.url("psycopg").replace("+psycopg", "").rpartition("/")[0], "cortex_demo"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        try:
            code, stdout, stderr = result_of(start("--seconds", "0", DATABASE_URL=f"{server}/{name}"))
            with psycopg.connect(f"{server}/{name}") as database:
                kept = database.execute("SELECT count(*) FROM memory_inputs JOIN messages USING (text)").fetchone()
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert code == 0, stdout + stderr
    assert f"{len(PARTS)} of {len(PARTS)} parts are there" in stdout
    assert kept is not None
    assert kept[0] > 0


def test_serve_prints_what_to_do_restarts_what_ends_and_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with output.open("w") as file:
        serving = start("--serve", output=file, **NOWHERE, LOG_FORMAT="text")
    try:
        until(lambda: "Ctrl-C ends it" in output.read_text())
        printed = output.read_text()
        urls = re.findall(r"(http://127\.0\.0\.1:\d+)/metrics", printed)
        assert [httpx.get(f"{url}/health/live", trust_env=False).status_code for url in urls] == [200] * 3
        commands = [line for line in printed.splitlines() if "curl" in line]
        assert len(commands) == 2
        shell = subprocess.run(
            ["sh", "-ec", "\n".join(commands)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **NOWHERE},
        )
        assert '"name":"Engine"' in shell.stdout, shell.stderr
        assert "memory     2" in printed  # the name, then the time

        [cognition] = (one for one in psutil.Process(serving.pid).children() if "cognition" in one.cmdline())
        cognition.kill()
        with httpx.Client(base_url=urls[0], trust_env=False) as client:
            until(lambda: client.get("/health").json()["status"] == "degraded")
            until(lambda: client.get("/health").json()["status"] == "healthy")
        serving.terminate()
        assert serving.wait(DEADLINE) == 0
    finally:
        serving.kill()
        serving.wait()
    assert "cognition-service has ended, and is started again" in output.read_text()
    assert "Traceback" not in output.read_text()
    for url in urls:
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{url}/health/live", trust_env=False)


@pytest.mark.parametrize(("number", "moment"), [(signal.SIGINT, "*/api.spans.jsonl"), (signal.SIGHUP, "*/api.log")])
def test_a_signal_ends_the_demo_without_a_trace(number: signal.Signals, moment: str, tmp_path: Path) -> None:
    kept, output = tmp_path / "kept", tmp_path / "output"
    kept.mkdir()
    ignored = signal.signal(number, signal.SIG_DFL)  # what a shell or nohup has us ignore, our child ignores too
    try:
        with output.open("w") as file:
            running = start("--seconds", "60", output=file, TMPDIR=str(kept))
    finally:
        signal.signal(number, ignored)
    try:
        until(lambda: any(file.stat().st_size for file in kept.glob(moment)))
        running.send_signal(number)
        assert running.wait(DEADLINE) == 128 + number
    finally:
        running.kill()
        running.wait()
    assert "Traceback" not in output.read_text()
    assert list(kept.iterdir()) == []


@pytest.mark.parametrize("port", ["70000", "taken"])
def test_a_port_that_cannot_be_had_is_said_in_one_line_and_ends_with_one(port: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, stdout, stderr = result_of(start("--port", port.replace("taken", str(taken.getsockname()[1]))))
    assert stdout.startswith("cortex-api cannot have port")
    assert (code, len(stdout.splitlines()), stderr) == (1, 1, "")
