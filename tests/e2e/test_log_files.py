"""Several processes write one file while it is rotated, moved, and while they are killed: no line is lost or torn."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from asgi_obs.logs.files import FileHandler
from tests.e2e.processes import DEADLINE, start

WORKERS = 4
ROTATIONS = 5
PARTS = 2 * ROTATIONS
LINES = 5_000
"""Of each worker, in each part."""

EXPECTED = {(worker, part, number) for worker in range(WORKERS) for part in range(PARTS) for number in range(LINES)}


def lines_of(directory: Path) -> list[bytes]:
    data = b"".join(path.read_bytes() for path in sorted(directory.iterdir()) if path.name.startswith("app.log"))
    assert data.endswith(b"\n")
    return data.splitlines()


def write_while(path: Path, move: Callable[[list[int]], object]) -> None:
    """Have all workers write, and the file moved behind every other part, while they are at the next one."""
    reader, writer = os.pipe()
    options = {"stdin": subprocess.PIPE, "stdout": writer}
    workers = [start("write_file", path, worker, PARTS, LINES, **options) for worker in range(WORKERS)]
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as progress:
        for part in range(PARTS - 1):
            for _ in range(WORKERS):
                assert progress.read(1)
            if part % 2 == 0:
                move([worker.pid for worker in workers])
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write(b".")
                worker.stdin.flush()
        for worker in workers:
            worker.communicate(timeout=DEADLINE)
    assert [worker.returncode for worker in workers] == [0] * WORKERS


def check(directory: Path) -> None:
    written = lines_of(directory)
    parsed = [orjson.loads(line) for line in written]
    assert len(written) == len(EXPECTED) == 200_000
    assert {(line["worker"], line["part"], line["number"]) for line in parsed} == EXPECTED


def test_lines_of_all_processes_survive_rotations(tmp_path: Path) -> None:
    rotator = FileHandler(str(tmp_path / "app.log"))
    rotated: list[bool] = []
    write_while(tmp_path / "app.log", lambda _: rotated.append(rotator.rotate()))
    rotator.close()
    assert rotated == [True] * ROTATIONS
    assert len([path for path in tmp_path.iterdir() if path.name.startswith("app.log.2")]) == ROTATIONS
    check(tmp_path)


def test_lines_of_all_processes_survive_somebody_who_moves_the_file_and_signals(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    moved = []

    def move(workers: list[int]) -> None:
        moved.append(path.rename(tmp_path / f"app.log.{len(moved)}"))
        path.touch(0o640)
        for worker in workers:
            os.kill(worker, signal.SIGUSR1)

    write_while(path, move)
    assert len(moved) == ROTATIONS
    check(tmp_path)


@pytest.mark.skipif(shutil.which("logrotate") is None and "CI" not in os.environ, reason="needs logrotate")
def test_lines_of_all_processes_survive_logrotate(tmp_path: Path) -> None:  # pragma: no cover - not everywhere
    path = tmp_path / "app.log"
    configuration = tmp_path / "logrotate.conf"
    postrotate = f"kill -USR1 $(cat {tmp_path}/workers)"
    configuration.write_text(
        f"{path} {{\n rotate 100\n create 0640\n nocompress\n postrotate\n {postrotate}\n endscript\n}}\n"
    )
    configuration.chmod(0o600)

    def move(workers: list[int]) -> None:
        (tmp_path / "workers").write_text(" ".join(map(str, workers)))
        command = ["logrotate", "--force", "--state", str(tmp_path / "state"), str(configuration)]
        subprocess.run(command, check=True)

    write_while(path, move)
    assert len([path for path in tmp_path.iterdir() if path.name.startswith("app.log.")]) == ROTATIONS
    check(tmp_path)


def test_every_line_whose_call_has_returned_is_in_the_file_of_a_process_that_was_killed(tmp_path: Path) -> None:
    with start("acknowledge", tmp_path / "app.log", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(2_000)]
        process.kill()
        *rest, last = process.stdout.read().split(b"\n")
    acknowledged += map(int, rest)
    assert last == b""
    written = [orjson.loads(line)["number"] for line in lines_of(tmp_path)]
    assert acknowledged == list(range(1, len(acknowledged) + 1))
    assert written[: len(acknowledged)] == acknowledged
    assert len(written) - len(acknowledged) in {0, 1}
