"""The hooks of the observers of an exchange, sorted out once, and called so that none can break a request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from asgi_obs.errors import report_call
from asgi_obs.types import Observer

if TYPE_CHECKING:
    from asgi_obs.exchange.base import Exchange

__all__ = ["Hooks", "call"]


class Hooks:
    """The hooks of some observers, in calling order; one that is not overridden is left out.

    Args:
        observers: From the outermost to the innermost: starts run in this order, ends in the reverse.
    """

    __slots__ = ("end", "message", "observers", "response_start", "returned", "start")

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.observers = tuple(observers)
        self.start = _overridden(self.observers, "on_start")
        self.response_start = _overridden(self.observers, "on_response_start")
        self.message = _overridden(self.observers, "on_message")
        self.end = _overridden(self.observers[::-1], "on_end")
        self.returned = _overridden(self.observers[::-1], "on_return")


def _overridden(observers: Sequence[Observer], name: str) -> tuple[Callable[..., Any], ...]:
    default = getattr(Observer, name)
    return tuple(
        getattr(observer, name) for observer in observers if getattr(type(observer), name, default) is not default
    )


def call(hooks: Iterable[Callable[..., Any]], exchange: Exchange) -> None:
    """Call every hook with the exchange; what one raises is reported and stops no other."""
    for hook in hooks:
        try:
            hook(exchange)
        except Exception as error:  # noqa: BLE001 - fail open: an observer never breaks a request
            report_call(hook, error)
