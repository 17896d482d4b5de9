"""The Protocols of the extension points."""

from __future__ import annotations

import asyncio

import pytest

from asgi_obs import types
from asgi_obs.exchange import ExchangeMiddleware
from asgi_obs.testing import http_scope
from asgi_obs.types import Observer, RouteResolver


def test_every_public_name_is_there():
    assert types.__all__ == sorted(types.__all__)
    assert all(hasattr(types, name) for name in types.__all__)


def test_a_function_of_the_scope_is_a_route_resolver():
    assert isinstance(lambda scope: None, RouteResolver)
    assert not isinstance("/a", RouteResolver)


@pytest.mark.parametrize("hook", ["on_start", "on_response_start", "on_message", "on_body", "on_end", "on_return"])
def test_an_observer_without_a_hook_of_its_own_does_nothing(hook):
    class Silent(Observer): ...

    messages = [{}] if hook in {"on_response_start", "on_message", "on_body"} else []

    assert getattr(Silent(), hook)(None, *messages) is None


def test_an_observer_without_a_hook_of_its_own_does_nothing_at_a_shutdown():
    class Silent(Observer): ...

    assert asyncio.run(Silent().on_shutdown()) is None


def test_a_subclass_of_observer_can_be_given_to_the_middleware():
    class Silent(Observer): ...

    async def app(scope, receive, send):
        return scope["path"]

    with pytest.raises(StopIteration) as stop:
        ExchangeMiddleware(app, observers=[Silent()])(http_scope("/a"), None, None).send(None)

    assert stop.value.value == "/a"
