"""Who may read the ops paths: a bearer token, a name with a password, a callable of your own; and from where.

It fails closed: what cannot be judged is refused, and so is a credential that is wrong, whatever else would be right.
The bare probes do not wait for a callable: what it asks may be what is down. Secrets are compared by their digests, in
constant time, so that neither their text nor their length shows.
"""

from __future__ import annotations

import hmac
import inspect
import logging
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable
from functools import cache
from hashlib import sha256
from typing import Any, Final, TypeAlias

from anyio import fail_after, get_cancelled_exc_class
from anyio.lowlevel import checkpoint_if_cancelled

from asgi_obs.errors import ConfigurationError, report_call
from asgi_obs.ops.answer import Answer, Header, json_answer
from asgi_obs.ops.request import Caller
from asgi_obs.settings import Settings
from asgi_obs.tracing.trust import trust_of
from asgi_obs.types import Scope

__all__ = ["NOBODY", "Authorize", "Guard"]

Authorize: TypeAlias = Callable[[Scope], "bool | str | Awaitable[bool | str | None] | None"]
"""Says of a request's scope whether who sent it may read everything: True, or his name for the audit log."""

PATIENCE: Final = 5.0
"""Seconds that a callable may take."""

WARN_INTERVAL: Final = 60.0
"""Seconds between two log lines about requests that were refused."""

_BEARER: Final[Header] = (b"www-authenticate", b'Bearer realm="ops"')
_BASIC: Final[Header] = (b"www-authenticate", b'Basic realm="ops", charset="UTF-8"')
_FORBIDDEN: Final = json_answer({"detail": "Forbidden"}, status=403)
NOBODY: Final = Caller(admitted=False)
"""Who reads a bare status."""

_log = logging.getLogger("asgi_obs")


class Guard:
    """Tells who sent a request, and what to answer to those who may not read.

    Args:
        settings: The token, the name and password, and the networks.
        authorize: Asked where none of these credentials was sent, for `PATIENCE` at most; see `Authorize`.

    Attributes:
        needs_credential: Whether there is a credential to be sent at all.
        is_needed: Whether anybody may have to be refused.

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
        self.is_needed = self.needs_credential or bool(settings.ops_allowed_networks)
        # RFC 9110, section 11.6.1: a 401 names the schemes, so without any it is a 403.
        schemes = (*((_BEARER,) if self._token else ()), *((_BASIC,) if self._login else ()))
        self._challenge = (
            json_answer({"detail": "Unauthorized"}, status=401, headers=schemes) if schemes else _FORBIDDEN
        )
        self._warned_at = float("-inf")
        if settings.environment == "production" and not self.is_needed:
            _warn_that_all_is_open()

    def recognise(self, scope: Scope) -> Caller:
        """Who sent a request, as far as that is known without asking a callable."""
        if not self._is_from_inside(scope):
            return NOBODY
        if not self.needs_credential:
            return Caller(admitted=True)
        return _caller(self._actor_of(scope))

    async def identify(self, scope: Scope) -> Caller:
        """Who sent a request; what a callable raises is reported."""
        caller = self.recognise(scope)
        if caller.admitted or not self._is_from_inside(scope) or self._has_wrong_credential(scope):
            return caller
        return NOBODY if self._authorize is None else _caller(await self._ask(self._authorize, scope))

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
        given = _credentials(scope)
        if len(given) != 1:  # of two, somebody else may have read the other one
            return None
        scheme, credential = given[0]
        if scheme == b"bearer":
            return "token" if _matches(credential, self._token) else None
        if scheme == b"basic":
            return self._username if _matches(_decoded(credential), self._login) else None
        return None

    def _has_wrong_credential(self, scope: Scope) -> bool:
        """Whether one of a scheme of ours was sent, for it is known that it is not valid."""
        ours = {scheme for scheme, secret in ((b"bearer", self._token), (b"basic", self._login)) if secret}
        return any(scheme in ours for scheme, _ in _credentials(scope))

    async def _ask(self, authorize: Authorize, scope: Scope) -> str | None:
        try:
            with fail_after(PATIENCE):
                answer: Any = authorize(scope)
                if inspect.isawaitable(answer):
                    answer = await answer
        except get_cancelled_exc_class() as error:
            await checkpoint_if_cancelled()  # raises if it is us who are cancelled
            report_call(authorize, error)
            return None
        except Exception as error:  # noqa: BLE001 - fail closed: who cannot be judged is not let in
            report_call(authorize, error)
            return None
        if isinstance(answer, str):
            return answer or None
        return "authorize" if answer is True else None


@cache
def _warn_that_all_is_open() -> None:
    _log.warning("the ops paths are open to everybody: set OPS_TOKEN or OPS_ALLOWED_NETWORKS, or keep them inside")


def _caller(actor: str | None) -> Caller:
    return NOBODY if actor is None else Caller(admitted=True, authorised=True, actor=actor)


def _credentials(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Scheme and credential of every `Authorization` header."""
    split = (value.strip().partition(b" ") for name, value in scope["headers"] if name == b"authorization")
    return [(scheme.lower(), credential.strip()) for scheme, _, credential in split]


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
