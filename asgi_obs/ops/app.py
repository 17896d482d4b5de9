"""The ops app: `/metrics`, `/health`, `/health/ready`, `/health/live`, `/info`, `/loggers` and `/tasks`.

An ASGI application without routing, middleware or lifespan of its own, so that it can be mounted at any prefix
of any framework, put in front of any application (`mount_ops`), or served alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter

from asgi_obs.errors import ConfigurationError, report
from asgi_obs.exchange import SCOPE_KEY
from asgi_obs.health import HealthRegistry
from asgi_obs.logs import audit_log
from asgi_obs.metrics.catalogue import create
from asgi_obs.metrics.process import register_process_metrics
from asgi_obs.ops.answer import Answer, json_answer, send_answer
from asgi_obs.ops.auth import NOBODY, Authorize, Guard
from asgi_obs.ops.endpoint import Endpoint
from asgi_obs.ops.exposition import Exposition
from asgi_obs.ops.info import Info
from asgi_obs.ops.lifecycle import Lifecycle
from asgi_obs.ops.lifespan import Lifespan
from asgi_obs.ops.loggers import Loggers
from asgi_obs.ops.probes import Probes
from asgi_obs.ops.request import Caller, OpsRequest
from asgi_obs.ops.tasks import Tasks
from asgi_obs.routes.path import below
from asgi_obs.settings import Settings
from asgi_obs.types import Receive, Scope, Send

__all__ = ["OpsApp", "routed_path"]

MAX_AUDITED: Final = 200
"""Characters of an argument in the audit log."""

_NOT_FOUND: Final = json_answer({"detail": "Not Found"}, status=404)
_FAILED: Final = json_answer({"detail": "Internal Server Error"}, status=500)


class OpsApp:
    """Serves metrics, health, and control of the running process.

    Every path is answered with and without a trailing slash, never by a redirect. The bare status of readiness and
    liveness is for everybody; all else needs the credential of the settings, if they have one. Control
    (`/info`, `/loggers`, `/tasks`) is there only if they do.

    Args:
        health: The checks; default an empty registry, which is healthy. Its metrics go to `registry`.
        registry: The metrics; default the one that prometheus_client uses by default. Process and service
            metrics are added to it.
        settings: Which endpoints there are, who may ask them, what may be told; default those of the environment.
        authorize: A credential of your own: takes the scope of a request, and says, now or when awaited, whether who
            sent it may read everything: True, or his name.

    Attributes:
        health: The checks.
        registry: The metrics.
        settings: The settings.
        lifecycle: How the service comes and goes.

    Raises:
        ConfigurationError: An argument is of another type.
    """

    def __init__(
        self,
        *,
        health: HealthRegistry | None = None,
        registry: CollectorRegistry | None = None,
        settings: Settings | None = None,
        authorize: Authorize | None = None,
    ) -> None:
        self.health = _of_type(HealthRegistry, "health", HealthRegistry() if health is None else health)
        self.registry = _of_type(CollectorRegistry, "registry", REGISTRY if registry is None else registry)
        self.settings = _of_type(Settings, "settings", Settings() if settings is None else settings)
        self.lifecycle = Lifecycle(self.health, self.settings)
        self._guard = Guard(self.settings, authorize)
        self._denied: Counter = create("ops_requests_denied_total", self.registry)
        self._exposition = Exposition(self.registry)
        self._exact: dict[str, Endpoint] = {}
        self._parents: dict[str, Endpoint] = {}
        for endpoint in self._endpoints():
            parent, _, last = endpoint.path.rpartition("/")
            if last.startswith("{"):
                self._parents[parent] = endpoint
            else:
                self._exact[endpoint.path] = endpoint
        register_process_metrics(self.registry, settings=self.settings)
        self.health.export(self.registry, self.settings.service_name)

    def _endpoints(self) -> Iterable[Endpoint]:
        """Those that are switched on."""
        probes = Probes(self.health, self.settings)
        loggers = Loggers()
        all_of_them = [
            Endpoint("metrics", "/metrics", self._metrics),
            Endpoint("health", "/health", probes.health),
            Endpoint("health", "/health/{group}", probes.health),
            Endpoint("ready", "/health/ready", probes.ready, "open"),
            Endpoint("live", "/health/live", probes.live, "open"),
            Endpoint("info", "/info", Info(self.settings), "control"),
            Endpoint("loggers", "/loggers", loggers, "control"),
            Endpoint("loggers", "/loggers/{name}", loggers, "control", ("GET", "PUT")),
            Endpoint("tasks", "/tasks", Tasks(), "control"),
        ]
        if self.settings.probe_aliases:
            all_of_them += [
                Endpoint("ready", "/readyz", probes.ready, "open"),
                Endpoint("live", "/livez", probes.live, "open"),
            ]
        return (
            endpoint
            for endpoint in all_of_them
            if endpoint.name in self.settings.ops_endpoints
            and (endpoint.access != "control" or self._guard.needs_credential)
        )

    def match(self, path: str) -> tuple[Endpoint, str] | None:
        """The endpoint of a path, and the argument in it; None if there is none."""
        path = path.removesuffix("/")
        endpoint = self._exact.get(path)
        if endpoint is not None:
            return endpoint, ""
        parent, _, argument = path.rpartition("/")
        endpoint = self._parents.get(parent)
        if endpoint is None or not argument:
            return None
        # Where a credential is needed, which groups there are is told to nobody else.
        if endpoint.name == "health" and not self._guard.is_needed and argument not in self.health.groups:
            return None
        return endpoint, argument

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; as the root application, the server's lifespan and a WebSocket too."""
        kind = scope["type"]
        if kind == "http":
            await self.serve(self.match(routed_path(scope)), scope, receive, send)
        elif kind == "lifespan":
            await self._live_through(receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            raise NotImplementedError(f"the ops app does not serve {kind!r} scopes")

    async def _live_through(self, receive: Receive, send: Send) -> None:
        lifespan = Lifespan(self.lifecycle, None, receive, send)
        while True:
            message = await lifespan.receive()
            await lifespan.send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def serve(
        self,
        match: tuple[Endpoint, str] | None,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        bare: bool = False,
    ) -> None:
        """Answer an HTTP request.

        Args:
            match: What `match` has found.
            bare: Tell a bare status, whoever asks.
            scope: The scope of the request.
            receive: The server's `receive`.
            send: The server's `send`.
        """
        self.lifecycle.attach()
        exchange = scope.get(SCOPE_KEY)
        if exchange is not None:
            exchange.operational = True
        if match is None:
            answer = _NOT_FOUND
        else:
            caller = NOBODY if bare else await self._who_asks(match[0], scope)
            answer = await self._answer(match[0], OpsRequest(scope, receive, match[1], caller))
        await send_answer(answer, send, head=scope["method"] == "HEAD")

    async def _who_asks(self, endpoint: Endpoint, scope: Scope) -> Caller:
        return self._guard.recognise(scope) if endpoint.access == "open" else await self._guard.identify(scope)

    async def _answer(self, endpoint: Endpoint, request: OpsRequest) -> Answer:
        method: str = request.scope["method"]
        if endpoint.access != "open" and not request.caller.admitted:
            self._denied.labels(endpoint.name).inc()
            return self._guard.refuse(request.scope)
        if not endpoint.allows(method):
            return endpoint.refusal
        if request.argument and endpoint.name == "health" and request.argument not in self.health.groups:
            return _NOT_FOUND
        try:
            if endpoint.access == "control":
                argument = {"argument": request.argument[:MAX_AUDITED]} if request.argument else {}
                audit_log(f"ops.{endpoint.name}", actor=request.caller.actor, method=method, **argument)
            return await endpoint.answer(request)
        except Exception as error:  # noqa: BLE001 - a probe or a scraper can do nothing with a traceback
            report(f"OpsApp.{endpoint.name}", error)
            return _FAILED

    async def _metrics(self, request: OpsRequest) -> Answer:
        return await self._exposition.answer(
            accept=request.header(b"accept"),
            accept_encoding=request.header(b"accept-encoding"),
            names=request.query.get("name[]", ()),
        )


def _of_type(kind: type[Any], option: str, value: Any) -> Any:
    if not isinstance(value, kind):
        raise ConfigurationError(option, value, f"a {kind.__name__}")
    return value


def routed_path(scope: Scope) -> str:
    """The path below the mounts and the proxy."""
    return below(scope["path"], scope.get("root_path", ""))
