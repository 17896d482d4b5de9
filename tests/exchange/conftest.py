"""What the tests of the engine share: an observer that writes everything down, a server, a clock."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from asgi_obs import errors
from asgi_obs.exchange import Exchange
from asgi_obs.exchange import middleware as middleware_module
from asgi_obs.types import ASGIApp, Message, Observer, Scope


class Recorder(Observer):
    """Writes down every call, and what the exchange looked like at its end."""

    def __init__(self, name: str = "", events: list[str] | None = None) -> None:
        self.name = name
        self.events: list[str] = [] if events is None else events
        self.messages: list[Message] = []
        self.ended: list[Exchange] = []
        self.at_end: list[dict[str, Any]] = []
        self.at_return: list[dict[str, Any]] = []

    def on_start(self, exchange: Exchange) -> Callable[[], object]:
        self.events.append(f"{self.name}start")
        return lambda: self.events.append(f"{self.name}undo")

    def on_response_start(self, exchange: Exchange, message: Message) -> None:
        self.events.append(f"{self.name}response_start")

    def on_message(self, exchange: Exchange, message: Message) -> None:
        self.events.append(f"{self.name}message")
        self.messages.append(message)

    def on_end(self, exchange: Exchange) -> None:
        self.events.append(f"{self.name}end")
        self.ended.append(exchange)
        self.at_end.append(_fields(exchange))

    def on_return(self, exchange: Exchange) -> None:
        self.events.append(f"{self.name}return")
        self.at_return.append(_fields(exchange))


def _fields(exchange: Exchange) -> dict[str, Any]:
    names = {name for cls in type(exchange).__mro__ for name in getattr(cls, "__slots__", ())}
    return {name: getattr(exchange, name) for name in names if not name.startswith("_")}


class Server:
    """A server of one request: hands out `incoming`, then waits for ever; keeps what it accepts.

    `refuse(message)` may return an exception for `send` to raise; `on_send(message)` is awaited before a message is
    accepted.
    """

    def __init__(
        self,
        incoming: Iterable[Message] | None = None,
        refuse: Callable[[Message], BaseException | None] = lambda _: None,
        on_send: Callable[[Message], Any] | None = None,
    ) -> None:
        self.incoming = deque(
            [{"type": "http.request", "body": b"", "more_body": False}] if incoming is None else incoming
        )
        self.refuse = refuse
        self.on_send = on_send
        self.sent: list[Message] = []
        self.error: BaseException | None = None
        self.result: Any = None

    async def receive(self) -> Message:
        if not self.incoming:
            await asyncio.get_running_loop().create_future()
        return self.incoming.popleft()

    async def send(self, message: Message) -> None:
        if self.on_send is not None:
            await self.on_send(message)
        error = self.refuse(message)
        if error is not None:
            raise error
        self.sent.append(message)

    async def serve(self, app: ASGIApp, scope: Scope) -> Server:
        """Run the application; what it raises is kept in `error`."""
        try:
            self.result = await app(scope, self.receive, self.send)
        except BaseException as error:
            self.error = error
        return self

    def run(self, app: ASGIApp, scope: Scope) -> Server:
        return asyncio.run(self.serve(app, scope))


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> type[Server]:
    return Server


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def make_recorder() -> type[Recorder]:
    return Recorder


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("base", "http", "websocket"):
        monkeypatch.setattr(f"asgi_obs.exchange.{module}.perf_counter", clock)
    return clock


@pytest.fixture(autouse=True)
def reports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The components whose errors were reported; the state that outlives a test is set back."""
    seen: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [seen.append])
    monkeypatch.setattr(errors, "_last_logged", {})
    monkeypatch.setattr(middleware_module, "_said_twice", set())
    return seen
