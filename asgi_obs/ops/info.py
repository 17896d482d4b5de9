"""`/info`: which service this is, and what it runs on.

Nothing in it is secret: no variables of the environment, no command line, no paths. The first request reads what is
installed, in a thread, some milliseconds for each hundred packages; those after it take microseconds.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import lru_cache
from importlib import metadata
from typing import Any, Final

import psutil

from asgi_obs.health.concurrency import ThreadRoom
from asgi_obs.ops.answer import Answer, json_answer
from asgi_obs.ops.request import OpsRequest
from asgi_obs.settings import Settings

__all__ = ["Info"]

MAX_DEPENDENCIES: Final = 2_000

_threads: Final = ThreadRoom("asgi_obs.info", size=1)


class Info:
    """The endpoint.

    Args:
        settings: Name, version, build and environment of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self._service = {
            "service": settings.service_name,
            "version": settings.version,
            "build": settings.build or None,
            "environment": settings.environment,
        }

    async def __call__(self, _request: OpsRequest) -> Answer:
        """Answer a request."""
        return json_answer({**self._service, **await _threads.run(_platform), "process": _process()})


@lru_cache(maxsize=1)
def _platform() -> Mapping[str, Any]:
    """What stays the same while a process lives."""
    installed = _installed()
    return {
        "python": {"version": platform.python_version(), "implementation": platform.python_implementation()},
        "platform": platform.platform(),
        "asgi_obs": installed.get("asgi-obs"),
        "dependencies": installed,
    }


def _installed() -> dict[str, str]:
    """The version of each package; of one that is there twice, of the one that is imported."""
    found: dict[str, str] = {}
    for package in metadata.distributions():
        name, version = package.metadata["Name"], package.metadata["Version"]
        if name and version and len(found) < MAX_DEPENDENCIES:  # what is left of a package may have none
            found.setdefault(name, version)
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _process() -> dict[str, Any]:
    try:
        began: float = psutil.Process().create_time()
    except (psutil.Error, OSError):  # no /proc
        return {"pid": os.getpid(), "started_at": None, "uptime_seconds": None}
    started_at = datetime.fromtimestamp(began, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    uptime = round(max(time.time() - began, 0.0), 3)
    return {"pid": os.getpid(), "started_at": started_at, "uptime_seconds": uptime}
