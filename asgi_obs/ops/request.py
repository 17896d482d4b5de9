"""What an endpoint of the ops app gets to know of a request, and of who sent it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final
from urllib.parse import parse_qs

from anyio import move_on_after

from asgi_obs.types import Receive, Scope

__all__ = ["Caller", "OpsRequest"]

PATIENCE: Final = 10.0
"""Seconds that the body of a request may take."""


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        admitted: Whether more than a bare status may be read: no credential is needed, or a valid one was sent.
        authorised: Whether a valid credential was sent.
        actor: Who that is, for the audit log: a user name, or `token`.
    """

    admitted: bool
    authorised: bool = False
    actor: str | None = None


@dataclass(frozen=True)
class OpsRequest:
    """One request to an endpoint.

    Attributes:
        scope: The ASGI scope.
        receive: The server's `receive`.
        argument: What follows the path of the endpoint and a slash; empty if nothing does.
        caller: Who sent it.
    """

    scope: Scope
    receive: Receive
    argument: str
    caller: Caller

    @property
    def method(self) -> str:
        """The method; HEAD is GET to an endpoint."""
        method: str = self.scope["method"]
        return "GET" if method == "HEAD" else method

    @cached_property
    def query(self) -> dict[str, list[str]]:
        """The values of the query string by name, those without a value too."""
        return parse_qs(self.scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)

    def header(self, name: bytes) -> str:
        """The values of a header (its name in lower case) as one; empty if there is none."""
        return b",".join(value for key, value in self.scope["headers"] if key == name).decode("latin-1")

    async def body(self, limit: int) -> bytes:
        """The body.

        Raises:
            ValueError: It is longer than `limit` bytes, takes longer than `PATIENCE`, or the client left in the middle.
        """
        body: bytes = b""
        with move_on_after(PATIENCE):
            while True:
                message = await self.receive()
                body += message.get("body", b"")
                if message["type"] != "http.request" or len(body) > limit:
                    raise ValueError(f"at most {limit} bytes")
                if not message.get("more_body", False):
                    return body
        raise ValueError(f"at most {PATIENCE:g} seconds")
