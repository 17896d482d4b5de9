"""The conventions of before: `http.method`, `http.url`, `http.status_code`."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from asgi_obs import Settings
from asgi_obs.errors import MissingExtraError
from asgi_obs.redaction import redactor_of
from asgi_obs.settings import KNOWN_METHODS
from asgi_obs.testing import http_scope
from asgi_obs.tracing.conventions import Stable
from asgi_obs.tracing.legacy import Both, Legacy, conventions_of
from tests.tracing.spans import Spans, answer, attributes_of, exchange_of

REDACTOR = redactor_of(("password", "token"))
REQUEST: dict[str, Any] = {
    "path": "/items/7",
    "query_string": b"a=1",
    "headers": [(b"host", b"example.org"), (b"user-agent", b"curl/8")],
}

pytestmark = pytest.mark.usefixtures("bare")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), Stable),
        (("http",), Stable),
        (("database",), Stable),
        (("default",), Legacy),
        (("default", "http"), Stable),
        (("http/dup",), Both),
        (("http", "http/dup"), Both),
        (("default", "http/dup"), Both),
    ],
)
def test_the_words_of_the_variable_choose_the_conventions(words: tuple[str, ...], expected: type) -> None:
    assert type(conventions_of(words, REDACTOR, KNOWN_METHODS)) is expected


def test_the_old_conventions_tell_what_they_told() -> None:
    legacy = Legacy(REDACTOR)

    attributes = legacy.start(exchange_of(**REQUEST))

    expected = {
        "http.scheme": "http",
        "http.flavor": "1.1",
        "http.target": "/items/7",
        "http.url": "http://example.org/items/7?a=1",
        "http.method": "GET",
        "http.server_name": "example.org",
        "http.user_agent": "curl/8",
        "net.peer.ip": "203.0.113.7",
    }
    assert expected.items() <= attributes.items()
    assert legacy.status_names == ("http.status_code",)


def test_the_old_conventions_tell_no_secrets() -> None:
    attributes = Legacy(REDACTOR).start(exchange_of(query_string=b"access_token=hunter2&a=1"))

    assert attributes["http.url"].endswith("access_token=******&a=1")
    assert "hunter2" not in str(attributes)


def test_both_are_both() -> None:
    both, legacy, stable = (
        Both(Stable(REDACTOR, KNOWN_METHODS), Legacy(REDACTOR)),
        Legacy(REDACTOR),
        Stable(REDACTOR, KNOWN_METHODS),
    )
    exchange = exchange_of(**REQUEST)

    assert both.start(exchange) == {**legacy.start(exchange), **stable.start(exchange)}
    assert both.status_names == ("http.response.status_code", "http.status_code")


def test_what_is_no_text_can_be_exported() -> None:
    odd = b"caf\xe9\\"

    attributes = Legacy(REDACTOR).start(
        exchange_of(path="/caf\udce9", query_string=odd, headers=[(b"user-agent", odd), (odd, odd)])
    )

    assert attributes["http.target"] == "/caf?"
    assert attributes["http.url"] == "http://testserver/caf??café\\"
    assert attributes["http.user_agent"] == "café\\"


def test_a_scope_that_tells_nothing_has_attributes_nonetheless() -> None:
    assert Legacy(REDACTOR).start(exchange_of({"type": "http"}))["net.host.port"] == 80


@pytest.mark.parametrize(
    ("variable", "present", "absent"),
    [
        ("", {"http.request.method", "http.response.status_code"}, {"http.method", "http.status_code", "http.url"}),
        ("http", {"http.request.method", "http.response.status_code"}, {"http.method", "http.status_code"}),
        ("database", {"http.request.method"}, {"http.method"}),
        ("default", {"http.method", "http.status_code", "http.url"}, {"http.request.method", "url.path"}),
        ("http/dup", {"http.method", "http.status_code", "http.request.method", "url.path"}, set()),
    ],
)
def test_a_span_follows_the_conventions_that_the_environment_asks_for(
    monkeypatch: pytest.MonkeyPatch, spans: Spans, variable: str, present: set[str], absent: set[str]
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", variable)

    span = spans.one(answer(200, "/items/{item_id}"), http_scope(**REQUEST))

    assert span.name == "GET /items/{item_id}"
    assert present <= attributes_of(span).keys()
    assert absent & attributes_of(span).keys() == set()


@pytest.mark.parametrize("variable", ["default", "http/dup"])
def test_the_old_conventions_need_the_extra(monkeypatch: pytest.MonkeyPatch, spans: Spans, variable: str) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.asgi", None)

    with pytest.raises(MissingExtraError) as caught:
        spans.serve(answer(), http_scope(), settings=Settings(semconv_opt_in=variable))

    assert caught.value.extra == "otel"


def test_the_stable_conventions_need_no_extra(monkeypatch: pytest.MonkeyPatch, spans: Spans) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.asgi", None)

    span = spans.one(answer(), http_scope(), settings=Settings())

    assert attributes_of(span)["http.response.status_code"] == 200
