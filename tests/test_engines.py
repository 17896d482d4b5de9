"""Whatever engine is given, the one that does the work is found."""

from __future__ import annotations

import sys

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from asgi_obs.engines import engine_of
from asgi_obs.errors import ConfigurationError, MissingExtraError


def test_an_engine_is_itself() -> None:
    engine = create_engine("sqlite://")
    assert engine_of(engine, option="engine", feature="a feature") is engine


def test_an_async_engine_has_one_in_it() -> None:
    engine = create_async_engine("sqlite+aiosqlite://")
    assert engine_of(engine, option="engine", feature="a feature") is engine.sync_engine


def test_what_is_no_engine_is_said() -> None:
    with pytest.raises(ConfigurationError, match="db_engine='sqlite://' is not valid: expected an engine"):
        engine_of("sqlite://", option="db_engine", feature="a feature")


def test_without_sqlalchemy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy.engine", None)
    with pytest.raises(MissingExtraError, match=r"a feature needs .*asgi-obs\[sqlalchemy\]"):
        engine_of(None, option="engine", feature="a feature")
