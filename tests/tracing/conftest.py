"""Spans that are kept, and errors that were reported."""

from __future__ import annotations

import pytest

from asgi_obs import errors
from asgi_obs.settings import Settings
from tests.tracing.spans import Spans


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The places whose errors were reported."""
    seen: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [seen.append])
    monkeypatch.setattr(errors, "_last_logged", {})
    return seen


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without any of our variables."""
    for variable in Settings.variables().values():
        monkeypatch.delenv(variable, raising=False)
