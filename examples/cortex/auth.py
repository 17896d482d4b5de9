"""Who is calling: a bearer token, or `?access_token=` where a browser can set no header (WebSockets)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated

from fastapi import Depends, HTTPException
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser
from starlette.requests import HTTPConnection

from asgi_obs import bind


class User(BaseUser):
    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def display_name(self) -> str:
        return self.name

    @property
    def identity(self) -> str:
        return self.name


class BearerTokens(AuthenticationBackend):
    """Knows the users by their tokens, of which it keeps only the hashes.

    Args:
        users: The name of the user behind every token.
    """

    def __init__(self, users: Mapping[str, str]) -> None:
        self._users = {_digest(token): User(name) for token, name in users.items()}

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, User] | None:
        scheme, _, token = conn.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = conn.query_params.get("access_token", "") if conn.scope["type"] == "websocket" else ""
        user = self._users.get(_digest(token))
        return None if user is None else (AuthCredentials(["authenticated"]), user)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


async def _caller(connection: HTTPConnection) -> str:
    if not connection.user.is_authenticated:
        raise HTTPException(401, "a valid bearer token is needed", {"WWW-Authenticate": "Bearer"})
    name: str = connection.user.identity
    bind(user_id=name)
    return name


Caller = Annotated[str, Depends(_caller)]
"""The name of the user who calls; a 401 where there is none."""
