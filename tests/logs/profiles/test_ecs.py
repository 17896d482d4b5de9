from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

PROFILE = "ecs"

Render = Callable[..., dict[str, Any]]


def test_the_first_keys_are_those_that_the_schema_wants_first(render: Render) -> None:
    made = render()
    assert list(made)[:4] == ["@timestamp", "log.level", "message", "ecs.version"]
    assert (made["@timestamp"], made["log.level"], made["message"]) == ("2025-03-21T10:15:30.123Z", "info", "hello")


def test_service_host_and_process_have_their_fields(render: Render) -> None:
    made = render()
    assert made["service"] == {"name": "shop", "environment": "testing", "version": "1.2.3"}
    assert (made["log"], made["host"], made["process"]) == (
        {"logger": "shop.cart"},
        {"hostname": "web-1"},
        {"pid": 4242},
    )
    assert "asgi_obs" not in made


def test_a_request_has_its_fields(render: Render, request_fields: dict[str, Any]) -> None:
    made = render(**request_fields)
    assert made["http"] == {
        "request": {"id": "c-1", "method": "GET", "body": {"bytes": 7}},
        "response": {"status_code": 200, "body": {"bytes": 12}},
        "version": "1.1",
    }
    assert made["url"] == {"path": "/items/3", "query": "a=1", "scheme": "http"}
    assert (made["trace"], made["span"]) == ({"id": "a" * 32}, {"id": "b" * 16})
    assert (made["user"], made["user_agent"]) == ({"id": "u-1"}, {"original": "curl/8"})
    assert made["client"] == {"address": "127.0.0.1", "ip": "127.0.0.1"}
    assert made["event"] == {"duration": 1_250_000, "outcome": "success"}
    assert made["asgi_obs"] == {
        "route": "/items/{item_id}",
        "ttfb_ms": 1.1,
        "outcome": "completed",
        "authenticated": False,
        "context": {"cart": 5},
    }


@pytest.mark.parametrize("address", ["testclient", "fe80::1%eth0", ""])
def test_an_address_that_is_no_ip_is_not_called_one(render: Render, address: str) -> None:
    assert render(client_ip=address)["client"] == {"address": address}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"outcome": "completed"}, "success"),
        ({"outcome": "completed", "status_code": 499}, "success"),
        ({"outcome": "completed", "status_code": 500}, "failure"),
        ({"outcome": "completed", "status_code": "500"}, "success"),
        ({"outcome": "error"}, "failure"),
        ({"outcome": "incomplete"}, "failure"),
        ({"outcome": "cancelled"}, "unknown"),
        ({"outcome": "client_disconnected"}, "unknown"),
        ({"outcome": "failure"}, "failure"),
    ],
)
def test_an_outcome_is_success_failure_or_unknown(render: Render, fields: dict[str, Any], expected: str) -> None:
    made = render(**fields)
    assert made["event"] == {"outcome": expected}
    assert made["asgi_obs"]["outcome"] == fields["outcome"]


def test_an_outcome_of_others_is_theirs(render: Render) -> None:
    for outcome in ("denied", ["error"]):
        made = render(outcome=outcome)
        assert "event" not in made
        assert made["asgi_obs"] == {"outcome": outcome}


@pytest.mark.parametrize("duration", ["1", math.nan, math.inf, -1, 10**400, True])
def test_what_is_no_duration_is_not_called_one(render: Render, duration: Any) -> None:
    made = render(duration_ms=duration)
    assert "event" not in made
    assert made["asgi_obs"]["duration_ms"] is duration


def test_a_value_of_another_type_than_its_field_stays_beside_it(render: Render) -> None:
    strange = {"status_code": "200", "method": 5, "user_id": 7, "bytes_in": 1.5, "path": {"a": 1}, "client_ip": None}
    made = render(**strange)
    assert made["asgi_obs"] == strange
    assert not {"http", "user", "url", "client"} & made.keys()


def test_an_error_has_its_fields(render: Render) -> None:
    causes = [{"type": "OSError", "message": "disk"}]
    made = render(error={"type": "ValueError", "message": "bad", "causes": causes, "stack": "Traceback"})
    assert made["error"] == {"type": "ValueError", "message": "bad", "stack_trace": "Traceback"}
    assert made["asgi_obs"] == {"error": {"causes": causes}}


def test_an_error_that_is_a_text_is_its_message(render: Render) -> None:
    made = render(error="bad")
    assert made["error"] == {"message": "bad"}
    assert "asgi_obs" not in made


@pytest.mark.parametrize("error", [5, {"code": 7}, {"message": 7}])
def test_an_error_of_another_shape_is_kept(render: Render, error: Any) -> None:
    made = render(error=error)
    assert "error" not in made
    assert made["asgi_obs"] == {"error": error}


def test_fields_of_others_never_stand_where_the_schema_has_its_own(render: Render) -> None:
    theirs = {"@timestamp": 1, "log.level": 2, "service.name": 3, "http": 4, "asgi_obs": 5, "ecs.version": 6}
    made = render(**theirs)
    assert made["asgi_obs"] == theirs
    assert made["@timestamp"] == "2025-03-21T10:15:30.123Z"
