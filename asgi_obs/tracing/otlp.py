"""Which exporter takes the spans, and where it sends them.

OpenTelemetry's own variables win over ours, and are left to the exporter; but what is wrong with them is said before
it is made, for an exporter takes any text for an endpoint and fails when it exports.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from asgi_obs.errors import MissingExtraError, SettingsError
from asgi_obs.settings import Settings
from asgi_obs.tracing.variables import choice_of, first_set, flag_of, positive_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = ["Destination", "destination_of"]

EXPORTERS: Final = ("otlp", "console", "none")
PROTOCOLS: Final = ("grpc", "http/protobuf")

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_INSECURE: Final = ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE")
_PROTOCOL: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_TIMEOUT: Final = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")

_GRPC_DEFAULT: Final = "localhost:4317"
_HTTP_DEFAULT: Final = "localhost:4318"
_PATH: Final = "/v1/traces"
"""https://opentelemetry.io/docs/specs/otlp/#otlphttp-default-port, and the paths there."""

_GRPC_NAME: Final = re.compile(r"(unix|unix-abstract|dns|ipv4|ipv6):\S+")
"""https://github.com/grpc/grpc/blob/master/doc/naming.md"""

_PRINTABLE: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Destination:
    """Where spans go.

    Attributes:
        name: For people; without a password.
        make_exporter: Makes the exporter.
    """

    name: str
    make_exporter: Callable[[], SpanExporter]


def destination_of(settings: Settings) -> Destination | None:
    """Where spans go, by `OTEL_TRACES_EXPORTER`, `OTEL_EXPORTER_OTLP_*` and the settings; None is nowhere.

    Raises:
        SettingsError: A variable has a value that is not allowed.
        MissingExtraError: The exporter is not installed.
    """
    kind = choice_of("OTEL_TRACES_EXPORTER", allowed=EXPORTERS)
    if kind == "none":
        return None
    if kind == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return Destination("the console", ConsoleSpanExporter)
    positive_of(*_TIMEOUT, kind=float)
    return _over_grpc(settings) if choice_of(*_PROTOCOL, allowed=PROTOCOLS) == "grpc" else _over_http(settings)


def _over_grpc(settings: Settings) -> Destination:
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise MissingExtraError("OTLP over gRPC", "otel") from error
    variable, endpoint = first_set(*_ENDPOINTS) or ("OTLP_ENDPOINT", settings.otlp_endpoint)
    scheme = "" if _GRPC_NAME.fullmatch(endpoint) else _scheme_of(variable, endpoint)
    insecure = scheme == "http" if scheme else _is_insecure(settings)
    if variable in _ENDPOINTS:
        return Destination(_shown(endpoint), OTLPSpanExporter)
    return Destination(_shown(endpoint), partial(OTLPSpanExporter, endpoint=endpoint, insecure=insecure))


def _over_http(settings: Settings) -> Destination:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise MissingExtraError("OTLP over HTTP", "otel") from error
    standard = first_set(*_ENDPOINTS)
    if standard is not None:
        if not _scheme_of(*standard):
            raise SettingsError(*standard, "a URL such as http://localhost:4318")
        return Destination(_shown(standard[1]), OTLPSpanExporter)
    endpoint = settings.otlp_endpoint if settings.otlp_endpoint != _GRPC_DEFAULT else _HTTP_DEFAULT
    if not _scheme_of("OTLP_ENDPOINT", endpoint):
        endpoint = f"{'http' if _is_insecure(settings) else 'https'}://{endpoint}"
    if urlsplit(endpoint).path in {"", "/"}:
        endpoint = endpoint.rstrip("/") + _PATH
    return Destination(_shown(endpoint), partial(OTLPSpanExporter, endpoint=endpoint))


def _is_insecure(settings: Settings) -> bool:
    insecure = flag_of(*_INSECURE)
    return settings.otlp_insecure if insecure is None else insecure


def _scheme_of(variable: str, endpoint: str) -> str:
    """The scheme of an endpoint; empty if it is `host:port`.

    Raises:
        SettingsError: It is neither that nor a URL.
    """
    has_scheme = "://" in endpoint
    try:
        url = urlsplit(endpoint if has_scheme else f"//{endpoint}")
        valid = bool(url.hostname) and url.port != 0 and _PRINTABLE.fullmatch(endpoint) is not None
        valid &= url.scheme in {"http", "https"} if has_scheme else url.port is not None and not url.path
        scheme = url.scheme
    except ValueError:  # a port that is none, or half an IPv6 address
        valid, scheme = False, ""
    if not valid:
        raise SettingsError(variable, endpoint, "host:port, or a URL such as http://localhost:4317")
    return scheme


def _shown(endpoint: str) -> str:
    """An endpoint without what stands before an @, or behind a ?."""
    scheme, separator, rest = endpoint.rpartition("://")
    address, slash, path = rest.partition("/")
    return f"{scheme}{separator}{address.rpartition('@')[2]}{slash}{path.partition('?')[0]}"
