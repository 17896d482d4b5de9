"""One of the paths of the ops app, and its methods."""

from __future__ import annotations

import pytest

from asgi_obs.ops.answer import Answer
from asgi_obs.ops.endpoint import Endpoint
from asgi_obs.ops.request import OpsRequest


async def nothing(request: OpsRequest) -> Answer:
    raise AssertionError  # pragma: no cover - nobody asks


@pytest.mark.parametrize(
    ("methods", "method", "allowed"),
    [
        (("GET",), "GET", True),
        (("GET",), "HEAD", True),
        (("GET",), "PUT", False),
        (("GET", "PUT"), "PUT", True),
        (("GET",), "get", False),
    ],
)
def test_head_is_always_among_the_methods(methods: tuple[str, ...], method: str, *, allowed: bool) -> None:
    assert Endpoint("info", "/info", nothing, methods=methods).allows(method) is allowed


def test_a_refusal_names_the_methods() -> None:
    answer = Endpoint("loggers", "/loggers/{name}", nothing, "control", ("GET", "PUT")).refusal

    assert (answer.status, dict(answer.headers)[b"allow"]) == (405, b"HEAD, GET, PUT")
