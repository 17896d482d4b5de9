"""The lifespan of an application, seen from outside."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from asgi_obs.health import HealthRegistry
from asgi_obs.ops import OpsApp, mount_ops
from asgi_obs.testing import drive
from asgi_obs.types import Message, Receive, Scope, Send

pytestmark = pytest.mark.anyio

ANSWERED = object()


class Living:
    """An application with a lifespan, and what it does in it."""

    def __init__(self, startup: Callable[[], object] = lambda: None) -> None:
        self.startup = startup
        self.heard: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> object:
        while True:
            message = await receive()
            self.heard.append(message["type"])
            if message["type"] == "lifespan.startup":
                self.startup()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return ANSWERED


def server_messages() -> list[Message]:
    return [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]


async def test_the_lifespan_is_the_applications_and_readiness_fails_before_it_hears_of_the_end() -> None:
    health = HealthRegistry()
    seen: list[str] = []
    app = Living()
    messages = server_messages()

    async def from_server() -> Message:
        return messages.pop(0)

    async def to_server(message: Message) -> None:
        seen.append(f"{message['type']} {health.readiness.state}")

    mounted = mount_ops(app, OpsApp(health=health, registry=CollectorRegistry()))

    assert await mounted({"type": "lifespan"}, from_server, to_server) is ANSWERED
    assert seen == ["lifespan.startup.complete ready", "lifespan.shutdown.complete draining"]
    assert app.heard == ["lifespan.startup", "lifespan.shutdown"]


async def test_a_group_with_an_unknown_member_fails_the_start_and_the_application_cleans_up() -> None:
    health = HealthRegistry()
    health.add("cache", lambda: True)
    health.group("storage", ["cache", "database"])
    app = Living()

    sent = await drive(
        mount_ops(app, OpsApp(health=health, registry=CollectorRegistry())), {"type": "lifespan"}, server_messages()[:1]
    )

    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert "database" in sent[0]["message"]
    assert app.heard == ["lifespan.startup", "lifespan.shutdown"]


async def test_members_may_be_added_while_the_application_starts() -> None:
    health = HealthRegistry()
    health.group("storage", ["database"])
    app = Living(lambda: health.add("database", lambda: True))

    sent = await drive(
        mount_ops(app, OpsApp(health=health, registry=CollectorRegistry())), {"type": "lifespan"}, server_messages()
    )

    assert sent[0]["type"] == "lifespan.startup.complete"


async def test_the_ops_app_alone_does_not_start_with_an_unknown_member_either() -> None:
    health = HealthRegistry()
    health.group("storage", ["database"])

    sent = await drive(OpsApp(health=health, registry=CollectorRegistry()), {"type": "lifespan"}, server_messages()[:1])

    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
