"""What a user has said that matters to a question. Shared words stand in for a language model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import httpx

from asgi_obs import get_logger
from examples.cortex.cognition.metrics import operations

HISTORY = 100
"""Inputs of a user that are looked through, the newest ones."""

_WORD = re.compile(r"\w{4,}")

log = get_logger(__name__)


class Contexts:
    """Finds the context of questions.

    Args:
        memory: A client of the memory service.
    """

    def __init__(self, memory: httpx.AsyncClient) -> None:
        self._memory = memory

    @operations.track("get_context")
    async def get_context(self, user_id: str, query: str, limit: int) -> dict[str, Any]:
        """What the user has said about it, best first, and a summary of one sentence."""
        answer = await self._memory.get(f"/history/{quote(user_id, safe='')}", params={"limit": HISTORY})
        history = [one["text"] for one in answer.raise_for_status().json()]
        context = _matching(query, history)[:limit]
        log.info("context found", extra={"inputs": len(history), "matching": len(context)})
        summary = f"{len(context)} of the last {len(history)} things you said are about it."
        return {"query": query, "context": context, "summary": summary}


def _matching(query: str, history: Sequence[str]) -> list[str]:
    """The texts that share words with a query, those with the most first, newer before older; each one once."""
    wanted = _words(query)
    shared = {text: len(wanted & _words(text)) for text in history if text != query}
    return sorted((text for text, count in shared.items() if count), key=lambda text: -shared[text])


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))
