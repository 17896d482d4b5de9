"""Levels over HTTP: told, changed for a time, and said in the audit log."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_obs.logs.temporary import MAX_LEVELS, TemporaryLevels
from asgi_obs.ops import loggers as endpoint
from asgi_obs.ops.loggers import MAX_SHOWN, Loggers
from asgi_obs.ops.request import Caller, OpsRequest
from asgi_obs.ops.shared_levels import SharedLevels
from asgi_obs.testing import http_scope

pytestmark = pytest.mark.anyio

ANN = Caller(admitted=True, authorised=True, actor="ann")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def levels() -> Iterator[TemporaryLevels]:
    levels = TemporaryLevels()
    yield levels
    for name in levels.all:
        levels.end(name)


@pytest.fixture
def loggers(levels: TemporaryLevels) -> Loggers:
    return Loggers(SharedLevels(levels))


@pytest.fixture
def log(request: pytest.FixtureRequest) -> Iterator[logging.Logger]:
    logger = logging.getLogger(f"test.loggers.{request.node.name}".replace("[", ".").replace("]", ""))
    yield logger
    logger.setLevel(logging.NOTSET)


async def ask(loggers: Loggers, name: str = "", method: str = "GET", body: bytes = b"") -> tuple[int, dict[str, Any]]:
    waiting = [
        {"type": "http.request", "body": body[:10], "more_body": True},
        {"type": "http.request", "body": body[10:]},
    ]

    async def receive() -> Any:
        return waiting.pop(0)

    answer = await loggers(OpsRequest(http_scope(f"/loggers/{name}", method), receive, name, ANN))
    return answer.status, orjson.loads(answer.body)


async def put(loggers: Loggers, name: str, content: Any) -> tuple[int, dict[str, Any]]:
    return await ask(loggers, name, "PUT", content if isinstance(content, bytes) else orjson.dumps(content))


async def test_all_loggers_are_told_with_their_levels(loggers: Loggers, log: logging.Logger) -> None:
    log.setLevel(logging.ERROR)
    child = log.getChild("child")
    status, told = await ask(loggers)
    assert status == 200
    assert told["levels"] == ["TRACE", "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL"]
    assert told["loggers"][log.name] == {"configured_level": "ERROR", "effective_level": "ERROR"}
    assert told["loggers"][child.name] == {"configured_level": None, "effective_level": "ERROR"}
    assert next(iter(told["loggers"])) == "root"


async def test_they_are_no_more_than_a_bound_those_with_a_temporary_level_first(
    loggers: Loggers, log: logging.Logger, levels: TemporaryLevels, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = {f"test.many.{number:04}": log for number in range(2 * MAX_SHOWN)}
    monkeypatch.setattr(logging.Logger.manager, "loggerDict", {**many, "zzz": log, "x": logging.PlaceHolder(log)})
    levels.put("zzz", logging.DEBUG, time.time() + 60)
    _, told = await ask(loggers)
    assert list(told["loggers"])[:3] == ["root", "zzz", "test.many.0000"]
    assert (len(told["loggers"]), told["left_out"]) == (MAX_SHOWN, 2 + 2 * MAX_SHOWN - MAX_SHOWN)
    assert "x" not in told["loggers"]


async def test_one_logger_is_told(loggers: Loggers, log: logging.Logger) -> None:
    log.setLevel(17)
    status, told = await ask(loggers, log.name)
    assert status == 200
    assert told.items() >= {"logger": log.name, "configured_level": "Level 17", "effective_level": "Level 17"}.items()
    assert (await ask(loggers, "root"))[1]["logger"] == "root"


async def test_one_that_does_not_exist_is_not_made_by_asking_for_it(loggers: Loggers) -> None:
    assert await ask(loggers, "test.loggers.none.such") == (404, {"detail": "no such logger"})
    assert await put(loggers, "test.loggers.none.such", {"level": None}) == (404, {"detail": "no such logger"})
    assert "test.loggers.none.such" not in logging.Logger.manager.loggerDict
    logging.getLogger("test.loggers.placed.below")
    assert (await ask(loggers, "test.loggers.placed"))[0] == 404


async def test_a_level_is_put_in_place_for_a_time(loggers: Loggers, log: logging.Logger) -> None:
    log.setLevel(logging.ERROR)
    began = datetime.now(timezone.utc)
    status, told = await put(loggers, log.name, {"level": "DEBUG", "expires_in": 60})
    assert (status, log.level) == (200, logging.DEBUG)
    assert (told["before"], told["workers"]) == ("ERROR", "this one")
    expected = {"configured_level": "ERROR", "effective_level": "DEBUG", "temporary_level": "DEBUG"}
    assert told.items() >= expected.items()
    expires_at = datetime.fromisoformat(told["expires_at"].replace("Z", "+00:00"))
    assert abs(expires_at - began - timedelta(seconds=60)) < timedelta(seconds=30)
    assert (await ask(loggers, log.name))[1].items() >= expected.items()


async def test_it_lasts_ten_minutes_unless_something_else_is_said(
    loggers: Loggers, log: logging.Logger, levels: TemporaryLevels
) -> None:
    await put(loggers, log.name, {"level": "WARN"})
    assert 500 < levels.all[log.name].until - time.time() <= 600
    assert log.level == logging.WARNING


async def test_it_can_be_taken_back(loggers: Loggers, log: logging.Logger) -> None:
    await put(loggers, log.name, {"level": "DEBUG"})
    status, told = await put(loggers, log.name, {"level": None})
    assert (status, log.level) == (200, logging.NOTSET)
    assert (told["configured_level"], told["before"]) == (None, "DEBUG")
    assert "expires_at" not in told


async def test_a_logger_that_does_not_exist_yet_can_have_one(loggers: Loggers, log: logging.Logger) -> None:
    name = f"{log.name}.first"
    assert (await put(loggers, name, {"level": "DEBUG"}))[0] == 200
    assert logging.getLogger(name).level == logging.DEBUG


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "JSON"),
        (b"{", 400, "JSON"),
        (b"\xff", 400, "JSON"),
        ([], 422, "object"),
        ("DEBUG", 422, "object"),
        ({}, 422, "level"),
        ({"expires_in": 60}, 422, "level"),
        ({"level": "DEBUG", "expires": 60}, 422, "expires_in"),
        ({"level": "DEBG"}, 422, "TRACE, DEBUG, INFO"),
        ({"level": "debug"}, 422, "TRACE, DEBUG, INFO"),
        ({"level": 10}, 422, "TRACE, DEBUG, INFO"),
        ({"level": ["DEBUG"]}, 422, "TRACE, DEBUG, INFO"),
        ({"level": "DEBUG", "expires_in": 0}, 422, "from 1 to 86400"),
        ({"level": "DEBUG", "expires_in": 86_401}, 422, "from 1 to 86400"),
        ({"level": "DEBUG", "expires_in": "60"}, 422, "from 1 to 86400"),
        ({"level": "DEBUG", "expires_in": True}, 422, "from 1 to 86400"),
        ({"level": "DEBUG", "expires_in": None}, 422, "from 1 to 86400"),
        (b" " * 4097, 413, "4096 bytes"),
    ],
)
async def test_what_is_wrong_is_refused_with_what_is_allowed(
    loggers: Loggers, log: logging.Logger, caplog: pytest.LogCaptureFixture, body: Any, status: int, said: str
) -> None:
    refused = await put(loggers, log.name, body)
    assert refused[0] == status
    assert said in refused[1]["detail"]
    assert log.level == logging.NOTSET
    assert _audited(caplog) == {
        "event": "logger.level",
        "actor": "ann",
        "outcome": "refused",
        "logger": log.name,
        "reason": refused[1]["detail"],
    }


async def test_a_client_that_leaves_changes_nothing(loggers: Loggers, log: logging.Logger) -> None:
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    answer = await loggers(OpsRequest(http_scope("/", "PUT"), receive, log.name, ANN))
    assert (answer.status, log.level) == (413, logging.NOTSET)


@pytest.mark.parametrize("name", ["x" * 201, "a..b", ".a", "a.", "a\nb", "a\x1b[0mb", "a\ud800"])
async def test_a_name_that_no_logger_should_have_makes_none(loggers: Loggers, name: str) -> None:
    status, told = await put(loggers, name, {"level": "DEBUG"})
    assert (status, name in logging.Logger.manager.loggerDict) == (422, False)
    assert "at most 200 printable characters" in told["detail"]


async def test_there_are_no_more_than_a_number_of_them(
    loggers: Loggers, log: logging.Logger, levels: TemporaryLevels
) -> None:
    for number in range(MAX_LEVELS):
        levels.put(f"{log.name}.{number}", logging.DEBUG, time.time() + 60)
    assert await put(loggers, log.name, {"level": "DEBUG"}) == (
        409,
        {"detail": "at most 100 loggers have a temporary level at once"},
    )
    assert log.level == logging.NOTSET
    assert (await put(loggers, f"{log.name}.0", {"level": "INFO"}))[0] == 200


async def test_past_a_number_of_loggers_none_is_made(
    loggers: Loggers, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "MAX_LOGGERS", 1)
    status, told = await put(loggers, f"{log.name}.new", {"level": "DEBUG"})
    assert (status, told["detail"]) == (409, "there are 1 loggers, so that none is made for this")
    assert (await put(loggers, log.name, {"level": "DEBUG"}))[0] == 200


async def test_a_change_is_in_the_audit_log(
    loggers: Loggers, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    log.setLevel(logging.ERROR)
    await put(loggers, log.name, {"level": "DEBUG", "expires_in": 60})
    began = {"event": "logger.level", "actor": "ann", "outcome": "success", "logger": log.name, "workers": "this one"}
    assert _audited(caplog) == {**began, "old_level": "ERROR", "new_level": "DEBUG", "expires_in": 60}
    await put(loggers, log.name, {"level": None})
    assert _audited(caplog) == {**began, "old_level": "DEBUG", "new_level": "ERROR"}


async def test_with_a_directory_it_is_for_all_workers(
    loggers: Loggers, log: logging.Logger, levels: TemporaryLevels, tmp_path: Path
) -> None:
    shared = SharedLevels(levels)
    shared.follow(str(tmp_path))
    try:
        _, told = await put(Loggers(shared), log.name, {"level": "DEBUG"})
        assert told["workers"] == "all"
        assert log.name in json.loads((tmp_path / "loggers.json").read_text())
        _, told = await put(Loggers(shared), log.name, {"level": None})
        assert told["workers"] == "all"
        assert json.loads((tmp_path / "loggers.json").read_text()) == {}
    finally:
        shared.leave()


_HOSTILE = Loggers(SharedLevels(TemporaryLevels()))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["level", "expires_in", "x"]), inner),
    max_leaves=5,
)


@given(body=st.binary(max_size=60) | JSON.map(lambda content: json.dumps(content).encode()))
def test_no_body_breaks_it(body: bytes) -> None:
    status, told = anyio.run(ask, _HOSTILE, "test.loggers.hostile", "PUT", body)
    assert status in {400, 404, 422}
    assert told["detail"]


def _audited(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    record = [record for record in caplog.records if record.name == "audit"][-1]
    names = ("event", "actor", "outcome", "logger", "reason", "old_level", "new_level", "expires_in", "workers")
    return {name: record.__dict__[name] for name in names if name in record.__dict__}
