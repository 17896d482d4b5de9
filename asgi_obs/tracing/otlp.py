"""Which exporter takes the spans, and where it sends them.

OpenTelemetry's own variables win over ours, and are left to the exporter; but what is wrong with them is said before
it is made, for an exporter takes any text for an endpoint and fails when it exports. What may be secret is not said.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from asgi_obs.errors import MissingExtraError, SettingsError
from asgi_obs.redaction.mask import MASK
from asgi_obs.settings import Settings
from asgi_obs.tracing.variables import choice_of, choices_of, first_set, flag_of, positive_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = ["Destination", "destinations_of"]

EXPORTERS: Final = ("otlp", "otlp_proto_grpc", "otlp_proto_http", "console", "none")
PROTOCOLS: Final = ("grpc", "http/protobuf")

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_INSECURE: Final = ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE")
_COMPRESSION: Final = ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION")
_HEADERS: Final = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
_PROTOCOL: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_TIMEOUT: Final = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")

_GRPC_DEFAULT: Final = "localhost:4317"
_HTTP_DEFAULT: Final = "localhost:4318"
_PATH: Final = "/v1/traces"
"""https://opentelemetry.io/docs/specs/otlp/#otlphttp-default-port, and the paths there."""

_GRPC_NAME: Final = re.compile(r"(unix|unix-abstract|dns|ipv4|ipv6):\S+")
"""https://github.com/grpc/grpc/blob/master/doc/naming.md"""

_PRINTABLE: Final = re.compile(r"[!-~]+")

_HEADER: Final = re.compile(r"\s*[\w.-]+\s*=[^\x00-\x1f\";\\\x7f-\U0010ffff]*", re.ASCII)
"""https://opentelemetry.io/docs/specs/otel/protocol/exporter/#specifying-headers-via-environment-variables; of the
characters of a name, those that gRPC allows: https://grpc.io/docs/guides/metadata/"""

_HEADER_VALUE: Final = re.compile(r"[ -~]*")

TIMEOUT: Final = 10.0
LONGEST: Final = 600.0
"""Seconds that an export may take, and that it may be told to."""


@dataclass(frozen=True)
class Destination:
    """Where spans go.

    Attributes:
        name: For people; without a password.
        make_exporter: Makes the exporter.
    """

    name: str
    make_exporter: Callable[[], SpanExporter]


def destinations_of(settings: Settings) -> tuple[Destination, ...]:
    """Where spans go, by `OTEL_TRACES_EXPORTER`, `OTEL_EXPORTER_OTLP_*` and the settings.

    Raises:
        SettingsError: A variable has a value that is not allowed.
        MissingExtraError: An exporter is not installed.
    """
    kinds = choices_of("OTEL_TRACES_EXPORTER", allowed=EXPORTERS)
    if kinds == ("none",):
        return ()
    if "none" in kinds:
        raise SettingsError("OTEL_TRACES_EXPORTER", ",".join(kinds), "none by itself, or others")
    makers = dict.fromkeys(_over_protocol() if kind == "otlp" else _MAKERS[kind] for kind in kinds)
    return tuple(make(settings) for make in makers)


def _over_protocol() -> Callable[[Settings], Destination]:
    return _over_grpc if choice_of(*_PROTOCOL, allowed=PROTOCOLS) == "grpc" else _over_http


def _to_console(_: Settings) -> Destination:
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    return Destination("the console", ConsoleSpanExporter)


def _over_grpc(settings: Settings) -> Destination:
    try:
        from grpc import Compression  # type: ignore[import-untyped]
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise MissingExtraError("OTLP over gRPC", "otel") from error
    _require_headers()
    compressed = choice_of(*_COMPRESSION, allowed=("none", "gzip")) == "gzip"
    compression = Compression.Gzip if compressed else Compression.NoCompression
    exporter = partial(OTLPSpanExporter, timeout=_timeout(), compression=compression)
    variable, endpoint = first_set(*_ENDPOINTS) or ("OTLP_ENDPOINT", settings.otlp_endpoint)
    scheme = "" if _GRPC_NAME.fullmatch(endpoint) else _scheme_of(variable, endpoint)
    insecure = scheme == "http" if scheme else _is_insecure(settings)
    if variable in _ENDPOINTS:
        return Destination(_shown(endpoint), exporter)
    return Destination(_shown(endpoint), partial(exporter, endpoint=endpoint, insecure=insecure))


def _over_http(settings: Settings) -> Destination:
    try:
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise MissingExtraError("OTLP over HTTP", "otel") from error
    _require_headers()
    compression = Compression(choice_of(*_COMPRESSION, allowed=("none", "gzip", "deflate")))
    exporter = partial(OTLPSpanExporter, timeout=_timeout(), compression=compression)
    standard = first_set(*_ENDPOINTS)
    if standard is not None:
        if not _scheme_of(*standard):
            raise SettingsError(standard[0], _quoted(standard[1]), "a URL such as http://localhost:4318")
        return Destination(_shown(standard[1]), exporter)
    endpoint = settings.otlp_endpoint if settings.otlp_endpoint != _GRPC_DEFAULT else _HTTP_DEFAULT
    if not _scheme_of("OTLP_ENDPOINT", endpoint):
        endpoint = f"{'http' if _is_insecure(settings) else 'https'}://{endpoint}"
    if urlsplit(endpoint).path in {"", "/"}:
        endpoint = endpoint.rstrip("/") + _PATH
    return Destination(_shown(endpoint), partial(exporter, endpoint=endpoint))


_MAKERS: Final[dict[str, Callable[[Settings], Destination]]] = {
    "otlp_proto_grpc": _over_grpc,
    "otlp_proto_http": _over_http,
    "console": _to_console,
}


def _timeout() -> float:
    """How long an export may take.

    Raises:
        SettingsError: It is no number of seconds.
    """
    seconds = positive_of(*_TIMEOUT, kind=float) or TIMEOUT
    if seconds > LONGEST:
        name, value = first_set(*_TIMEOUT) or ("", "")
        raise SettingsError(name, value, f"seconds, not milliseconds: at most {LONGEST:g}")
    return seconds


def _require_headers() -> None:
    """See to the headers: the exporter would log those that are malformed, and what is in them is secret.

    Raises:
        SettingsError: They are; their value is not in it.
    """
    for name in _HEADERS:
        pairs = [pair for pair in (first_set(name) or ("", ""))[1].split(",") if pair.strip()]
        if not all(_HEADER.fullmatch(pair) and _HEADER_VALUE.fullmatch(unquote(pair)) for pair in pairs):
            raise SettingsError(name, MASK, "name=value, separated by commas, the values URL-encoded")


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
        raise SettingsError(variable, _quoted(endpoint), "host:port, or a URL such as http://localhost:4317")
    return scheme


def _shown(endpoint: str) -> str:
    """An endpoint without what stands before an @, or behind a ?."""
    scheme, separator, rest = endpoint.rpartition("://")
    address, slash, path = rest.partition("/")
    return f"{scheme}{separator}{address.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def _quoted(endpoint: str) -> str:
    """An endpoint that is malformed, so that a password may stand anywhere before an @, or behind a ?."""
    quoted = re.sub(r"^([\w+.-]*://)?.*@", rf"\1{MASK}@", endpoint, flags=re.DOTALL)
    return re.sub(r"[?#].*", f"?{MASK}", quoted, flags=re.DOTALL)
