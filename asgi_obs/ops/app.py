"""The ops app: `/metrics`, `/health`, `/health/ready` and `/health/live`.

An ASGI application without routing, middleware or lifespan of its own, so that it can be mounted at any prefix
of any framework, put in front of any application (`mount_ops`), or served alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timezone
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs

from prometheus_client import REGISTRY, CollectorRegistry

from asgi_obs.errors import ConfigurationError, report
from asgi_obs.exchange import SCOPE_KEY
from asgi_obs.health import CheckResult, HealthRegistry
from asgi_obs.health.registry import READINESS
from asgi_obs.metrics.process import register_process_metrics
from asgi_obs.ops.answer import Answer, json_answer, send_answer
from asgi_obs.ops.exposition import Exposition
from asgi_obs.routes.path import below
from asgi_obs.settings import Settings
from asgi_obs.types import Receive, Scope, Send

__all__ = ["OpsApp", "routed_path"]

_Endpoint: TypeAlias = Callable[[Scope], Awaitable[Answer]]

_NOT_FOUND: Final = json_answer({"detail": "Not Found"}, status=404)
_NOT_ALLOWED: Final = json_answer({"detail": "Method Not Allowed"}, status=405, headers=((b"allow", b"GET, HEAD"),))
_FAILED: Final = json_answer({"detail": "Internal Server Error"}, status=500)
_ALIVE: Final = json_answer({"status": "alive"})
_READY: Final = json_answer({"status": "ready"})


class OpsApp:
    """Serves metrics and health.

    Every path is answered with and without a trailing slash, to GET and HEAD.

    Args:
        health: The checks; default an empty registry, which is healthy. Its metrics go to `registry`.
        registry: The metrics; default the one that prometheus_client uses by default. Process and service
            metrics are added to it.
        settings: The version in the answers, the service in the metrics. In production the texts of exceptions
            stay out of the answers.

    Raises:
        ConfigurationError: An argument is of another type.
    """

    def __init__(
        self,
        *,
        health: HealthRegistry | None = None,
        registry: CollectorRegistry | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.health = _of_type(HealthRegistry, "health", HealthRegistry() if health is None else health)
        self.registry = _of_type(CollectorRegistry, "registry", REGISTRY if registry is None else registry)
        self.settings = _of_type(Settings, "settings", Settings() if settings is None else settings)
        self._exposition = Exposition(self.registry)
        self._describe = _publicly if self.settings.environment == "production" else _in_full
        self._endpoints: Mapping[str, _Endpoint] = {
            "/metrics": self._metrics,
            "/health": self._health,
            "/health/ready": self._ready,
            "/health/live": self._live,
        }
        register_process_metrics(self.registry, settings=self.settings)
        self.health.export(self.registry, self.settings.service_name)

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths that are served, without trailing slash."""
        return tuple(self._endpoints)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; as the root application, the server's lifespan and a WebSocket too."""
        kind = scope["type"]
        if kind == "http":
            await self.serve(routed_path(scope), scope, send)
        elif kind == "lifespan":
            await _live_through(receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            raise NotImplementedError(f"the ops app does not serve {kind!r} scopes")

    async def serve(self, path: str, scope: Scope, send: Send) -> None:
        """Answer an HTTP request.

        Args:
            path: The path below whatever the ops app is mounted at.
            scope: The scope of the request.
            send: The server's `send`.
        """
        exchange = scope.get(SCOPE_KEY)
        if exchange is not None:
            exchange.operational = True
        method = scope["method"]
        endpoint = self._endpoints.get(path.removesuffix("/"))
        if endpoint is None:
            answer = _NOT_FOUND
        elif method not in {"GET", "HEAD"}:
            answer = _NOT_ALLOWED
        else:
            try:
                answer = await endpoint(scope)
            except Exception as error:  # noqa: BLE001 - a probe or a scraper can do nothing with a traceback
                report(endpoint.__qualname__, error)
                answer = _FAILED
        await send_answer(answer, send, head=method == "HEAD")

    async def _metrics(self, scope: Scope) -> Answer:
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        return await self._exposition.answer(
            accept=_header(scope, b"accept"),
            accept_encoding=_header(scope, b"accept-encoding"),
            names=query.get("name[]", ()),
        )

    async def _health(self, _scope: Scope) -> Answer:
        found = await self.health.run()
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        content = {
            "status": found.status,
            "version": self.settings.version,
            "checks": self._checks(found.checks),
            "timestamp": now.replace("+00:00", "Z"),
        }
        return json_answer(content, status=503 if found.status == "unhealthy" else 200)

    async def _ready(self, _scope: Scope) -> Answer:
        readiness = self.health.readiness
        if readiness.state != "ready":
            content = {"status": "not_ready", "state": readiness.state, "reason": readiness.reason, "checks": {}}
            return json_answer(content, status=503)
        found = await self.health.run(READINESS)
        if found.status == "unhealthy":
            return json_answer({"status": "not_ready", "checks": self._checks(found.checks)}, status=503)
        return _READY

    async def _live(self, _scope: Scope) -> Answer:
        return _ALIVE

    def _checks(self, results: Mapping[str, CheckResult]) -> dict[str, dict[str, Any]]:
        return {
            name: {"status": result.status, "message": self._describe(result), "duration_ms": result.duration_ms}
            for name, result in results.items()
        }


def _of_type(kind: type[Any], option: str, value: Any) -> Any:
    if not isinstance(value, kind):
        raise ConfigurationError(option, value, f"a {kind.__name__}")
    return value


def _publicly(result: CheckResult) -> str:
    return result.message


def _in_full(result: CheckResult) -> str:
    return ": ".join(filter(None, (result.message, result.detail)))


def _header(scope: Scope, name: bytes) -> str:
    return b",".join(value for key, value in scope["headers"] if key == name).decode("latin-1")


def routed_path(scope: Scope) -> str:
    """The path below the mounts and the proxy."""
    return below(scope["path"], scope.get("root_path", ""))


async def _live_through(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
