"""The demo as its user runs it: real processes, a real port."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from examples.cortex.server import Server, ServerError, read_json_lines
from examples.cortex.story import PARTS, ROUTE

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "examples.cortex"]


def test_the_demo_tells_the_whole_story_and_ends_with_zero() -> None:
    demo = subprocess.run(
        [*COMMAND, "--seconds", "1"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert demo.stderr == ""
    for expected in (
        "one request: story-",
        f"POST {ROUTE}",
        "message stored",
        "INSERT INTO messages",
        "conversation summarised",
        "summarise conversation",
        "http_request_duration_seconds_sum",
        "/health/ready",
        "database healthy",
        "ExportError: cannot export",
        "__unmatched__",
        f"{len(PARTS)} of {len(PARTS)} parts are there",
    ):
        assert expected in demo.stdout
    assert str(REPOSITORY) not in demo.stdout


def test_serve_prints_its_urls_and_serves_until_it_is_interrupted() -> None:
    with subprocess.Popen([*COMMAND, "--serve"], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout is not None
            printed = "".join(itertools.takewhile(lambda line: "Ctrl-C ends it" not in line, serving.stdout))
            url = re.search(r"http://127\.0\.0\.1:\d+(?=/health/live)", printed)
            assert url is not None
            assert httpx.get(f"{url[0]}/health/live").status_code == 200
            serving.send_signal(signal.SIGTERM)  # SIGINT is ignored by what a shell starts in the background
            serving.stdout.read()
            assert serving.wait(30) == 0
        finally:
            serving.kill()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url[0]}/health/live")


def test_a_server_that_does_not_start_is_said_and_ends_with_one() -> None:
    environment = {**os.environ, "ENVIRONMENT": "nonsense"}
    demo = subprocess.run(
        [*COMMAND, "--serve"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert demo.returncode == 1
    assert "the server ended with 1" in demo.stdout
    assert "ENVIRONMENT='nonsense' is not valid" in demo.stderr


def test_a_server_that_is_never_ready_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("examples.cortex.server.READY_WITHIN", 0.0)
    server = Server(tmp_path)
    with pytest.raises(ServerError, match="not ready within 0 s"):
        server.__enter__()
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


def test_a_line_that_is_still_being_written_is_left_for_later(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text('{"a": 1}\nTraceback\n[1]\n{"b": ')
    assert read_json_lines(file) == ([{"a": 1}], ["Traceback\n", "[1]\n"])
