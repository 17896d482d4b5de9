"""The tests that the guide itself brings, its chapter "Testing Monitoring Implementation", against the API service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.examples.companions import companions_on_loopback

ROOT = Path(__file__).parents[2]
GUIDE = Path(__file__).parent / "guide" / "monitoring.py"
"""They are as in the guide, but for the imports; pytest runs the file only when it is told its name."""

NAMES = {
    "test_structured_logger_format",
    "test_logger_with_correlation_id",
    "test_health_endpoint",
    "test_readiness_probe",
    "test_liveness_probe",
    "test_metrics_endpoint",
    "test_request_metrics_collection",
}


def test_the_tests_of_the_guide_pass(tmp_path: Path) -> None:
    # In a process of their own: they import the application, which reads the environment then.
    with companions_on_loopback() as companions:
        environment = {
            **os.environ,
            "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'api.db'}",
            "MEMORY_SERVICE_URL": companions.url,
            "COGNITION_SERVICE_URL": companions.url,
            "METRICS_UNMATCHED": "path",
        }
        options = ["-v", "-p", "no:cacheprovider", f"--rootdir={ROOT}", f"--config-file={ROOT / 'pyproject.toml'}"]
        run = subprocess.run(
            [sys.executable, "-m", "pytest", *options, GUIDE],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert run.returncode == 0, run.stdout + run.stderr
    assert set(re.findall(r"::(test_\w+) PASSED", run.stdout)) == NAMES
    assert "7 passed" in run.stdout
