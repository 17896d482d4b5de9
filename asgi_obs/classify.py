"""What was seen of an exchange -> its outcome and its status.

The one place where an exchange is judged, so that log line, metric and span cannot disagree.

=====================  ===========================================================================
outcome                meaning
=====================  ===========================================================================
completed              the response was finished (or the WebSocket closed in order)
client_disconnected    the client left first: `http.disconnect` was seen, or `send` raised `OSError`
error                  the application raised, also after the response started
incomplete             the application returned without finishing the response
cancelled              the server cancelled the application (shutdown)
=====================  ===========================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

__all__ = ["Outcome", "close_code_of", "error_type", "is_departure", "outcome_of", "status_of"]

Outcome: TypeAlias = Literal["completed", "client_disconnected", "error", "incomplete", "cancelled"]

CLIENT_CLOSED_REQUEST: Final = 499
"""nginx's status for a client that left before the response; never sent, only logged and counted."""

DENIED: Final = "denied"
"""The `close_code` of a WebSocket whose handshake the application refused."""

GOING_AWAY: Final = 1001
NO_CLOSE_FRAME: Final = 1006
INTERNAL_ERROR: Final = 1011
"""Close codes of RFC 6455, section 7.4.1."""

# Raised by Starlette (and what is built on it) when the client is gone. Known by name: the modules that
# define them need not be loaded, and other frameworks use the same names for the same thing.
_CLIENT_GONE: Final = frozenset({"ClientDisconnect", "ClientDisconnected", "WebSocketDisconnect"})


MAX_DEPTH: Final = 16
"""Levels of exception groups to look into; one that holds itself has no last one."""


def is_departure(exception: BaseException) -> bool:
    """Whether an exception says no more than that the client is gone; of a group, all members must."""
    return all(type(leaf).__name__ in _CLIENT_GONE for leaf in _leaves(exception, MAX_DEPTH))


def _follows_departure(exception: BaseException) -> bool:
    """Whether an exception is what a client that left sets off in an application."""
    return all(
        isinstance(leaf, OSError) or not isinstance(leaf, Exception) or type(leaf).__name__ in _CLIENT_GONE
        for leaf in _leaves(exception, MAX_DEPTH)
    )


def _leaves(exception: BaseException, depth: int) -> Iterator[BaseException]:
    """An exception, or of a group all that it holds.

    A group is told by what it has, as Python 3.10 knows several kinds; others may have `exceptions` of any sort.
    """
    try:
        members = getattr(exception, "exceptions", None)
    except Exception:  # noqa: BLE001 - an attribute of somebody else's exception
        members = None
    is_group = isinstance(members, (list, tuple)) and all(isinstance(member, BaseException) for member in members)
    if is_group and members and depth:
        for member in members:
            yield from _leaves(member, depth - 1)
    else:
        yield exception


def error_type(error: BaseException) -> str:
    """The class of an exception as OpenTelemetry's `error.type`: with its module, unless it is a builtin."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def outcome_of(*, exception: BaseException | None, disconnected: bool, complete: bool) -> Outcome:
    """Judge an exchange.

    Args:
        exception: What the application raised, if it did.
        disconnected: The client left before the exchange was complete.
        complete: The server accepted the last message of the response.
    """
    if disconnected and (exception is None or _follows_departure(exception)):
        return "client_disconnected"
    if exception is not None:
        return "error" if isinstance(exception, Exception) else "cancelled"
    return "completed" if complete else "incomplete"


def status_of(*, sent: int | None, outcome: Outcome, left_before_start: bool) -> int:
    """The status for logs, metrics and spans; the last three of these are never put on the wire.

    Args:
        sent: The status the application sent, if it did.
        outcome: The judgement of `outcome_of`.
        left_before_start: The client was gone before the response started.
    """
    if outcome == "client_disconnected" and (left_before_start or sent is None):
        return CLIENT_CLOSED_REQUEST
    if sent is not None:
        return sent
    return 503 if outcome == "cancelled" else 500


def close_code_of(*, seen: int | None, accepted: bool, refused: bool, outcome: Outcome) -> str:
    """The close code of a WebSocket session.

    Args:
        seen: The code either side closed with, if one did.
        accepted: The handshake was accepted.
        refused: The application refused the handshake.
        outcome: The judgement of `outcome_of`.
    """
    if outcome == "error":
        return str(INTERNAL_ERROR)
    if refused:
        return DENIED
    if seen is not None:
        return str(seen)
    if outcome == "cancelled":
        return str(GOING_AWAY)
    return str(NO_CLOSE_FRAME) if accepted or outcome == "client_disconnected" else DENIED
