"""Answers on the wire."""

from __future__ import annotations

import asyncio

from asgi_obs.ops.answer import Answer, json_answer, send_answer, text_answer
from asgi_obs.types import Message


def sent(answer: Answer, *, head: bool = False) -> list[Message]:
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    asyncio.run(send_answer(answer, send, head=head))
    return messages


def test_an_answer_has_its_headers_and_those_of_every_answer() -> None:
    start, body = sent(Answer(b"abc", ((b"content-type", b"text/plain"),), 418))
    assert start == {
        "type": "http.response.start",
        "status": 418,
        "headers": [
            (b"content-type", b"text/plain"),
            (b"content-length", b"3"),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
            (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (b"referrer-policy", b"no-referrer"),
        ],
    }
    assert body == {"type": "http.response.body", "body": b"abc"}


def test_the_answer_to_a_head_has_the_same_headers_and_no_body() -> None:
    answer = json_answer({"a": 1})
    start, body = sent(answer, head=True)
    assert start == sent(answer)[0]
    assert body["body"] == b""


def test_json_says_that_it_is_json() -> None:
    answer = json_answer({"detail": "no"}, status=405, headers=((b"allow", b"GET"),))
    assert (answer.status, answer.body) == (405, b'{"detail":"no"}')
    assert answer.headers == ((b"content-type", b"application/json"), (b"allow", b"GET"))


def test_a_503_says_when_to_ask_again() -> None:
    assert json_answer({}, status=503).headers[-1] == (b"retry-after", b"5")
    assert text_answer("no", status=503).headers[-1] == (b"retry-after", b"5")


def test_text_says_that_it_is_text() -> None:
    answer = text_answer("läuft")

    assert (answer.body, answer.headers) == ("läuft".encode(), ((b"content-type", b"text/plain; charset=utf-8"),))
