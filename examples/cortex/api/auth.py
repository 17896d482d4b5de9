"""Who is calling: accounts with passwords, and the bearer tokens that a login gives.

A browser can set no header for a WebSocket: its token may come as `?access_token=`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Annotated

import anyio.to_thread
from fastapi import Depends, HTTPException
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.requests import HTTPConnection

from asgi_obs import bind

TOKEN_LIFETIME = 12 * 3600.0
"""Seconds that a token is valid."""


class Accounts:
    """Who may log in.

    Args:
        passwords: The password of every user; only salted hashes of them are kept.
    """

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self._salt = secrets.token_bytes(16)
        self._hashes = {name: self._hash(password) for name, password in passwords.items()}

    async def accepts(self, name: str, password: str) -> bool:
        """Whether it is the password of that user; takes as long for users that there are not."""
        found = await anyio.to_thread.run_sync(self._hash, password)
        return hmac.compare_digest(found, self._hashes.get(name, b""))

    def _hash(self, password: str) -> bytes:
        return hashlib.scrypt(password.encode(), salt=self._salt, n=2**14, r=8, p=1)


class Tokens:
    """Bearer tokens: a name and when it ends, signed.

    Args:
        secret: The key of the signatures; whoever knows it can make tokens.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def issue(self, name: str) -> str:
        """A token for a user."""
        claims = json.dumps({"name": name, "expires": time.time() + TOKEN_LIFETIME})
        payload = urlsafe_b64encode(claims.encode()).decode()
        return f"{payload}.{self._signature(payload)}"

    def name_in(self, token: str) -> str | None:
        """The name of the user; None if the token is not valid, or not any more."""
        payload, _, signature = token.partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(payload).encode()):
            return None
        claims = json.loads(urlsafe_b64decode(payload))
        name: str = claims["name"]
        return name if time.time() < claims["expires"] else None

    def _signature(self, payload: str) -> str:
        return hmac.new(self._secret, payload.encode(), hashlib.sha256).hexdigest()


class BearerTokens(AuthenticationBackend):
    """Tells Starlette's `AuthenticationMiddleware` who is calling.

    Args:
        tokens: What knows the valid ones.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        """The caller, if there is one."""
        scheme, _, token = conn.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = conn.query_params.get("access_token", "") if conn.scope["type"] == "websocket" else ""
        name = self._tokens.name_in(token)
        return None if name is None else (AuthCredentials(["authenticated"]), SimpleUser(name))


async def _caller(connection: HTTPConnection) -> str:
    if not connection.user.is_authenticated:
        raise HTTPException(401, "a valid bearer token is needed", {"WWW-Authenticate": "Bearer"})
    name: str = connection.user.display_name
    bind(user_id=name)
    return name


Caller = Annotated[str, Depends(_caller)]
"""The name of the user who calls; a 401 where there is none."""
