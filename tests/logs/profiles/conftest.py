"""A line of our schema as the formatter gives it to a profile, and the record that it is of."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from asgi_obs.logs.profiles import Profile, make_profile
from asgi_obs.settings import Settings

HEAD = {
    "timestamp": "2025-03-21T10:15:30.123Z",
    "level": "INFO",
    "service": "shop",
    "component": "shop.cart",
    "message": "hello",
}
TAIL = {"hostname": "web-1", "pid": 4242, "environment": "testing", "version": "1.2.3"}

REQUEST = {
    "correlation_id": "c-1",
    "trace_id": "a" * 32,
    "span_id": "b" * 16,
    "user_id": "u-1",
    "method": "GET",
    "path": "/items/3",
    "route": "/items/{item_id}",
    "status_code": 200,
    "duration_ms": 1.25,
    "ttfb_ms": 1.1,
    "bytes_in": 7,
    "bytes_out": 12,
    "outcome": "completed",
    "query": "a=1",
    "client_ip": "127.0.0.1",
    "user_agent": "curl/8",
    "http_version": "1.1",
    "scheme": "http",
    "authenticated": False,
    "context": {"cart": 5},
}
"""The fields of a request's line."""

Render = Callable[..., dict[str, Any]]


def line_with(fields: dict[str, Any]) -> dict[str, Any]:
    """A line with these fields, of which `level` may be one."""
    return {**HEAD, **fields, **TAIL}


def record_with(**attributes: Any) -> logging.LogRecord:
    record = logging.LogRecord("shop.cart", logging.INFO, "/srv/shop/cart.py", 42, "hello", (), None, "add")
    record.created = 1742552130.123456
    record.__dict__.update(attributes)
    return record


def profile_named(name: str, project: str = "") -> Profile:
    profile = make_profile(Settings(environment="testing", log_profile=name, google_cloud_project=project))
    assert profile is not None
    return profile


@pytest.fixture
def request_fields() -> dict[str, Any]:
    return {**REQUEST}


@pytest.fixture
def render(request: pytest.FixtureRequest) -> Render:
    """What the profile that a test module names in `PROFILE` makes of a line with some fields."""
    profile = profile_named(request.module.PROFILE)
    return lambda record=None, **fields: profile(line_with(fields), record or record_with())
