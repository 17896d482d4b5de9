from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import anyio
import orjson
import psutil
import pytest

from asgi_obs.ops import info as module
from asgi_obs.ops.info import Info
from asgi_obs.ops.request import Caller, OpsRequest
from asgi_obs.settings import Settings
from asgi_obs.testing import http_scope

pytestmark = pytest.mark.anyio

SETTINGS = Settings(service_name="shop", version="1.2.3", build="abc123", environment="staging", ops_token="hunter22")


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    module._platform.cache_clear()
    yield
    module._platform.cache_clear()


async def told(settings: Settings = SETTINGS) -> dict[str, Any]:
    async def receive() -> Any:
        raise AssertionError  # pragma: no cover - it reads no body

    answer = await Info(settings)(OpsRequest(http_scope("/info"), receive, "", Caller(admitted=True)))
    assert answer.status == 200
    content: dict[str, Any] = orjson.loads(answer.body)
    return content


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_it_says_which_service_this_is_and_what_it_runs_on() -> None:
    content = await told()
    said = {name: content[name] for name in ("service", "version", "build", "environment", "python", "asgi_obs")}
    assert said == {
        "service": "shop",
        "version": "1.2.3",
        "build": "abc123",
        "environment": "staging",
        "python": {"version": platform.python_version(), "implementation": sys.implementation.name.replace("cp", "CP")},
        "asgi_obs": metadata.version("asgi-obs"),
    }
    assert platform.system() in content["platform"]


async def test_a_build_that_is_not_known_is_none() -> None:
    assert (await told(Settings(build="")))["build"] is None


async def test_it_says_what_is_installed() -> None:
    dependencies = (await told())["dependencies"]
    assert dependencies["starlette"] == metadata.version("starlette")
    assert list(dependencies) == sorted(dependencies, key=str.lower)


async def test_it_says_since_when() -> None:
    process = (await told())["process"]
    began = psutil.Process().create_time()
    assert process["pid"] == os.getpid()
    assert datetime.fromisoformat(process["started_at"].replace("Z", "+00:00")).timestamp() == pytest.approx(
        began, abs=1
    )
    assert 0 <= process["uptime_seconds"] <= time.time() - began + 1


async def test_what_the_system_does_not_tell_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def deny() -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "Process", deny)
    assert (await told())["process"] == {"pid": os.getpid(), "started_at": None, "uptime_seconds": None}


async def test_packages_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []

    def installed() -> dict[str, str]:
        reads.append(1)
        return {}

    monkeypatch.setattr(module, "_installed", installed)
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(told)
    assert reads == [1]
    assert (await told())["asgi_obs"] is None


async def test_of_what_is_left_of_a_package_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Package:
        def __init__(self, name: str | None, version: str | None) -> None:
            self.metadata = {"Name": name, "Version": version}

    packages = [Package("a", "1"), Package("a", "2"), Package(None, "1"), Package("b", None), Package("c", "1")]
    monkeypatch.setattr(metadata, "distributions", lambda: packages)
    assert module._installed() == {"a": "1", "c": "1"}
    monkeypatch.setattr(module, "MAX_DEPENDENCIES", 1)
    assert module._installed() == {"a": "1"}


async def test_nothing_secret_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_SECRET", "swordfish")
    content = orjson.dumps(await told()).decode()
    for secret in ("hunter22", "swordfish", sys.executable, str(Path(module.__file__).parent)):
        assert secret not in content
