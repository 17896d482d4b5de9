"""Who may read the ops paths, and what the others are told."""

from __future__ import annotations

import logging
from base64 import b64encode
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_obs.errors import ConfigurationError
from asgi_obs.ops import auth
from asgi_obs.ops.auth import Guard
from asgi_obs.ops.request import Caller
from asgi_obs.settings import Settings
from asgi_obs.testing import http_scope
from asgi_obs.types import Scope

pytestmark = pytest.mark.anyio

TOKEN = "t0p-t0ken"
NOBODY = Caller(admitted=False)
ADMITTED = Caller(admitted=True)
BY_TOKEN = Caller(admitted=True, authorised=True, actor="token")


def guard(authorize: Any = None, **settings: Any) -> Guard:
    return Guard(Settings(**settings), authorize)


def scope_with(*authorizations: bytes, client: Any = ("10.1.2.3", 5000)) -> Scope:
    return {**http_scope("/metrics"), "client": client, "headers": [(b"authorization", a) for a in authorizations]}


def basic(login: str) -> bytes:
    return b"Basic " + b64encode(login.encode())


def challenges(made: Guard) -> list[bytes]:
    return [value for name, value in made.refuse(scope_with()).headers if name == b"www-authenticate"]


async def test_without_any_credential_everybody_is_admitted_and_nobody_authorised() -> None:
    open_to_all = guard()

    assert open_to_all.needs_credential is False
    assert await open_to_all.identify(scope_with()) == ADMITTED
    assert await open_to_all.identify(scope_with(b"Bearer x")) == ADMITTED


@pytest.mark.parametrize("header", [b"Bearer t0p-t0ken", b"bearer t0p-t0ken", b" BEARER   t0p-t0ken "])
async def test_the_token_authorises(header: bytes) -> None:
    assert await guard(ops_token=TOKEN).identify(scope_with(header)) == BY_TOKEN


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (b"",),
        (b"Bearer",),
        (b"Bearer ",),
        (b"Bearer t0p-t0ke",),
        (b"Bearer t0p-t0ken2",),
        (b"Bearer T0P-T0KEN",),
        (b"Token t0p-t0ken",),
        (b"t0p-t0ken",),
        (b"Basic dDBwLXQwa2Vu",),
        (b"Bearer t0p-t0ken", b"Bearer t0p-t0ken"),
    ],
)
async def test_nothing_else_does(headers: tuple[bytes, ...]) -> None:
    assert await guard(ops_token=TOKEN).identify(scope_with(*headers)) == NOBODY


async def test_name_and_password_authorise_under_that_name() -> None:
    by_password = guard(ops_username="scraper", ops_password="pass:word")

    assert await by_password.identify(scope_with(basic("scraper:pass:word"))) == Caller(
        admitted=True, authorised=True, actor="scraper"
    )
    for wrong in (basic("scraper:password"), basic("other:pass:word"), basic(""), b"Basic ?", b"Bearer pass:word"):
        assert await by_password.identify(scope_with(wrong)) == NOBODY


async def test_of_token_and_password_either_is_enough() -> None:
    both = guard(ops_token=TOKEN, ops_username="scraper", ops_password="password")

    assert (await both.identify(scope_with(b"Bearer t0p-t0ken"))).actor == "token"
    assert (await both.identify(scope_with(basic("scraper:password")))).actor == "scraper"
    assert challenges(both) == [b'Bearer realm="ops"', b'Basic realm="ops", charset="UTF-8"']


async def test_a_challenge_names_the_schemes_there_are() -> None:
    assert challenges(guard(ops_token=TOKEN)) == [b'Bearer realm="ops"']
    assert guard(ops_token=TOKEN).refuse(scope_with()).status == 401
    assert guard(lambda scope: False).refuse(scope_with()).status == 403


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (True, Caller(admitted=True, authorised=True, actor="authorize")),
        ("ada", Caller(admitted=True, authorised=True, actor="ada")),
        (False, NOBODY),
        (None, NOBODY),
        ("", NOBODY),
        (1, NOBODY),
        (RuntimeError("no directory today"), NOBODY),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_callable_decides_and_what_it_cannot_decide_is_refused(
    monkeypatch: pytest.MonkeyPatch, answer: Any, expected: Caller, *, is_async: bool
) -> None:
    monkeypatch.setattr("asgi_obs.errors._last_logged", {})

    def decide(scope: Scope) -> Any:
        assert scope["path"] == "/metrics"
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def decide_later(scope: Scope) -> Any:
        await anyio.lowlevel.checkpoint()
        return decide(scope)

    assert await guard(decide_later if is_async else decide).identify(scope_with()) == expected


async def test_a_callable_is_asked_only_where_no_other_credential_is_valid() -> None:
    asked: list[Scope] = []
    made = guard(asked.append, ops_token=TOKEN)

    assert await made.identify(scope_with(b"Bearer t0p-t0ken")) == BY_TOKEN
    assert asked == []
    assert await made.identify(scope_with()) == NOBODY
    assert len(asked) == 1


