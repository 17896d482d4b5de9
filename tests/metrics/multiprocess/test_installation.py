from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest, values

from asgi_obs.errors import SettingsError
from asgi_obs.metrics.multiprocess import install, installation, look_after_files, view_of
from asgi_obs.metrics.multiprocess.values import SharedValue
from tests.metrics.multiprocess.files import names


@pytest.fixture(autouse=True)
def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    monkeypatch.setattr(installation, "_installed", [])
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.delenv("prometheus_multiproc_dir", raising=False)


def test_without_the_variable_all_is_as_it_was() -> None:
    install()
    registry = CollectorRegistry()
    assert values.ValueClass is values.MutexValue
    assert view_of(registry) is registry


@pytest.mark.parametrize("variable", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
def test_metrics_made_from_then_on_are_in_the_directory(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "metrics"))
    install()
    assert len(names(tmp_path / "metrics")) == 1
    registry = CollectorRegistry()
    Counter("jobs", "Jobs.", registry=registry).inc()
    assert b"jobs_total 1.0\n" in generate_latest(view_of(registry))


def test_a_file_that_somebody_has_removed_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    look_after_files()  # there are none yet
    install()
    Counter("jobs", "Jobs.", registry=None).inc()
    for file in tmp_path.iterdir():
        file.unlink()

    look_after_files()

    assert b"jobs_total 1.0\n" in generate_latest(view_of(CollectorRegistry()))


def test_it_may_be_installed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    install()
    first = values.ValueClass
    install()
    assert values.ValueClass is first
    assert issubclass(first, SharedValue)
    assert len(names(tmp_path)) == 1


def test_a_directory_without_room_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(SettingsError, match=r"a directory with room for metrics .*No space left"):
        install()
    assert values.ValueClass is values.MutexValue


def run(program: str, directory: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)


def test_a_service_whose_directory_cannot_be_used_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("import asgi_obs", tmp_path / "file")
    assert done.returncode == 1
    assert f"SettingsError: PROMETHEUS_MULTIPROC_DIR='{tmp_path}/file' is not valid: expected a dir" in done.stderr


COUNTED = """
import os
from prometheus_client import REGISTRY, Counter, generate_latest
early = Counter("early", "Made before.")
import asgi_obs
from asgi_obs.metrics.catalogue import create
from asgi_obs.metrics.multiprocess import view_of
late = Counter("late", "Made behind.")
requests = create("http_requests_total", REGISTRY)
for _ in range(3):
    if os.fork() == 0:
        for counter in (early, late, requests.labels("GET", "/", "200")):
            counter.inc()
        os._exit(0)
    os.wait()
text = generate_latest(view_of(REGISTRY)).decode()
print(*(line for line in text.splitlines() if line.startswith(("early_total", "late_total", "http_requests_total"))))
"""


def test_all_that_the_children_of_a_process_have_counted_is_shown_by_it(tmp_path: Path) -> None:
    done = run(COUNTED, tmp_path)
    assert done.stderr == ""
    assert sorted(done.stdout.split()[::2]) == [
        "early_total",
        'http_requests_total{endpoint="/",method="GET",status_code="200"}',
        "late_total",
    ]
    assert done.stdout.split()[1::2] == ["3.0"] * 3
    assert len(list(tmp_path.glob("*.metrics"))) == 2
