"""What a span says of an exchange: the stable conventions, and what was bound."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_obs import Settings
from asgi_obs.redaction import redactor_for, redactor_of
from asgi_obs.settings import KNOWN_METHODS
from asgi_obs.testing import http_scope, websocket_scope
from asgi_obs.tracing.conventions import LazyAttributes, Stable, bound_attributes, encodable
from tests.tracing.spans import exchange_of

REDACTOR = redactor_of(("password", "token"))


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError


def described(**more: Any) -> dict[str, Any]:
    return Stable(REDACTOR, KNOWN_METHODS).start(exchange_of(**more))


def test_a_request_is_described_by_its_scope() -> None:
    assert described(path="/items/7", query_string=b"a=1", http_version="2", headers=[(b"user-agent", b"curl/8")]) == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": "/items/7",
        "url.query": "a=1",
        "network.protocol.version": "2",
        "server.address": "testserver",
        "server.port": 80,
        "client.address": "203.0.113.7",
        "user_agent.original": "curl/8",
    }


def test_what_a_scope_does_not_tell_is_left_out() -> None:
    assert Stable(REDACTOR, KNOWN_METHODS).start(exchange_of({"type": "http"})) == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": "",
        "network.protocol.version": "1.1",
    }


def test_a_websocket_is_described_as_the_request_it_began_with() -> None:
    attributes = Stable(REDACTOR, KNOWN_METHODS).start(exchange_of(websocket_scope("/ws")))

    assert (attributes["http.request.method"], attributes["url.scheme"]) == ("GET", "ws")


def test_the_status_has_its_name() -> None:
    assert Stable(REDACTOR, KNOWN_METHODS).status_names == ("http.response.status_code",)


@pytest.mark.parametrize("method", sorted(KNOWN_METHODS))
def test_a_known_method_is_told_as_it_is(method: str) -> None:
    attributes = described(method=method)

    assert attributes["http.request.method"] == method
    assert "http.request.method_original" not in attributes


@pytest.mark.parametrize(("method", "original"), [("BREW", "BREW"), ("get", "get"), ("G\udce9T", "G?T")])
def test_any_other_method_is_kept_aside(method: str, original: str) -> None:
    attributes = described(method=method)

    assert attributes["http.request.method"] == "_OTHER"
    assert attributes["http.request.method_original"] == original


@pytest.mark.parametrize(
    ("host", "scheme", "expected"),
    [
        (b"example.org", "http", ("example.org", 80)),
        (b"example.org", "https", ("example.org", 443)),
        (b"example.org", "ws", ("example.org", 80)),
        (b"example.org", "wss", ("example.org", 443)),
        (b"example.org:8443", "https", ("example.org", 8443)),
        (b"192.0.2.7:81", "http", ("192.0.2.7", 81)),
        (b"[2001:db8::1]", "http", ("2001:db8::1", 80)),
        (b"[2001:db8::1]:8080", "http", ("2001:db8::1", 8080)),
        (b"example.org", "gopher", ("example.org", None)),
        (b"", "http", ("testserver", 80)),
        (b"user@example.org", "http", ("testserver", 80)),
        (b"example.org:port", "http", ("testserver", 80)),
        (b"caf\xc3\xa9.example", "http", ("testserver", 80)),
        (b"x" * 301, "http", ("testserver", 80)),
    ],
)
def test_the_server_is_the_one_the_request_was_sent_to(
    host: bytes, scheme: str, expected: tuple[str, int | None]
) -> None:
    attributes = described(headers=[(b"host", host)], scheme=scheme)

    assert (attributes["server.address"], attributes.get("server.port")) == expected


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (("10.0.0.1", 8000), {"server.address": "10.0.0.1", "server.port": 8000}),
        (("/run/app.sock", None), {"server.address": "/run/app.sock"}),
        (None, {}),
    ],
)
def test_without_a_host_the_server_is_the_scopes(server: Any, expected: dict[str, Any]) -> None:
    attributes = described(server=server)

    assert {name: value for name, value in attributes.items() if name.startswith("server")} == expected


@pytest.mark.parametrize("client", [None, (), ("", 0)])
def test_a_client_without_an_address_is_not_told(client: Any) -> None:
    assert "client.address" not in described(client=client)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"q=1&access_token=hunter2", "q=1&access_token=******"),
        (b"Signature=abc&x=1", "Signature=REDACTED&x=1"),
        (b"x=1&sig=abc;y=2", "x=1&sig=REDACTED"),
        (b"AWSAccessKeyId=abc&X-Goog-Signature=def", "AWSAccessKeyId=REDACTED&X-Goog-Signature=REDACTED"),
        (b"design=1", "design=1"),
        (b"q=caf\xc3\xa9", "q=café"),
        (b"q=caf\xe9", "q=café"),
    ],
)
def test_a_query_is_told_without_its_secrets(query: bytes, expected: str) -> None:
    assert described(query_string=query)["url.query"] == expected


def test_secrets_in_path_and_user_agent_are_redacted() -> None:
    attributes = described(path="/reset/password=hunter2", headers=[(b"user-agent", b"bot password=hunter2")])

    assert attributes["url.path"] == "/reset/password=******"
    assert attributes["user_agent.original"] == "bot password=******"


def test_a_user_agent_of_any_bytes_is_a_text() -> None:
    assert described(headers=[(b"user-agent", b"caf\xe9")])["user_agent.original"] == "café"


def test_a_rule_of_ones_own_may_leave_a_lone_surrogate_nowhere() -> None:
    rule = redactor_for(Settings(redact=lambda text: text + "\udce9"))

    attributes = Stable(rule, KNOWN_METHODS).start(
        exchange_of(path="/x", query_string=b"a=1", headers=[(b"user-agent", b"curl")])
    )

    assert {name: text for name, text in attributes.items() if "\udce9" in str(text)} == {}


def test_attributes_are_built_once_and_when_somebody_looks() -> None:
    built = []

    def start(exchange: Any) -> dict[str, Any]:
        built.append(exchange)
        return {"a": 1, "b": 2}

    exchange = exchange_of()
    attributes = LazyAttributes(start, exchange)
    assert built == []

    assert (attributes["a"], list(attributes), len(attributes)) == (1, ["a", "b"], 2)
    assert (list(attributes.items()), attributes.copy()) == ([("a", 1), ("b", 2)], {"a": 1, "b": 2})
    assert built == [exchange]


def test_attributes_that_cannot_be_built_are_none_and_reported(reports: list[str]) -> None:
    attributes = LazyAttributes(Stable(REDACTOR, KNOWN_METHODS).start, exchange_of(query_string="a=1"))

    assert dict(attributes) == {}
    assert reports == ["TracingMiddleware.attributes"]


def test_bound_fields_are_attributes_and_some_have_a_second_name() -> None:
    fields = {"user_id": "u-1", "workspace_id": 7, "conversation_id": 1.5, "vip": True, "cart": "c-1"}

    assert bound_attributes(fields, REDACTOR) == {
        **fields,
        "user.id": "u-1",
        "workspace.id": 7,
        "conversation.id": 1.5,
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "None"),
        ([1, "b"], "[1, 'b']"),
        ({"password": "x", "n": 1}, "{'password': '******', 'n': 1}"),
        (b"\xff", "\\xff"),
        ("caf\udce9", "caf?"),
        (Unprintable(), "<unprintable Unprintable>"),
        (float("inf"), float("inf")),
        (-(2**63), -(2**63)),
        (2**63 - 1, 2**63 - 1),
        (2**63, str(2**63)),
        (-(2**63) - 1, str(-(2**63) - 1)),
    ],
)
def test_a_bound_value_of_any_kind_is_one_that_can_be_exported(value: Any, expected: Any) -> None:
    assert bound_attributes({"field": value}, REDACTOR) == {"field": expected}


def test_a_bound_secret_is_redacted() -> None:
    assert bound_attributes({"password": "hunter2", "note": "password=hunter2"}, REDACTOR) == {
        "password": "******",
        "note": "password=******",
    }


def test_a_bound_name_with_a_lone_surrogate_can_be_exported() -> None:
    assert bound_attributes({"caf\udce9": 1}, REDACTOR) == {"caf?": 1}


@given(st.text(st.characters()))
def test_every_text_can_be_encoded(text: str) -> None:
    encoded = encodable(text).encode()

    assert encoded == text.encode("utf-8", "replace")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "path": st.text(max_size=20),
            "query_string": st.binary(max_size=40),
            "method": st.text(max_size=8),
            "headers": st.lists(st.tuples(st.sampled_from([b"host", b"user-agent"]), st.binary(max_size=20))),
            "client": st.none() | st.tuples(st.text(max_size=10), st.integers()),
            "server": st.none() | st.tuples(st.text("ab.:", max_size=10), st.none() | st.integers(0, 65_535)),
        },
    )
)
def test_whatever_a_client_sends_can_be_exported(scope: dict[str, Any]) -> None:
    attributes = Stable(REDACTOR, KNOWN_METHODS).start(exchange_of(http_scope(**scope)))

    assert all(
        isinstance(value, int) or value.encode("utf-8", "strict") is not None
        for name, value in attributes.items()
        if name != "client.address"
    )
