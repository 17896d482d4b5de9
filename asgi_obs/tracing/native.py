"""Telemetry that frameworks bring themselves, where it would make a second span of every request.

FastAPI makes spans from 0.165 on as soon as a tracer provider is set, outside of all that is installed in it: with its
own rules of trust and redaction. So whoever installs ours turns off its tracing, for this application; its metrics and
logs stay. Where it was given a provider of its own somebody wants it: then it stays, and its span is told what ours
would say.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from asgi_obs.types import Scope

__all__ = ["claim", "claims", "turn_off_tracing"]

_CLAIMS: Final = {
    "fastapi.telemetry": ("fastapi.telemetry", None),
    "starlette.opentelemetry": ("starlette.middleware.opentelemetry", True),
}
"""Keys and values of a scope that say that a request has its span, and the modules that look for them."""


def turn_off_tracing(app: Any) -> None:
    """Have an application make no spans of requests itself."""
    config = getattr(app, "_telemetry", None)
    if isinstance(config, dict) and config.get("tracer_provider") is None and "tracing" in config:
        config["tracing"] = False


def claims() -> dict[str, object]:
    """What to put into the scope of a request that has its span, for those modules that are loaded."""
    return {key: value for key, (module, value) in _CLAIMS.items() if module in sys.modules}


def claim(scope: Scope, claimed: Mapping[str, object]) -> None:
    """Tell what is inside that a request has its span.

    It would start another one, as a child of the caller's or in a trace of its own.
    """
    for key, value in claimed.items():
        scope.setdefault(key, value)
