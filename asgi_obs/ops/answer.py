"""The answers of the ops app: small, complete, never cached, never guessed at by a browser."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from asgi_obs.types import Send

__all__ = ["Answer", "Header", "json_answer", "send_answer"]

Header = tuple[bytes, bytes]

_ALWAYS: Final[tuple[Header, ...]] = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


@dataclass(frozen=True, slots=True)
class Answer:
    """A response.

    Attributes:
        body: The whole body.
        headers: Its headers, without content-length and without those that every answer has.
        status: The status.
    """

    body: bytes
    headers: tuple[Header, ...]
    status: int = 200


def json_answer(content: Any, *, status: int = 200, headers: Iterable[Header] = ()) -> Answer:
    """An answer in JSON."""
    return Answer(orjson.dumps(content), ((b"content-type", b"application/json"), *headers), status)


async def send_answer(answer: Answer, send: Send, *, head: bool) -> None:
    """Send an answer.

    Args:
        answer: The answer.
        send: The server's `send`.
        head: Whether the request is a HEAD: the same headers, no body.
    """
    length = str(len(answer.body)).encode("ascii")
    headers = [*answer.headers, (b"content-length", length), *_ALWAYS]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else answer.body})
