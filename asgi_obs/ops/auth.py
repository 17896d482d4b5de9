"""Who may read the ops paths: a bearer token, a name with a password, a callable of your own; and from where.

Asked for every request to an ops path but those of the bare probes. It fails closed: what cannot be judged is
refused. Secrets are compared by their digests, in constant time, so that neither their text nor their length shows.
"""

from __future__ import annotations

import hmac
import inspect
import logging
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, Final, TypeAlias

from asgi_obs.errors import ConfigurationError, report_call
from asgi_obs.ops.answer import Answer, Header, json_answer
from asgi_obs.ops.request import Caller
from asgi_obs.settings import Settings
from asgi_obs.tracing.trust import trust_of
from asgi_obs.types import Scope

__all__ = ["Authorize", "Guard"]

Authorize: TypeAlias = Callable[[Scope], "bool | str | Awaitable[bool | str | None] | None"]
"""Says of a request's scope whether who sent it may read everything: True, or his name for the audit log."""

WARN_INTERVAL: Final = 60.0
"""Seconds between two log lines about requests that were refused."""

_BEARER: Final[Header] = (b"www-authenticate", b'Bearer realm="ops"')
_BASIC: Final[Header] = (b"www-authenticate", b'Basic realm="ops", charset="UTF-8"')
_FORBIDDEN: Final = json_answer({"detail": "Forbidden"}, status=403)
_NOBODY: Final = Caller(admitted=False)

_log = logging.getLogger("asgi_obs")


class Guard:
    """Tells who sent a request, and what to answer to those who may not read.

    Args:
        settings: The token, the name and password, and the networks.
        authorize: Asked where none of these credentials was sent; see `Authorize`.

    Attributes:
        needs_credential: Whether there is a credential to be sent at all.

    Raises:
        ConfigurationError: `authorize` cannot be called.
    """

    def __init__(self, settings: Settings, authorize: Authorize | None = None) -> None:
        if authorize is not None and not callable(authorize):
            raise ConfigurationError("authorize", authorize, "a callable that takes a scope")
        self._authorize = authorize
        self._is_inside = trust_of(settings.ops_allowed_networks or True)
        self._token = _digest(settings.ops_token.encode()) if settings.ops_token else None
        login = f"{settings.ops_username}:{settings.ops_password}"
        self._login = _digest(login.encode()) if settings.ops_username else None
        self._username = settings.ops_username
        self.needs_credential = bool(self._token or self._login or authorize)
        # RFC 9110, section 11.6.1: a 401 names the schemes, so without any it is a 403.
        schemes = (*((_BEARER,) if self._token else ()), *((_BASIC,) if self._login else ()))
        self._challenge = (
            json_answer({"detail": "Unauthorized"}, status=401, headers=schemes) if schemes else _FORBIDDEN
        )
        self._warned_at = float("-inf")

    async def identify(self, scope: Scope) -> Caller:
        """Who sent a request; never raises."""
        if not self._is_from_inside(scope):
            return _NOBODY
        if not self.needs_credential:
            return Caller(admitted=True)
        actor = self._actor_of(scope) or await self._ask(scope)
        return _NOBODY if actor is None else Caller(admitted=True, authorised=True, actor=actor)

    def refuse(self, scope: Scope) -> Answer:
        """The answer to somebody who is not admitted; said in the log once a minute."""
        now = time.monotonic()
        if now - self._warned_at >= WARN_INTERVAL:
            self._warned_at = now
            client = scope.get("client")
            _log.warning("a request to the ops paths was refused", extra={"client_ip": client[0] if client else None})
        return self._challenge if self._is_from_inside(scope) else _FORBIDDEN

    def _is_from_inside(self, scope: Scope) -> bool:
        return self._is_inside if isinstance(self._is_inside, bool) else self._is_inside(scope)

    def _actor_of(self, scope: Scope) -> str | None:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1:  # of two, somebody else may have read the other one
            return None
        scheme, _, credential = given[0].strip().partition(b" ")
        if scheme.lower() == b"bearer":
            return "token" if _matches(credential.strip(), self._token) else None
        if scheme.lower() == b"basic":
            return self._username if _matches(_decoded(credential.strip()), self._login) else None
        return None

    async def _ask(self, scope: Scope) -> str | None:
        if self._authorize is None:
            return None
        try:
            answer: Any = self._authorize(scope)
            if inspect.isawaitable(answer):
                answer = await answer
        except Exception as error:  # noqa: BLE001 - fail closed: who cannot be judged is not let in
            report_call(self._authorize, error)
            return None
        if isinstance(answer, str):
            return answer or None
        return "authorize" if answer is True else None


def _digest(secret: bytes) -> bytes:
    return sha256(secret).digest()


def _matches(given: bytes, digest: bytes | None) -> bool:
    return digest is not None and hmac.compare_digest(_digest(given), digest)


def _decoded(credential: bytes) -> bytes:
    """RFC 7617, section 2; what is not in base64 matches nothing."""
    try:
        return b64decode(credential, validate=True)
    except ValueError:
        return b""
