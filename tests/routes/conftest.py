"""What the tests of the route templates share: one request, and the template it ended up with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from asgi_obs import errors
from asgi_obs.exchange import Exchange, ExchangeMiddleware
from asgi_obs.testing import drive, http_scope, websocket_scope
from asgi_obs.types import ASGIApp, Observer


class Ends(Observer):
    def __init__(self) -> None:
        self.exchange: Exchange

    def on_end(self, exchange: Exchange) -> None:
        self.exchange = exchange


class Routed:
    """An application and its middleware; a call serves one request and returns its status and template."""

    def __init__(self, app: ASGIApp, **options: Any) -> None:
        self.ends = Ends()
        self.stack = ExchangeMiddleware(app, observers=[self.ends], **options)

    def __call__(self, path: str, method: str = "GET", **more: Any) -> tuple[int | None, str | None]:
        asyncio.run(drive(self.stack, http_scope(path, method, **more)))
        return self.ends.exchange.status, self.ends.exchange.route

    def websocket(self, path: str, **more: Any) -> tuple[int | None, str | None]:
        incoming = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]
        asyncio.run(drive(self.stack, websocket_scope(path, **more), incoming))
        return self.ends.exchange.status, self.ends.exchange.route


@pytest.fixture
def routed() -> Callable[..., Routed]:
    return Routed


@pytest.fixture(autouse=True)
def reports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The components whose errors were reported."""
    seen: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [seen.append])
    monkeypatch.setattr(errors, "_last_logged", {})
    return seen
