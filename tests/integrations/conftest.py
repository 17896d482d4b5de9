"""What the handlers of the root logger would write."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from asgi_obs import errors
from asgi_obs.logs import StructuredLogFormatter
from asgi_obs.settings import Settings


class Written(logging.StreamHandler):  # type: ignore[type-arg]
    """Keeps the lines of this library's formatter, and the records."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        super().emit(record)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    @property
    def line(self) -> dict[str, Any]:
        (line,) = self.lines
        return line

    @property
    def record(self) -> logging.LogRecord:
        (record,) = self.records
        return record


@pytest.fixture
def written() -> Iterator[Written]:
    root = logging.getLogger()
    level = root.level
    handler = Written()
    handler.setFormatter(StructuredLogFormatter(settings=Settings(service_name="shop", environment="testing")))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The places whose errors have been reported."""
    places: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [places.append])
    return places
