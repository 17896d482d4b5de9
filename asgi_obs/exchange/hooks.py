"""The hooks of the observers of an exchange, sorted out once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from asgi_obs.types import Observer

__all__ = ["Hooks"]


class Hooks:
    """The hooks of some observers, in calling order; one that is not overridden is left out.

    Args:
        observers: From the outermost to the innermost: starts run in this order, ends in the reverse.
    """

    __slots__ = ("body", "end", "message", "observers", "response_start", "returned", "shutdown", "start")

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.observers = tuple(observers)
        self.start = _overridden(self.observers, "on_start")
        self.response_start = _overridden(self.observers, "on_response_start")
        self.message = _overridden(self.observers, "on_message")
        self.body = _overridden(self.observers, "on_body")
        self.end = _overridden(self.observers[::-1], "on_end")
        self.returned = _overridden(self.observers[::-1], "on_return")
        self.shutdown = _overridden(self.observers[::-1], "on_shutdown")


def _overridden(observers: Sequence[Observer], name: str) -> tuple[Callable[..., Any], ...]:
    default = getattr(Observer, name)
    return tuple(
        getattr(observer, name) for observer in observers if getattr(type(observer), name, default) is not default
    )
