"""Whose context is continued: everybody's, nobody's, that of some networks, or what a function says."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_obs.errors import ConfigurationError
from asgi_obs.testing import http_scope
from asgi_obs.tracing.trust import Trust, trust_of
from asgi_obs.types import Scope


def trust(option: Any) -> Trust:
    trusted = trust_of(option)
    assert not isinstance(trusted, bool)
    return trusted


@pytest.mark.parametrize("option", [True, False])
def test_a_constant_is_itself(option: bool) -> None:
    assert trust_of(option) is option


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("10.1.2.3", True),
        ("11.0.0.1", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("fd00::1", True),
        ("fe80::1", False),
        ("fd00::1%eth0", True),
        ("::ffff:10.1.2.3", True),
        ("::ffff:11.0.0.1", False),
        ("testclient", False),
        ("", False),
        (None, False),
    ],
)
def test_a_caller_is_trusted_whose_address_is_in_one_of_the_networks(client: str | None, expected: bool) -> None:
    trusted = trust(["10.0.0.0/8", "192.0.2.7", "fd00::/8"])

    assert trusted(http_scope(client=(client, 50_000))) is expected
    assert trusted(http_scope(client=(client, 50_000))) is expected


def test_a_network_may_be_that_of_mapped_addresses() -> None:
    trusted = trust(["::ffff:10.0.0.0/104"])

    assert [trusted(http_scope(client=(client, 1))) for client in ("::ffff:10.1.2.3", "::ffff:11.0.0.1")] == [
        True,
        False,
    ]


def test_a_network_may_be_written_with_the_address_of_a_host() -> None:
    assert trust({"10.1.2.3/8"})(http_scope(client=("10.9.9.9", 1))) is True


def test_of_no_networks_nobody_is_trusted() -> None:
    assert trust(())(http_scope()) is False


@pytest.mark.parametrize("more", [{"client": None}, {"client": ()}])
def test_a_caller_without_an_address_is_not_trusted(more: dict[str, Any]) -> None:
    assert trust(["0.0.0.0/0", "::/0"])(http_scope(**more)) is False


def test_a_scope_without_a_caller_is_not_trusted() -> None:
    assert trust(["0.0.0.0/0"])({"type": "http"}) is False


def test_a_function_is_asked_with_the_scope() -> None:
    asked: list[Scope] = []

    def gateway(scope: Scope) -> list[str]:
        asked.append(scope)
        return ["anything"]

    scope = http_scope()

    assert trust(gateway)(scope) is True
    assert trust(lambda _: None)(scope) is False
    assert asked == [scope]


def test_a_function_that_fails_trusts_nobody_and_is_reported(reports: list[str]) -> None:
    def gateway(scope: Scope) -> bool:
        raise LookupError(scope["path"])

    assert trust(gateway)(http_scope()) is False
    assert reports == [gateway.__qualname__]


@pytest.mark.parametrize("option", ["10.0.0.0/8", None, 1, 0.5, ["10.0.0.0/33"], ["10.0.0.0/8", "example.org"]])
def test_anything_else_is_refused(option: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"trust_incoming=.* is not valid: expected True, False, a list of"):
        trust_of(option)
