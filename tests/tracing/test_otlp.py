from __future__ import annotations

import sys
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace.export import ConsoleSpanExporter

from asgi_obs.errors import MissingExtraError, SettingsError
from asgi_obs.settings import Settings
from asgi_obs.tracing.otlp import Destination, destinations_of
from tests.tracing.receivers import VARIABLES

HTTP = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def chosen(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> Destination:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (destination,) = destinations_of(Settings(service_name="shop"))
    return destination


def test_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")

    assert destinations_of(Settings()) == ()


def test_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    destination = chosen(monkeypatch, {"OTEL_TRACES_EXPORTER": "console"})

    assert destination.name == "the console"
    assert isinstance(destination.make_exporter(), ConsoleSpanExporter)


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({"OTEL_TRACES_EXPORTER": "otlp,console"}, ["localhost:4317", "the console"]),
        ({"OTEL_TRACES_EXPORTER": "Console, OTLP"}, ["the console", "localhost:4317"]),
        ({"OTEL_TRACES_EXPORTER": "otlp_proto_grpc"}, ["localhost:4317"]),
        ({"OTEL_TRACES_EXPORTER": "otlp_proto_http"}, ["http://localhost:4318/v1/traces"]),
        ({**HTTP, "OTEL_TRACES_EXPORTER": "otlp_proto_grpc"}, ["localhost:4317"]),
        ({"OTEL_TRACES_EXPORTER": "otlp,otlp_proto_grpc"}, ["localhost:4317"]),
    ],
)
def test_there_may_be_more_than_one(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], names: list[str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert [destination.name for destination in destinations_of(Settings())] == names


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (10.0, "NoCompression")),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "none"}, (10.0, "NoCompression")),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "", "OTEL_EXPORTER_OTLP_TIMEOUT": ""}, (10.0, "NoCompression")),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5"}, (0.5, "Gzip")),
        ({"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "GZIP", "OTEL_EXPORTER_OTLP_COMPRESSION": "none"}, (10.0, "Gzip")),
    ],
)
def test_the_timeout_and_the_compression_over_grpc(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: tuple[float, str]
) -> None:
    exporter: Any = chosen(monkeypatch, variables).make_exporter()

    assert (exporter._timeout, exporter._compression.name) == expected
    exporter.shutdown()


@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
def test_the_compression_over_http(monkeypatch: pytest.MonkeyPatch, compression: str) -> None:
    exporter: Any = chosen(monkeypatch, {**HTTP, "OTEL_EXPORTER_OTLP_COMPRESSION": compression}).make_exporter()

    assert exporter._compression.value == compression
    exporter.shutdown()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("headers", ["a=b", "api-key=a%20b,x.y_z = c d ,", "auth=Basic dTpwdw=="])
def test_headers(monkeypatch: pytest.MonkeyPatch, protocol: str, headers: str) -> None:
    variables = {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_HEADERS": headers}

    assert chosen(monkeypatch, variables).name.endswith(("localhost:4317", "/v1/traces"))


@pytest.mark.parametrize("variables", [{}, HTTP])
@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"])
@pytest.mark.parametrize(
    "value", ["apikey:s3cret", "s3cret", "a=b,s3cret", "=s3cret", "a b=s3cret", "a=s3cret%0A", "a=s3crét", 'a="s3cret"']
)
def test_headers_that_are_malformed_are_said_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], name: str, value: str
) -> None:
    with pytest.raises(SettingsError) as raised:
        chosen(monkeypatch, {**variables, name: value})

    assert str(raised.value) == (
        f"{name}='******' is not valid: expected name=value, separated by commas, the values URL-encoded"
    )


@pytest.mark.parametrize("variables", [{}, HTTP])
@pytest.mark.parametrize("name", ["OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"])
@pytest.mark.parametrize(
    ("endpoint", "shown"),
    [
        ("http://user:s3cret@host:99999", "http://******@host:99999"),
        ("http://user:s3/cret@host:4317", "http://******@host:4317"),
        ("ftp://user:p://s3cret@host", "ftp://******@host"),
        ("user:s3cret@host", "******@host"),
        ("ht tp://user:s3cret@host:1", "******@host:1"),
        ("http://host:99999/x?key=s3cret#s3cret", "http://host:99999/x?******"),
    ],
)
def test_an_endpoint_that_is_malformed_is_said_without_what_may_be_a_password(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], name: str, endpoint: str, shown: str
) -> None:
    with pytest.raises(SettingsError) as raised:
        chosen(monkeypatch, {**variables, name: endpoint})

    assert (raised.value.option, raised.value.value) == (name, shown)
    assert raised.value.__context__ is None


def test_milliseconds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError) as raised:
        chosen(monkeypatch, {"OTEL_EXPORTER_OTLP_TIMEOUT": "10000"})

    assert str(raised.value) == (
        "OTEL_EXPORTER_OTLP_TIMEOUT='10000' is not valid: expected seconds, not milliseconds: at most 600"
    )


