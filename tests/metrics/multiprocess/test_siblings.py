from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from asgi_obs.metrics.multiprocess.siblings import LOOKS, SiblingWatch

OURS = 20
PORT = ("127.0.0.1", 8000)
PATH = "/run/shop.sock"


def connection(address: Any, status: str = psutil.CONN_LISTEN) -> SimpleNamespace:
    return SimpleNamespace(laddr=address, status=status)


class Process:
    """As much of a process of psutil as is looked at."""

    def __init__(self, pid: int, tcp: list[Any] | None = None, unix: list[Any] | None = None) -> None:
        self.pid = pid
        self.looks = 0
        self._found = {"tcp": tcp or [], "unix": unix or []}

    def net_connections(self, kind: str) -> list[Any]:
        self.looks += 1
        return self._found[kind]


class Former(Process):
    """One of psutil before version 6."""

    net_connections = property()  # type: ignore[assignment]

    def connections(self, kind: str) -> list[Any]:
        return Process.net_connections(self, kind)


class Foreign(Process):
    """One of another user."""

    def net_connections(self, kind: str) -> list[Any]:
        raise psutil.AccessDenied(self.pid)


@pytest.fixture(autouse=True)
def not_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.delenv("prometheus_multiproc_dir", raising=False)


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Called with a process and its siblings: the process is this one."""

    def be(own: Any, *others: Any) -> None:
        own.parent = lambda: SimpleNamespace(children=lambda: [own, *others])
        monkeypatch.setattr(psutil, "Process", lambda: own)

    return be


def looks_of(watch: SiblingWatch, caplog: pytest.LogCaptureFixture, times: int = 3) -> list[str]:
    """The warnings of some looks."""
    for _ in range(times):
        watch.look()
    assert {record.levelno for record in caplog.records} <= {logging.WARNING}
    return [record.getMessage().partition(",")[0] for record in caplog.records]


SERVING = {"tcp": [connection(PORT)]}


@pytest.mark.parametrize("kind", [Process, Former])
def test_the_first_of_several_workers_says_it_once(kind: Any, family: Any, caplog: pytest.LogCaptureFixture) -> None:
    family(kind(OURS, **SERVING), kind(21, **SERVING), kind(22, **SERVING))
    assert looks_of(SiblingWatch(), caplog) == ["3 workers serve one address"]
    assert "Set PROMETHEUS_MULTIPROC_DIR to" in caplog.text


def test_at_first_sight_nothing_is_said_for_others_may_be_on_their_way(
    family: Any, caplog: pytest.LogCaptureFixture
) -> None:
    watch = SiblingWatch()
    family(Process(OURS, **SERVING), Process(21, **SERVING))
    assert looks_of(watch, caplog, 1) == []
    family(Process(OURS, **SERVING), Process(21, **SERVING), Process(22, **SERVING), Process(23, **SERVING))
    assert looks_of(watch, caplog, 2) == ["4 workers serve one address"]


def test_whoever_is_not_the_first_at_the_second_look_says_nothing(
    family: Any, caplog: pytest.LogCaptureFixture
) -> None:
    watch = SiblingWatch()
    family(Process(OURS, **SERVING), Process(19), Process(21, **SERVING))
    assert looks_of(watch, caplog, 1) == []
    family(Process(OURS, **SERVING), Process(19, **SERVING), Process(21, **SERVING))
    assert looks_of(watch, caplog) == []


def test_a_sibling_that_goes_is_forgotten(family: Any, caplog: pytest.LogCaptureFixture) -> None:
    watch = SiblingWatch()
    for others in ([Process(21, **SERVING)], [], [Process(22, **SERVING)], []):
        family(Process(OURS, **SERVING), *others)
        assert looks_of(watch, caplog, 1) == []


def test_the_others_leave_it_to_the_first(family: Any, caplog: pytest.LogCaptureFixture) -> None:
    family(Process(OURS, **SERVING), Process(19, **SERVING), Process(21, **SERVING))
    assert looks_of(SiblingWatch(), caplog) == []


def test_a_unix_socket_is_an_address_too(family: Any, caplog: pytest.LogCaptureFixture) -> None:
    unix = [connection(PATH, psutil.CONN_NONE), connection("", psutil.CONN_NONE)]
    family(Process(OURS, unix=unix), Process(21, unix=unix))
    assert looks_of(SiblingWatch(), caplog) == ["2 workers serve one address"]


@pytest.mark.parametrize(
    "sibling",
    [
        Process(21),
        Process(21, tcp=[connection(("127.0.0.1", 8001))]),
        Process(21, tcp=[connection(PORT, psutil.CONN_ESTABLISHED)]),
        Process(21, unix=[connection("", psutil.CONN_NONE)]),
        Foreign(21),
    ],
    ids=["idle", "another port", "a connection", "a pair of sockets", "another user's"],
)
def test_a_sibling_that_serves_something_else_is_no_worker(
    sibling: Process, family: Any, caplog: pytest.LogCaptureFixture
) -> None:
    family(Process(OURS, **SERVING, unix=[connection("", psutil.CONN_NONE)]), sibling)
    assert looks_of(SiblingWatch(), caplog) == []


def test_a_process_without_siblings_does_not_even_look_at_its_sockets(
    family: Any, caplog: pytest.LogCaptureFixture
) -> None:
    own = Process(OURS, **SERVING)
    family(own)
    assert looks_of(SiblingWatch(), caplog) == []
    assert own.looks == 0


def test_the_first_process_of_a_container_has_no_parent(family: Any, caplog: pytest.LogCaptureFixture) -> None:
    own: Any = Process(1, **SERVING)
    family(own, Process(21, **SERVING))
    own.parent = lambda: None
    assert looks_of(SiblingWatch(), caplog) == []


def test_where_not_even_the_own_sockets_can_be_seen_nothing_is_said(
    family: Any, caplog: pytest.LogCaptureFixture
) -> None:
    family(Foreign(OURS), Process(21, **SERVING))
    assert looks_of(SiblingWatch(), caplog) == []


def test_a_sibling_that_comes_later_is_seen(family: Any, caplog: pytest.LogCaptureFixture) -> None:
    watch = SiblingWatch()
    family(Process(OURS, **SERVING))
    assert looks_of(watch, caplog) == []
    family(Process(OURS, **SERVING), Process(21, **SERVING))
    assert looks_of(watch, caplog) == ["2 workers serve one address"]


def test_looking_ends(family: Any, caplog: pytest.LogCaptureFixture) -> None:
    own = Process(OURS, **SERVING)
    family(own, Process(21))
    assert looks_of(SiblingWatch(), caplog, LOOKS + 5) == []
    assert own.looks == 2 * LOOKS


def test_with_a_directory_there_is_nothing_to_look_for(
    family: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/anywhere")
    own = Process(OURS, **SERVING)
    family(own, Process(21, **SERVING))
    assert looks_of(SiblingWatch(), caplog) == []
    assert own.looks == 0
