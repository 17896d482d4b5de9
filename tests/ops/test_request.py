"""What an endpoint gets to know of a request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anyio
import pytest

from asgi_obs.ops.request import Caller, OpsRequest
from asgi_obs.testing import http_scope
from asgi_obs.types import Message

pytestmark = pytest.mark.anyio


def request(messages: Iterable[Message] = (), **scope: Any) -> OpsRequest:
    queue = list(messages)

    async def receive() -> Message:
        return queue.pop(0)

    return OpsRequest({**http_scope("/loggers/a"), **scope}, receive, "a", Caller(admitted=True))


@pytest.mark.parametrize(("method", "expected"), [("GET", "GET"), ("HEAD", "GET"), ("PUT", "PUT")])
def test_a_head_is_a_get(method: str, expected: str) -> None:
    assert request(method=method).method == expected


def test_the_query_is_read_with_names_that_have_no_value() -> None:
    assert request(query_string=b"verbose&name[]=a&name[]=b%20c").query == {"verbose": [""], "name[]": ["a", "b c"]}
    scope = http_scope("/")
    scope.pop("query_string", None)
    assert OpsRequest(scope, request().receive, "", Caller(admitted=True)).query == {}


def test_several_headers_of_one_name_are_one() -> None:
    made = request(headers=[(b"accept", b"a"), (b"x", b"y"), (b"accept", b"b\xff")])

    assert (made.header(b"accept"), made.header(b"none")) == ("a,b\xff", "")


async def test_a_body_is_read_to_its_end() -> None:
    parts = [{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.request", "body": b"c"}]

    assert await request(parts).body(3) == b"abc"


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "http.request", "body": b"abcd"}],
        [{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.request", "body": b"cd"}],
        [{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.disconnect"}],
    ],
)
async def test_a_body_that_is_too_long_or_broken_off_is_refused(messages: list[Message]) -> None:
    with pytest.raises(ValueError, match="at most 3 bytes"):
        await request(messages).body(3)


async def test_a_body_that_does_not_come_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_obs.ops.request.PATIENCE", 0.01)

    async def never() -> Message:
        await anyio.sleep_forever()
        raise AssertionError  # pragma: no cover - never

    with pytest.raises(ValueError, match=r"at most 0\.01 seconds"):
        await OpsRequest(http_scope("/"), never, "", Caller(admitted=True)).body(3)


def test_a_request_is_made_for_one_caller() -> None:
    async def read() -> bytes:
        return await request([{"type": "http.request"}]).body(1)

    assert anyio.run(read) == b""
