"""Workers that share a directory, in one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest, values

from asgi_obs.metrics.multiprocess.store import Store
from asgi_obs.metrics.multiprocess.values import value_class
from asgi_obs.metrics.multiprocess.view import MultiprocessView


class Worker:
    """A process as far as its metrics are concerned; what is counted in its context is counted by it.

    Attributes:
        store: Where it counts.
        registry: Its registry.
        view: What it shows when it is scraped.
    """

    def __init__(self, path: Path, *, has_gil: bool = True) -> None:
        self.store = Store(path)
        self.registry = CollectorRegistry()
        self.view = MultiprocessView(self.registry, self.store)
        self._class = value_class(self.store, has_gil=has_gil)

    def __enter__(self) -> None:
        self._before: Any = values.ValueClass
        values.ValueClass = self._class  # type: ignore[assignment]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        values.ValueClass = self._before

    def die(self) -> None:
        self.store.forget()

    def scrape(self, *prefixes: str) -> dict[str, float]:
        """The samples whose names begin with one of these, as they are written."""
        lines = [line for line in generate_latest(self.view).decode().splitlines() if line.startswith(prefixes)]
        return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines)}


@pytest.fixture
def hire(tmp_path: Path) -> Callable[..., Worker]:
    """Makes a worker."""
    return lambda **options: Worker(tmp_path, **options)