@pytest.mark.parametrize("headers", [(b"Bearer no",), (b"Bearer t0p-t0ken", b"Bearer t0p-t0ken"), (b"bearer",)])
async def test_a_wrong_credential_is_refused_whatever_a_callable_would_say(headers: tuple[bytes, ...]) -> None:
    made = guard(lambda scope: "ada", ops_token=TOKEN)

    assert await made.identify(scope_with(*headers)) == NOBODY
    assert (await made.identify(scope_with(b"Basic YTpi"))).actor == "ada"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_callable_that_hangs_or_is_cancelled_admits_nobody(
    backend: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(auth, "PATIENCE", 0.01)
    monkeypatch.setattr("asgi_obs.errors._last_logged", {})

    async def hanging(scope: Scope) -> bool:
        await anyio.sleep_forever()
        raise AssertionError  # pragma: no cover - never

    async def cancelled(scope: Scope) -> bool:
        with anyio.CancelScope() as outer:
            outer.cancel()
            try:
                await anyio.lowlevel.checkpoint()
            except anyio.get_cancelled_exc_class() as error:
                kept.append(error)
                raise
        raise kept.pop()

    kept: list[BaseException] = []
    for callable_ in (hanging, cancelled):
        assert anyio.run(guard(callable_).identify, scope_with(), backend=backend) == NOBODY
    assert "hanging failed" in caplog.text
    assert "cancelled failed" in caplog.text


async def test_who_has_left_is_not_answered() -> None:
    async def hanging(scope: Scope) -> bool:
        await anyio.sleep_forever()
        raise AssertionError  # pragma: no cover - never

    with anyio.move_on_after(0.01) as left:
        await guard(hanging).identify(scope_with())
    assert left.cancelled_caught


async def test_the_bare_probes_do_not_wait_for_a_callable() -> None:
    asked: list[Scope] = []
    made = guard(asked.append, ops_token=TOKEN)

    assert made.recognise(scope_with()) == NOBODY
    assert made.recognise(scope_with(b"Bearer t0p-t0ken")) == BY_TOKEN
    assert asked == []


@pytest.mark.parametrize(
    ("environment", "options", "said"),
    [
        ("production", {}, 1),
        ("production", {"ops_token": TOKEN}, 0),
        ("production", {"ops_allowed_networks": "::1"}, 0),
        ("staging", {}, 0),
    ],
)
def test_in_production_it_is_said_once_that_all_is_open(
    environment: str, options: dict[str, Any], said: int, caplog: pytest.LogCaptureFixture
) -> None:
    auth._warn_that_all_is_open.cache_clear()
    for _ in range(3):
        guard(environment=environment, **options)
    assert caplog.text.count("the ops paths are open to everybody") == said


def test_a_callable_has_to_be_one() -> None:
    with pytest.raises(ConfigurationError, match="authorize='ada' is not valid: expected a callable"):
        guard("ada")


@pytest.mark.parametrize(
    ("client", "admitted"),
    [
        (("10.1.2.3", 1), True),
        (("::ffff:10.9.9.9", 1), True),
        (("192.0.2.1", 1), False),
        (None, False),
        (("", 0), False),
    ],
)
async def test_from_outside_the_networks_nobody_is_admitted(client: Any, *, admitted: bool) -> None:
    inside = guard(ops_allowed_networks="10.0.0.0/8")

    assert (await inside.identify(scope_with(client=client))).admitted is admitted
    assert inside.needs_credential is False


async def test_a_network_stands_beside_the_credential_not_in_its_place() -> None:
    both = guard(ops_token=TOKEN, ops_allowed_networks="10.0.0.0/8")
    outside = ("192.0.2.1", 1)

    assert await both.identify(scope_with()) == NOBODY
    assert await both.identify(scope_with(b"Bearer t0p-t0ken", client=outside)) == NOBODY
    assert await both.identify(scope_with(b"Bearer t0p-t0ken")) == BY_TOKEN
    assert (both.refuse(scope_with()).status, both.refuse(scope_with(client=outside)).status) == (401, 403)


def test_what_was_refused_is_said_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1000.0]
    monkeypatch.setattr(auth.time, "monotonic", lambda: now[0])
    made = guard(ops_token=TOKEN)

    with caplog.at_level(logging.WARNING, "asgi_obs"):
        for seconds in (0.0, 59.0, 1.0, 1.0):
            now[0] += seconds
            made.refuse(scope_with(client=("192.0.2.1", 1) if seconds else None))

    assert [(record.getMessage(), record.client_ip) for record in caplog.records] == [  # type: ignore[attr-defined]
        ("a request to the ops paths was refused", None),
        ("a request to the ops paths was refused", "192.0.2.1"),
    ]


_HOSTILE = guard(ops_token=TOKEN, ops_username="scraper", ops_password="password")


@given(
    scheme=st.sampled_from([b"Bearer ", b"Basic ", b"bearer\t", b"", b"Digest "]),
    credential=st.binary(max_size=60),
    times=st.integers(0, 3),
)
def test_wrong_credentials_of_any_bytes_admit_nobody(scheme: bytes, credential: bytes, times: int) -> None:
    headers = (scheme + credential,) * times

    assert anyio.run(_HOSTILE.identify, scope_with(*headers)) == NOBODY


async def test_two_who_ask_at_once_are_not_mixed_up() -> None:
    meanwhile = anyio.Event()

    async def slowly(scope: Scope) -> str:
        await meanwhile.wait()
        return str(scope["client"][0])

    made = guard(slowly)
    found: list[str | None] = []

    async def ask(client: str) -> None:
        found.append((await made.identify(scope_with(client=(client, 1)))).actor)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, "10.0.0.1")
        tasks.start_soon(ask, "10.0.0.2")
        meanwhile.set()
    assert sorted(map(str, found)) == ["10.0.0.1", "10.0.0.2"]
