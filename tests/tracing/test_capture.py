"""Headers as attributes: which, and never the values of sensitive ones."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from asgi_obs import Settings
from asgi_obs.errors import MissingExtraError
from asgi_obs.redaction import redactor_for
from asgi_obs.testing import http_scope
from asgi_obs.tracing.capture import HeaderCapture
from tests.tracing.spans import Spans, answer, attributes_of

PREFIX = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_"

pytestmark = pytest.mark.usefixtures("bare")


def capture(**options: Any) -> HeaderCapture:
    settings = Settings(**options)
    return HeaderCapture(settings, redactor_for(settings))


def requested(*headers: tuple[bytes, bytes], **options: Any) -> dict[str, list[str]]:
    return capture(**options).request(http_scope(headers=headers))


def test_the_headers_whose_names_match_are_attributes() -> None:
    headers = [(b"accept", b"*/*"), (b"x-tenant", b"acme"), (b"x-other", b"1"), (b"host", b"h")]

    assert requested(*headers, capture_request_headers="Accept,x-.*") == {
        "http.request.header.accept": ["*/*"],
        "http.request.header.x_tenant": ["acme"],
        "http.request.header.x_other": ["1"],
    }


def test_a_response_is_looked_at_for_its_own() -> None:
    captured = capture(capture_response_headers="x-.*")
    message = {"type": "http.response.start", "status": 200, "headers": [(b"x-cache", b"hit"), (b"age", b"1")]}

    assert captured.response(message) == {"http.response.header.x_cache": ["hit"]}
    assert captured.request(http_scope(headers=[(b"x-cache", b"no")])) == {}


def test_a_message_without_headers_has_none() -> None:
    assert capture(capture_response_headers=".*").response({"type": "websocket.accept"}) == {}


@pytest.mark.parametrize("name", ["authorization", "cookie", "x-api-key", "x-session-token", "proxy-authorization"])
def test_sensitive_headers_are_redacted_whatever_is_asked_for(name: str) -> None:
    attribute = f"http.request.header.{name.replace('-', '_')}"

    assert requested((name.encode(), b"hunter2"), capture_request_headers=".*") == {attribute: ["******"]}


@pytest.mark.parametrize(
    "name",
    ["cf-access-jwt-assertion", "x-amzn-oidc-data", "x-jwt", "x-access-key", "ocp-apim-subscription-key",
     "x-honeycomb-team", "x-forwarded-client-cert", "x-hub-signature-256", "proxy-authorization"],
)  # fmt: skip
def test_what_proxies_and_vendors_call_credentials_is_redacted(name: str) -> None:
    values = requested((name.encode(), b"opaque"), capture_request_headers=".*").values()

    assert list(values) == [["******"]]


def test_a_header_that_is_a_url_has_no_secrets_in_its_query() -> None:
    url = b"https://bucket.example/file?sig=s3cret&X-Goog-Signature=s3cret&token=s3cret&part=2"

    assert requested((b"referer", url), capture_request_headers="referer") == {
        "http.request.header.referer": [
            "https://bucket.example/file?sig=REDACTED&X-Goog-Signature=REDACTED&token=******&part=2"
        ]
    }


def test_the_cookies_that_are_set_are_redacted() -> None:
    captured = capture(capture_response_headers=["set-cookie"])

    assert captured.response({"headers": [(b"set-cookie", b"id=hunter2")]}) == {
        "http.response.header.set_cookie": ["******"]
    }


def test_more_names_may_be_sanitised() -> None:
    attributes = requested(
        (b"x-tenant", b"acme"), (b"x-plan", b"gold"), capture_request_headers="x-.*", sanitize_headers="X-TEN.*"
    )

    assert attributes["http.request.header.x_plan"] == ["gold"]
    assert attributes["http.request.header.x_tenant"] == ["[REDACTED]"]


def test_secrets_in_other_headers_are_redacted() -> None:
    attributes = requested((b"x-note", b"password=hunter2"), capture_request_headers="x-note")

    assert attributes == {"http.request.header.x_note": ["password=******"]}


def test_the_environment_chooses_the_headers_of_a_span(monkeypatch: pytest.MonkeyPatch, spans: Spans) -> None:
    monkeypatch.setenv(f"{PREFIX}SERVER_REQUEST", "authorization, x-tenant")
    monkeypatch.setenv(f"{PREFIX}SERVER_RESPONSE", "x-cache")
    monkeypatch.setenv(f"{PREFIX}SANITIZE_FIELDS", ".*tenant.*")
    scope = http_scope(headers=[(b"x-tenant", b"acme"), (b"authorization", b"Bearer x"), (b"accept", b"*/*")])

    span = spans.one(answer(headers=[(b"x-cache", b"hit"), (b"age", b"1")]), scope)

    attributes = {name: value for name, value in attributes_of(span).items() if ".header." in name}
    assert attributes == {
        "http.request.header.x_tenant": ("[REDACTED]",),
        "http.request.header.authorization": ("******",),
        "http.response.header.x_cache": ("hit",),
    }


@pytest.mark.parametrize("option", ["capture_request_headers", "capture_response_headers"])
def test_capturing_needs_the_extra(monkeypatch: pytest.MonkeyPatch, spans: Spans, option: str) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.asgi", None)

    with pytest.raises(MissingExtraError, match=r"capturing headers .*pip install 'asgi-obs\[otel\]'"):
        spans.serve(answer(), http_scope(), settings=Settings(**{option: "accept"}))


@pytest.mark.parametrize(
    ("value", "expected"),
    [("café".encode(), "café"), (b"caf\xe9", "café"), (b"\xe9\\n", "é\\n"), (b"\xe9\\ud800\\", "é\\ud800\\")],
)
def test_header_bytes_of_any_kind_can_be_exported(spans: Spans, value: bytes, expected: str) -> None:
    settings = Settings(capture_request_headers="x-.*", capture_response_headers="x-.*")

    span = spans.one(answer(headers=[(b"x-out", value)]), http_scope(headers=[(b"x-in", value)]), settings=settings)

    assert attributes_of(span)["http.request.header.x_in"] == (expected,)
    assert attributes_of(span)["http.response.header.x_out"] == (expected,)
