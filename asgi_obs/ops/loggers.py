"""`/loggers`: which levels loggers have, and a level for a time.

`GET /loggers` tells those of all loggers, `GET /loggers/{name}` that of one. `PUT /loggers/{name}` gives one a level
that ends by itself: `{"level": "DEBUG", "expires_in": 600}`; with `{"level": null}` it ends at once. What is changed is
in the audit log, and so is its end. Costs some microseconds for each logger that is told of.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

import orjson

from asgi_obs.health.concurrency import ThreadRoom
from asgi_obs.logs import audit_log
from asgi_obs.logs.levels import level_number
from asgi_obs.logs.safe import escape
from asgi_obs.logs.temporary import MAX_LEVELS, level_text
from asgi_obs.logs.thresholds import level_of, threshold_of
from asgi_obs.ops.answer import Answer, json_answer
from asgi_obs.ops.levels_file import MAX_NAME, MAX_SECONDS, is_logger_name
from asgi_obs.ops.request import OpsRequest
from asgi_obs.ops.shared_levels import SharedLevels, shared_levels
from asgi_obs.settings import LOG_LEVELS
from asgi_obs.settings.parse import is_whole

__all__ = ["Loggers"]

ROOT: Final = "root"

MAX_SHOWN: Final = 1_000
"""Loggers in one answer."""

MAX_LOGGERS: Final = 10_000
"""Past so many, none is made because somebody asks for it: loggers stay for the life of the process."""

DEFAULT_SECONDS: Final = 600

NO_SUCH: Final = "no such logger"

_MAX_BODY: Final = 4096
_NOT_FOUND: Final = json_answer({"detail": NO_SUCH}, status=404)
_KEYS: Final = frozenset({"level", "expires_in"})

_threads: Final = ThreadRoom("asgi_obs.levels", size=1)


class Loggers:
    """The endpoint.

    Args:
        levels: The temporary levels.
    """

    def __init__(self, levels: SharedLevels = shared_levels) -> None:
        self._levels = levels

    async def __call__(self, request: OpsRequest) -> Answer:
        """Answer a request."""
        name = request.argument
        if request.method == "PUT":
            return await self._put(request, name)
        if not name:
            return json_answer(self._all())
        return json_answer(self._one(name)) if _exists(name) else _NOT_FOUND

    def _all(self) -> dict[str, Any]:
        temporary = self._levels.levels.all
        names = [name for name in list(logging.Logger.manager.loggerDict) if _exists(name)]
        names.sort(key=lambda name: (name not in temporary, name))
        shown = [ROOT, *names][:MAX_SHOWN]
        return {
            "levels": LOG_LEVELS,
            "loggers": {escape(name): self._state(name) for name in shown},
            "left_out": 1 + len(names) - len(shown),
            "pid": os.getpid(),
        }

    def _one(self, name: str) -> dict[str, Any]:
        return {"logger": escape(name), **self._state(name), "pid": os.getpid()}

    def _state(self, name: str) -> dict[str, Any]:
        logger, entry = logging.getLogger(name), self._levels.levels.all.get(name)
        configured = level_of(logger) if entry is None else entry.before
        state = {"configured_level": level_text(configured), "effective_level": level_text(threshold_of(name))}
        if entry is not None:
            state |= {"temporary_level": level_text(entry.level), "expires_at": _timestamp(entry.until)}
        return state

    async def _put(self, request: OpsRequest, name: str) -> Answer:
        actor = request.caller.actor
        try:
            change = _parse(await _body_of(request))
            _require_usable(name, change)
            return json_answer(await _threads.run(lambda: self._apply(name, change, actor)))
        except _Refusal as refusal:
            audit_log("logger.level", actor=actor, outcome="refused", logger=name[:MAX_NAME], reason=refusal.detail)
            return json_answer({"detail": refusal.detail}, status=refusal.status)

    def _apply(self, name: str, change: _Change, actor: str | None) -> dict[str, Any]:
        """Change a level, and say so in the audit log; in a thread: it is done as a whole though the client leaves."""
        before = level_text(threshold_of(name))
        if change.level is None:
            workers = self._levels.end(name)
        else:
            level = level_number(change.level)
            workers = self._levels.put(name, level, time.time() + change.expires_in)
        if workers == "none":
            raise _Refusal(409, f"at most {MAX_LEVELS} loggers have a temporary level at once")
        audited = {"logger": name, "old_level": before, "new_level": level_text(threshold_of(name)), "workers": workers}
        expires = {"expires_in": change.expires_in} if change.level is not None else {}
        audit_log("logger.level", actor=actor, outcome="success", **audited, **expires)
        return {**self._one(name), "before": before, "workers": workers}


@dataclass(frozen=True)
class _Change:
    """What a body asks for."""

    level: str | None
    expires_in: int


class _Refusal(Exception):  # noqa: N818 - nothing of ours has failed
    """What a request asks for cannot be done."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


async def _body_of(request: OpsRequest) -> bytes:
    try:
        return await request.body(_MAX_BODY)
    except ValueError:
        raise _Refusal(413, f"the body has to be there as a whole, with at most {_MAX_BODY} bytes") from None


def _parse(body: bytes) -> _Change:
    try:
        given = orjson.loads(body)
    except ValueError:
        raise _Refusal(400, 'the body has to be JSON, such as {"level": "DEBUG", "expires_in": 600}') from None
    if not isinstance(given, dict) or "level" not in given or not given.keys() <= _KEYS:
        raise _Refusal(422, "the body has to be an object with level, and expires_in if it is not to be the default")
    level, expires_in = given["level"], given.get("expires_in", DEFAULT_SECONDS)
    if level is not None and level not in LOG_LEVELS:
        raise _Refusal(422, f"level has to be one of {', '.join(LOG_LEVELS)}, or null to end a temporary one")
    if not is_whole(expires_in, 1, MAX_SECONDS):
        raise _Refusal(422, f"expires_in has to be a whole number of seconds from 1 to {MAX_SECONDS}")
    return _Change(level, expires_in)


def _require_usable(name: str, change: _Change) -> None:
    if _exists(name):
        return
    if change.level is None:
        raise _Refusal(404, NO_SUCH)
    if not is_logger_name(name):
        raise _Refusal(422, f"the name of a logger has at most {MAX_NAME} printable characters, and no empty part")
    if len(logging.Logger.manager.loggerDict) >= MAX_LOGGERS:
        raise _Refusal(409, f"there are {MAX_LOGGERS} loggers, so that none is made for this")


def _exists(name: str) -> bool:
    return name == ROOT or isinstance(logging.Logger.manager.loggerDict.get(name), logging.Logger)


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
