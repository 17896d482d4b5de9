"""The database server of the tests: it can be stopped and suspended, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine

from tests.metrics.process.event_loops import until
from tests.postgres import USER, Postgres

ROOT = Path(__file__).parents[1]

KILLED = """
import os, signal
from tests.postgres import _server
with _server() as server:
    print(server._data.parent, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def answer(server: Postgres) -> str:
    with create_engine(server.url("psycopg"), poolclass=NullPool).connect() as connection:
        return connection.execute(text("SELECT current_user")).scalar_one()


async def answer_within(server: Postgres, seconds: float) -> str:
    engine = create_async_engine(server.url("asyncpg"), poolclass=NullPool, connect_args={"timeout": seconds})
    async with engine.connect() as connection:
        return (await connection.execute(text("SELECT current_user"))).scalar_one()


def test_it_answers(postgres) -> None:
    assert answer(postgres) == USER


def test_it_is_stopped_and_comes_back_at_the_same_address(own_postgres) -> None:
    own_postgres.stop()
    with pytest.raises(OperationalError, match="refused"):
        answer(own_postgres)
    own_postgres.start()
    assert answer(own_postgres) == USER


def test_it_is_suspended_and_goes_on(own_postgres) -> None:
    own_postgres.suspend()
    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(answer_within(own_postgres, 0.1))
    own_postgres.resume()
    assert asyncio.run(answer_within(own_postgres, 30)) == USER


def test_when_the_tests_are_killed_nothing_of_it_is_left() -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    directory = Path(killed.stdout.strip())
    until(lambda: not directory.exists())
    assert (killed.returncode, directory.is_absolute()) == (-9, True)
