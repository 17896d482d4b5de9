"""The demo as its user runs it: real processes, real ports."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from typing import Any

import httpx
import psycopg
import pytest

from examples.cortex.demo.parts import PARTS
from tests.e2e.processes import DEADLINE, ROOT
from tests.postgres import Postgres

COMMAND = [sys.executable, "-m", "examples.cortex"]


def demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": DEADLINE, "check": False}
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, env={**os.environ, **environment}, **options)


def test_the_demo_tells_the_whole_story_and_ends_with_zero() -> None:
    run = demo("--seconds", "1")
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == ""
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
        assert expected in run.stdout
    assert str(ROOT) not in run.stdout
    assert max(len(line) for line in run.stdout.splitlines()) <= 120


def test_the_demo_tells_the_same_story_on_postgresql(postgres: Postgres) -> None:
    server, name = postgres.url("psycopg").replace("+psycopg", "").rpartition("/")[0], "cortex_demo"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        try:
            run = demo("--seconds", "1", DATABASE_URL=f"{server}/{name}")
            with psycopg.connect(f"{server}/{name}") as database:
                kept = database.execute("SELECT count(*) FROM memory_inputs JOIN messages USING (text)").fetchone()
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{len(PARTS)} of {len(PARTS)} parts are there" in run.stdout
    assert kept is not None
    assert kept[0] > 0


def test_serve_prints_what_to_do_and_serves_until_it_is_told_to_end() -> None:
    with subprocess.Popen([*COMMAND, "--serve"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout is not None
            printed = "".join(itertools.takewhile(lambda line: "Ctrl-C ends it" not in line, serving.stdout))
            urls = re.findall(r"(http://127\.0\.0\.1:\d+)/metrics", printed)
            assert [httpx.get(f"{url}/health/live", trust_env=False).status_code for url in urls] == [200] * 3
            commands = [line for line in printed.splitlines() if "curl" in line]
            assert len(commands) == 2
            shell = subprocess.run(["sh", "-ec", "\n".join(commands)], capture_output=True, text=True, check=False)
            assert '"name":"Engine"' in shell.stdout, shell.stderr
            serving.terminate()  # SIGINT is ignored by what a shell starts in the background
            serving.stdout.read()
            assert serving.wait(DEADLINE) == 0
        finally:
            serving.kill()
    for url in urls:
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{url}/health/live", trust_env=False)


def test_a_service_that_does_not_start_is_said_with_its_log_and_ends_with_one() -> None:
    run = demo("--seconds", "1", DATABASE_URL="nonsense")
    assert run.returncode == 1
    assert "cortex-api ended with 1" in run.stdout
    assert "Could not parse SQLAlchemy URL" in run.stdout
