"""The three services as processes: they start together, and they end together, however that comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from examples.cortex.demo import processes
from examples.cortex.demo.processes import Processes, ServiceError, read_json_lines
from tests.e2e.processes import DEADLINE, ROOT
from tests.logs.sinks import until

PARENT = """
import sys, time
from pathlib import Path
from examples.cortex.demo.processes import Processes
with Processes(Path(sys.argv[1])) as processes:
    print(*(process.pid for process in processes._running.values()), flush=True)
    time.sleep(600)
"""


def assert_ended(services: Processes) -> None:
    for url in services.urls.values():
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{url}/health/live", trust_env=False)


def running(pids: list[int]) -> list[int]:
    """Those that still do something; nobody may be there to ask how they ended."""
    found = psutil.process_iter(["pid", "status"])
    return [one.pid for one in found if one.pid in pids and one.info["status"] != psutil.STATUS_ZOMBIE]


def test_they_end_when_whoever_started_them_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, tmp_path], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            pids = [int(pid) for pid in parent.stdout.readline().split()]
        finally:
            parent.kill()
    assert len(pids) == 3
    until(lambda: not running(pids))


def test_one_that_does_not_start_is_named_with_its_log_and_the_others_are_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "nonsense")
    services = Processes(tmp_path)
    with pytest.raises(ServiceError, match=r"cortex-api ended with 1\n(?s:.*)Could not parse SQLAlchemy URL"):
        services.__enter__()
    assert_ended(services)


def test_those_that_are_never_ready_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "READY_WITHIN", 0.0)
    services = Processes(tmp_path)
    with pytest.raises(ServiceError, match="cortex-api was not ready within 0 s: it did not answer"):
        services.__enter__()
    assert_ended(services)


def test_one_that_has_ended_is_named_and_one_that_does_not_end_in_time_is_killed_and_the_other_says_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(processes.DEPLOYMENT, "OTEL_BSP_SCHEDULE_DELAY", "600000")
    services = Processes(tmp_path)
    with services:
        pid = next(record["pid"] for record in services.log("cognition")[0] if record["service"] == "cognition-service")
        os.kill(pid, signal.SIGKILL)
        assert services.wait() == "cognition"
        stopped, ending = services._running["memory"], services._running["api"]
        stopped.send_signal(signal.SIGSTOP)
        assert httpx.get(f"{services.urls['api']}/api/workspaces", trust_env=False).status_code == 401
        ending.terminate()
        assert ending.wait(DEADLINE) == 0
        monkeypatch.setattr(processes, "STOPS_WITHIN", 0.1)
    assert stopped.wait(DEADLINE) == -signal.SIGKILL
    assert "GET /api/workspaces" in [span["name"] for span in services.spans("api")]
    assert_ended(services)


def test_a_line_that_is_still_being_written_is_left_for_later(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text('{"a": 1}\nTraceback\n[1]\n{"b": ')
    assert read_json_lines(file) == ([{"a": 1}], ["Traceback\n", "[1]\n"])
