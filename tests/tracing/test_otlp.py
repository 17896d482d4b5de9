from __future__ import annotations

import sys
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace.export import ConsoleSpanExporter

from asgi_obs.errors import MissingExtraError, SettingsError
from asgi_obs.settings import Settings
from asgi_obs.tracing.otlp import Destination, destination_of
from tests.tracing.receivers import VARIABLES

HTTP = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def chosen(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> Destination:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    destination = destination_of(Settings(service_name="shop"))
    assert destination is not None
    return destination


def test_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")

    assert destination_of(Settings()) is None


def test_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    destination = chosen(monkeypatch, {"OTEL_TRACES_EXPORTER": "console"})

    assert destination.name == "the console"
    assert isinstance(destination.make_exporter(), ConsoleSpanExporter)


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
