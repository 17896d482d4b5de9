"""Files of processes, as a test wants them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from asgi_obs.metrics.multiprocess.file import MetricFile
from asgi_obs.metrics.multiprocess.series import encode

COUNTER = encode("counter", "", "jobs", "jobs_total", ("kind",), ("mail",))
OTHER = encode("counter", "", "jobs", "jobs_total", ("kind",), ("print",))
LIVE = encode("gauge", "livesum", "busy", "busy")


def start(path: Path, pid: int, values: Mapping[str, float], time: float = 0.0) -> MetricFile:
    """The file of a process that lives."""
    file = MetricFile(path / f"{pid}-{pid:016x}.metrics")
    for key, value in values.items():
        cells, index = file.cell(key)
        cells[index], cells[index + 1] = value, time
    return file


def leave(path: Path, pid: int, values: Mapping[str, float], time: float = 0.0) -> Path:
    """The file of a process that has ended."""
    file = start(path, pid, values, time)
    file.close()
    return file.path


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())
