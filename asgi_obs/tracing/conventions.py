"""What a span says of an exchange: the attributes of the stable HTTP conventions, and ours beside them.

https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server; what differs from it, or from
opentelemetry-instrumentation-asgi, stands in docs/span-conventions.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, ItemsView, Iterable, Iterator, Mapping, MutableMapping
from functools import lru_cache
from typing import Any, Final, Protocol

from asgi_obs.errors import report
from asgi_obs.exchange import Exchange
from asgi_obs.logs.safe import safe_text
from asgi_obs.redaction import Redactor

__all__ = ["Conventions", "LazyAttributes", "Stable", "bound_attributes", "encodable", "redacted_query"]

_DEFAULT_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_HOST: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::([0-9]{1,5}))?")

BUSINESS_ATTRIBUTES: Final = {
    "user_id": "user.id",
    "workspace_id": "workspace.id",
    "conversation_id": "conversation.id",
}
"""Bound fields that have a name of their own among the attributes."""

_SIGNED: Final = re.compile(r"((?:^|[&;])(?:AWSAccessKeyId|Signature|sig|X-Goog-Signature)=)[^&;#]*")
"""The parameters that the conventions ask to redact, in `url.query` and `url.full`."""

MAX_USER_AGENTS: Final = 256
"""User agents that are kept, redacted; they may be as long as the server lets a header be."""

MAX_HOSTS: Final = 256
MAX_HOST: Final = 300
"""Values of `Host` that are remembered, and how many bytes one may have: more than a name in the DNS."""

_INT64: Final = range(-(2**63), 2**63)
"""The whole numbers that can be exported."""


class Conventions(Protocol):
    """How an exchange is described.

    Attributes:
        status_names: The attributes that hold the status code.
    """

    status_names: tuple[str, ...]

    def start(self, exchange: Exchange) -> dict[str, Any]:
        """What is known when a request starts."""
        ...


class Stable:
    """The stable conventions.

    Args:
        redactor: Redacts path, query and user agent.
        known_methods: The methods that are told by their names.
    """

    status_names: tuple[str, ...] = ("http.response.status_code",)

    def __init__(self, redactor: Redactor, known_methods: Collection[str]) -> None:
        self._redactor = redactor
        self._known_methods = known_methods
        self._user_agent = lru_cache(MAX_USER_AGENTS)(lambda value: encodable(redactor.redact_text(text_of(value))))

    def start(self, exchange: Exchange) -> dict[str, Any]:
        """What is known when a request starts."""
        scope = exchange.scope
        headers = exchange.headers
        scheme = scope.get("scheme") or ("ws" if scope["type"] == "websocket" else "http")
        attributes: dict[str, Any] = {
            "http.request.method": exchange.method,
            "url.scheme": scheme,
            "url.path": encodable(self._redactor.redact_text(exchange.path)),
            "network.protocol.version": scope.get("http_version", "1.1"),
        }
        if exchange.method not in self._known_methods:
            attributes["http.request.method"] = "_OTHER"
            attributes["http.request.method_original"] = encodable(exchange.method)
        if scope.get("query_string"):
            attributes["url.query"] = encodable(redacted_query(text_of(scope["query_string"]), self._redactor))
        address, port = _server_of(headers.get(b"host"), scheme) or scope.get("server") or (None, None)
        if address is not None:
            attributes["server.address"] = address
            if port is not None:
                attributes["server.port"] = port
        client = scope.get("client")
        if client and client[0]:
            attributes["client.address"] = client[0]
        if b"user-agent" in headers:
            attributes["user_agent.original"] = self._user_agent(headers[b"user-agent"])
        return attributes


class LazyAttributes(MutableMapping[str, Any]):
    """Attributes that are built when somebody looks: a sampler, or the span that it allows.

    Args:
        start: Describes an exchange; see `Conventions`.
        exchange: The exchange.
    """

    __slots__ = ("_built", "_exchange", "_start")

    def __init__(self, start: Callable[[Exchange], dict[str, Any]], exchange: Exchange) -> None:
        self._start = start
        self._exchange = exchange
        self._built: dict[str, Any] | None = None

    def __getitem__(self, name: str) -> Any:
        return self._attributes()[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._attributes()[name] = value

    def __delitem__(self, name: str) -> None:
        del self._attributes()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._attributes())

    def __len__(self) -> int:
        return len(self._attributes())

    def copy(self) -> dict[str, Any]:
        """The attributes, as older SDKs ask for them."""
        return dict(self._attributes())

    def items(self) -> ItemsView[str, Any]:
        """The attributes; as of a dictionary, which is faster than what `Mapping` has."""
        return self._attributes().items()

    def _attributes(self) -> dict[str, Any]:
        if self._built is None:
            try:
                self._built = self._start(self._exchange)
            except Exception as error:  # noqa: BLE001 - fail open: a span of a malformed scope is still a span
                report("TracingMiddleware.attributes", error)
                self._built = {}
        return self._built


def text_of(value: bytes) -> str:
    """A header or a query as text: UTF-8 if it is that, else latin-1."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def utf8_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers in UTF-8: in other bytes opentelemetry-instrumentation-asgi looks for Python's escapes, or fails."""
    return [(text_of(name).encode(), text_of(value).encode()) for name, value in headers]


@lru_cache(MAX_HOSTS)
def _server_of(host: bytes | None, scheme: str) -> tuple[str, int | None] | None:
    """Where a request was sent to, by its `Host`; None if that does not say."""
    match = None if host is None or len(host) > MAX_HOST else _HOST.fullmatch(host)
    if match is None:
        return None
    port = int(match[2]) if match[2] else _DEFAULT_PORTS.get(scheme)
    return match[1].decode("ascii").strip("[]"), port


def bound_attributes(fields: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    """What `bind` has added."""
    attributes = {}
    for name, value in redactor.redact(dict(fields)).items():
        exported = value if _is_plain(value) else encodable(safe_text(value))
        attributes[encodable(name)] = exported
        if name in BUSINESS_ATTRIBUTES:
            attributes[BUSINESS_ATTRIBUTES[name]] = exported
    return attributes


def _is_plain(value: object) -> bool:
    kind = type(value)
    return kind is bool or kind is float or (kind is int and value in _INT64)


def redacted_query(query: str, redactor: Redactor) -> str:
    """A query string without secrets, by our rules and by those of the conventions."""
    return _SIGNED.sub(r"\1REDACTED", redactor.redact_query(query))


def encodable(text: str) -> str:
    """A text that can be exported: one lone surrogate would lose the whole batch."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
