"""Which lines of successes are kept."""

from __future__ import annotations

import asyncio
import contextlib
import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_obs import errors
from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import Exchange, ExchangeMiddleware
from asgi_obs.logs.sampling import Sampling
from asgi_obs.settings import Settings
from asgi_obs.testing import drive, http_scope, websocket_scope
from asgi_obs.types import Message, Observer, Receive, Scope, Send

IDS = [f"request-{number}" for number in range(2000)]


class Last(Observer):
    """Keeps the exchange."""

    def on_end(self, exchange: Exchange) -> None:
        self.exchange = exchange


def ended(
    *messages: Message, scope: Scope | None = None, incoming: Any = None, error: ValueError | None = None
) -> Exchange:
    """An exchange that has ended: of an application that sends these messages, then raises the error."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for message in messages:
            await send(message)
        if error is not None:
            raise error
        if scope["type"] == "websocket":
            await receive()

    last = Last()
    with contextlib.suppress(ValueError):
        asyncio.run(drive(ExchangeMiddleware(app, observers=[last]), scope or http_scope("/items"), incoming))
    return last.exchange


def answered(status: int = 200, *, route: str | None = None, kind: bytes = b"text/plain", **scope: Any) -> Exchange:
    start = {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]}
    exchange = ended(start, {"type": "http.response.body"}, scope=http_scope("/items", **scope))
    exchange.route = route
    return exchange


def session(close_code: int, seconds: float = 0) -> Exchange:
    incoming = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": close_code}]
    exchange = ended({"type": "websocket.accept"}, scope=websocket_scope("/chat"), incoming=incoming)
    return lasting(seconds, exchange)


def lasting(seconds: float, exchange: Exchange) -> Exchange:
    exchange.ended_at = exchange.started_at + seconds
    return exchange


def kept(sampling: Sampling, exchange: Exchange) -> set[str]:
    """The correlation IDs with which the line of this exchange is kept."""
    found = set()
    for name in IDS:
        exchange.correlation_id = name
        if sampling.rate_if_kept(exchange) is not None:
            found.add(name)
    return found


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [seen.append])
    monkeypatch.setattr(errors, "_last_logged", {})
    return seen


def test_without_a_rate_below_one_nothing_is_left_out() -> None:
    assert [Sampling(rate).active for rate in (1, 1.0, {}, {"*": 1}, {"/a": 1.0})] == [False] * 5
    assert [Sampling(rate).active for rate in (0, 0.99, {"/a": 0.5}, lambda _: 1.0)] == [True] * 4
    assert Sampling({"/a": 1.0}).rate_if_kept(answered()) == 1


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5, 0.9])
def test_a_share_of_the_successes_is_kept(rate: float) -> None:
    share = len(kept(Sampling(rate), answered())) / len(IDS)

    assert rate - 0.02 < share < rate + 0.02


def test_nothing_is_kept_at_zero() -> None:
    assert kept(Sampling(0), answered()) == set()


def test_a_kept_line_is_told_its_rate_and_another_that_it_is_left_out() -> None:
    exchange = answered()
    answers = set()
    for name in IDS:
        exchange.correlation_id = name
        answers.add(Sampling(0.5).rate_if_kept(exchange))

    assert answers == {0.5, None}


def test_every_service_of_a_call_keeps_the_same_requests() -> None:
    here, there = answered(), answered(route="/other")

    assert kept(Sampling(0.3), here) == kept(Sampling({"*": 0.3}), there) == kept(Sampling(lambda _: 0.3), here)


@given(low=st.floats(0, 1), high=st.floats(0, 1), name=st.text(st.characters(), max_size=40))
def test_the_lower_rate_keeps_a_part_of_what_the_higher_one_does(low: float, high: float, name: str) -> None:
    low, high = sorted((low, high))
    exchange: Any = SimpleNamespace(
        status=200, outcome="completed", duration=0.0, route=None, correlation_id=name, close_code=None
    )

    if Sampling(low).rate_if_kept(exchange) is not None:
        assert Sampling(high).rate_if_kept(exchange) == high


def test_the_hash_is_the_one_that_is_documented() -> None:
    exchange = answered()
    exchange.correlation_id = "c-1"  # b2sum -l 64: 756147115e4dcc72, and so at 0.4585

    assert [Sampling(rate).rate_if_kept(exchange) for rate in (0.45, 0.46)] == [None, 0.46]


def test_without_an_id_it_is_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", iter([0.49, 0.51]).__next__)

    assert [Sampling(0.5).rate_if_kept(answered()) for _ in range(2)] == [0.5, None]


@pytest.mark.parametrize("status", [400, 404, 499, 500, 503])
def test_errors_are_always_kept(status: int) -> None:
    assert Sampling(0).rate_if_kept(answered(status)) == 1


def test_what_did_not_complete_is_always_kept() -> None:
    unfinished = ended({"type": "http.response.start", "status": 200, "headers": []})
    raised = ended(error=ValueError("bad"))

    assert (unfinished.outcome, raised.outcome) == ("incomplete", "error")
    assert [Sampling(0).rate_if_kept(exchange) for exchange in (unfinished, raised)] == [1, 1]


def test_slow_requests_are_always_kept() -> None:
    sampling = Sampling(0, slow=0.5)

    assert sampling.rate_if_kept(lasting(0.6, answered())) == 1
    assert sampling.rate_if_kept(lasting(0.4, answered())) is None


def test_none_is_slow_at_infinity() -> None:
    assert Sampling(0, slow=math.inf).rate_if_kept(lasting(1e9, answered())) is None


def test_a_long_session_or_event_stream_is_not_slow() -> None:
    assert Sampling(0).rate_if_kept(session(1000, seconds=3600)) is None
    assert Sampling(0).rate_if_kept(lasting(3600, answered(kind=b"text/event-stream"))) is None


@pytest.mark.parametrize(
    ("code", "expected"), [(1000, None), (1001, None), (1005, None), (1006, 1), (1011, 1), (1008, 1), (4000, 1)]
)
def test_of_websocket_sessions_the_normal_ones_are_sampled(code: int, expected: float | None) -> None:
    assert Sampling(0).rate_if_kept(session(code)) == expected


def test_a_refused_handshake_is_always_kept() -> None:
    exchange = ended({"type": "websocket.close"}, scope=websocket_scope("/chat"), error=ValueError())

    assert Sampling(0).rate_if_kept(exchange) == 1


def test_every_route_has_its_own_rate_and_the_rest_that_of_the_star() -> None:
    sampling = Sampling({"/a": 0, "/b": 1, "*": 0.5})
    counts = [len(kept(sampling, answered(route=route))) for route in ("/a", "/b", "/c", None)]

    assert counts[:2] == [0, len(IDS)]
    assert counts[2] == counts[3] == len(kept(Sampling(0.5), answered()))


def test_without_a_star_the_other_routes_are_kept() -> None:
    assert Sampling({"/a": 0}).rate_if_kept(answered(route="/b")) == 1


def test_a_callable_tells_the_rate_of_an_exchange() -> None:
    sampling = Sampling(lambda exchange: 0 if exchange.path == "/items" else 1)

    assert sampling.rate_if_kept(answered()) is None
    assert sampling.rate_if_kept(ended(scope=http_scope("/other"))) == 1


@pytest.mark.parametrize("nonsense", [None, "0.5", -0.1, 1.1, math.nan])
def test_a_callable_that_returns_nonsense_is_reported_and_the_line_kept(reported: list[str], nonsense: Any) -> None:
    assert Sampling(lambda _: nonsense).rate_if_kept(answered()) == 1
    assert reported == ["Sampling.rate"]


def test_a_callable_that_raises_is_reported_and_the_line_kept(reported: list[str]) -> None:
    def broken(exchange: Exchange) -> float:
        raise KeyError("route")

    assert Sampling(broken).rate_if_kept(answered()) == 1
    assert reported == ["Sampling.rate"]


def test_the_settings_say_what_is_sampled() -> None:
    sampling = Sampling.of(Settings(log_sample_rates=(("/a", 0.0), ("*", 1.0)), log_slow_seconds=2.0))

    assert sampling.rate_if_kept(lasting(1.9, answered(route="/a"))) is None
    assert sampling.rate_if_kept(lasting(2.1, answered(route="/a"))) == 1
    assert not Sampling.of(Settings(log_sample_rates=(("*", 1.0),))).active


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("rate", -0.1),
        ("rate", 1.1),
        ("rate", math.nan),
        ("rate", "0.5"),
        ("rate", None),
        ("rate", {"/a": 2}),
        ("rate", {"/a": "1"}),
        ("rate", {5: 1}),
        ("slow", -1),
        ("slow", math.nan),
        ("slow", "1"),
        ("slow", True),
    ],
)
def test_a_wrong_option_is_refused(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=option):
        Sampling(**{option: value})


def test_without_settings_the_environment_says_the_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Sampling.of(None).active
    monkeypatch.setenv("LOG_SAMPLE_RATE", "0.5")
    assert Sampling.of(None).active
