"""Why a connection could not be made, in the words of the system."""

from __future__ import annotations

__all__ = ["reason_of"]


def reason_of(error: Exception) -> str:
    """What was behind an error of anyio's `connect_tcp`, which says of itself no more than that it failed.

    It is one error for each address of the host, in a group if there are several.
    """
    cause = error.__cause__ or error
    return "; ".join(map(str, getattr(cause, "exceptions", (cause,))))