@pytest.mark.parametrize(
    ("variables", "name", "target", "insecure"),
    [
        ({}, "localhost:4317", "localhost:4317", True),
        ({"OTLP_ENDPOINT": "collector:4317"}, "collector:4317", "collector:4317", True),
        ({"OTLP_ENDPOINT": "[::1]:4317"}, "[::1]:4317", "[::1]:4317", True),
        ({"OTLP_ENDPOINT": "collector:4317", "OTLP_INSECURE": "false"}, "collector:4317", "collector:4317", False),
        ({"OTLP_ENDPOINT": "https://c.example"}, "https://c.example", "c.example", False),
        ({"OTLP_ENDPOINT": "http://c:1", "OTLP_INSECURE": "false"}, "http://c:1", "c:1", True),
        ({"OTLP_ENDPOINT": "unix:///run/otel.sock"}, "unix:///run/otel.sock", "unix:///run/otel.sock", True),
        ({"OTLP_ENDPOINT": "c:1", "OTEL_EXPORTER_OTLP_INSECURE": "false"}, "c:1", "c:1", False),
        ({"OTLP_ENDPOINT": "c:1", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://d:2"}, "http://d:2", "d:2", True),
        ({"OTLP_ENDPOINT": "c:1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://e"}, "https://e", "e", False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, "localhost:4317", "localhost:4317", True),
    ],
)
def test_over_grpc(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], name: str, target: str, insecure: bool
) -> None:
    destination = chosen(monkeypatch, variables)
    exporter: Any = destination.make_exporter()

    assert isinstance(exporter, GrpcExporter)
    assert (destination.name, exporter._endpoint, exporter._insecure) == (name, target, insecure)
    exporter.shutdown()


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, "http://localhost:4318/v1/traces"),
        ({"OTLP_ENDPOINT": "c:4318"}, "http://c:4318/v1/traces"),
        ({"OTLP_ENDPOINT": "c:4318", "OTLP_INSECURE": "false"}, "https://c:4318/v1/traces"),
        ({"OTLP_ENDPOINT": "https://c/"}, "https://c/v1/traces"),
        ({"OTLP_ENDPOINT": "https://c/otlp"}, "https://c/otlp"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://d:2"}, "http://d:2/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://e:3/x"}, "http://e:3/x"),
    ],
)
def test_over_http(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str) -> None:
    exporter: Any = chosen(monkeypatch, {**HTTP, **variables}).make_exporter()

    assert isinstance(exporter, HttpExporter)
    assert exporter._endpoint == url
    exporter.shutdown()


def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    destination = chosen(monkeypatch, {**HTTP, "OTLP_ENDPOINT": "https://u:pw@c:4318/x?key=secret"})

    assert destination.name == "https://c:4318/x"


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"OTLP_ENDPOINT": "collector"}, "OTLP_ENDPOINT"),
        ({"OTLP_ENDPOINT": ":4317"}, "OTLP_ENDPOINT"),
        ({"OTLP_ENDPOINT": "c:0"}, "OTLP_ENDPOINT"),
        ({"OTLP_ENDPOINT": "c:99999"}, "OTLP_ENDPOINT"),
        ({"OTLP_ENDPOINT": "c:port"}, "OTLP_ENDPOINT"),
        ({"OTLP_ENDPOINT": "c:4317/x"}, "OTLP_ENDPOINT"),
        ({"OTLP_ENDPOINT": "c d:4317"}, "OTLP_ENDPOINT"),
        ({"OTLP_ENDPOINT": "[::1:4317"}, "OTLP_ENDPOINT"),
        ({"OTLP_ENDPOINT": "ftp://c:4317"}, "OTLP_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "nowhere"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "grpc://c:1"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        ({**HTTP, "OTLP_ENDPOINT": "unix:///run/otel.sock"}, "OTLP_ENDPOINT"),
        ({**HTTP, "OTEL_EXPORTER_OTLP_ENDPOINT": "c:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_INSECURE": "perhaps"}, "OTEL_EXPORTER_OTLP_INSECURE"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "OTEL_EXPORTER_OTLP_TIMEOUT"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_TRACES_EXPORTER": "otlp,none"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "brotli"}, "OTEL_EXPORTER_OTLP_COMPRESSION"),
        ({"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "deflate"}, "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION"),
        ({**HTTP, "OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}, "OTEL_EXPORTER_OTLP_COMPRESSION"),
    ],
)
def test_what_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], name: str) -> None:
    with pytest.raises(SettingsError) as raised:
        chosen(monkeypatch, variables)

    assert (raised.value.option, raised.value.value) == (name, variables[name])


@pytest.mark.parametrize(("variables", "package"), [({}, "grpc"), (HTTP, "http")])
def test_an_exporter_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], package: str
) -> None:
    monkeypatch.setitem(sys.modules, f"opentelemetry.exporter.otlp.proto.{package}.trace_exporter", None)

    with pytest.raises(MissingExtraError, match=r"OTLP over \w+ needs .* 'asgi-obs\[otel\]'"):
        chosen(monkeypatch, variables)
