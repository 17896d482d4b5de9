"""The answers of the ops app: small, complete, never cached, never guessed at or embedded by a browser."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from asgi_obs.types import Send

__all__ = ["RETRY_AFTER", "Answer", "Header", "json_answer", "send_answer", "text_answer"]

Header = tuple[bytes, bytes]

RETRY_AFTER: Final[Header] = (b"retry-after", b"5")
"""Seconds; of every 503 (RFC 9110, section 10.2.3)."""

_ALWAYS: Final[tuple[Header, ...]] = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
)
"""https://cheatsheetseries.owasp.org/cheatsheets/REST_Security_Cheat_Sheet.html#security-headers"""


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


def json_answer(
    content: Any, *, status: int = 200, headers: Iterable[Header] = (), media_type: bytes = b"application/json"
) -> Answer:
    """An answer in JSON; a 503 says when to ask again."""
    return Answer(orjson.dumps(content), _headers(media_type, status, headers), status)


def text_answer(text: str, *, status: int = 200) -> Answer:
    """An answer in plain text."""
    return Answer(text.encode(), _headers(b"text/plain; charset=utf-8", status, ()), status)


def _headers(media_type: bytes, status: int, headers: Iterable[Header]) -> tuple[Header, ...]:
    return ((b"content-type", media_type), *headers, *((RETRY_AFTER,) if status == 503 else ()))


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
