"""The path of a request below a prefix: of a proxy, or of the mounts that were crossed."""

from __future__ import annotations

__all__ = ["below"]


def below(path: str, prefix: str) -> str:
    """What of `path` comes after `prefix`, which some servers leave in the path and others do not.

    A prefix is one of whole segments: `/apiary` is not below `/api`, and is returned as it is.
    """
    rest = path.removeprefix(prefix.rstrip("/"))
    return rest if rest.startswith("/") else path
