from __future__ import annotations

import asyncio
import threading

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from asgi_obs import errors
from asgi_obs.tracing import TracingMiddleware
from asgi_obs.tracing import flush as module
from asgi_obs.tracing.flush import SharedWait, flush, within
from asgi_obs.types import Message, Receive, Scope, Send


class Provider(TracerProvider):
    """Notes when it is flushed."""

    def __init__(self, story: list[str]) -> None:
        super().__init__(shutdown_on_exit=False)
        self.story = story

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        self.story.append(f"flush {timeout_millis}")
        return True


def test_a_flush_is_limited_by_patience() -> None:
    story: list[str] = []

    assert flush(Provider(story))
    assert story == ["flush 4500"]


@pytest.mark.parametrize("result", [True, False, None])
def test_a_flush_that_was_in_vain_is_told(result: bool | None) -> None:
    class Other(Provider):
        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return result  # type: ignore[return-value]

    assert flush(Other([])) is (result is not False)


def test_a_provider_that_has_nothing_to_flush_is_flushed() -> None:
    assert flush(trace.NoOpTracerProvider())
    assert flush()


def test_a_flush_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    goes_on = threading.Event()

    class Hanging(Provider):
        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return goes_on.wait()

    assert not flush(Hanging([]))
    goes_on.set()


def test_a_flush_that_fails_is_reported(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "_last_logged", {})

    assert not within(5, lambda: 1 / 0)
    assert "ZeroDivisionError" in caplog.text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_all_who_wait_together_wait_as_long_as_the_first_would(clock: list[float]) -> None:
    wait = SharedWait()

    assert wait.left(5, 0) == 5
    clock[0] += 2
    assert (wait.left(30, 0), wait.left(1, 0), wait.is_over(0)) == (3, 1, False)
    clock[0] += 4
    assert (wait.left(30, 0), wait.is_over(0)) == (0, True)


def test_progress_begins_a_new_wait(clock: list[float]) -> None:
    wait = SharedWait()
    wait.give_up(0)

    assert (wait.left(5, 0), wait.is_over(0), wait.is_over(1)) == (0, True, False)
    assert (wait.left(5, 1), wait.is_over(1)) == (5, False)


def test_a_wait_that_was_not_in_vain_leaves_nothing_behind(clock: list[float]) -> None:
    wait = SharedWait()
    wait.left(5, 0)
    wait.end()
    clock[0] += 60

    assert wait.left(5, 0) == 5


@pytest.mark.parametrize(("seconds", "expected"), [(5, True), (0, False)])
def test_where_no_thread_can_be_started_the_call_is_made_in_this_one(
    monkeypatch: pytest.MonkeyPatch, seconds: float, expected: bool
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", start)
    made: list[bool] = []

    assert within(seconds, lambda: made.append(True)) is expected
    assert made == [True] * expected


@pytest.mark.parametrize("last", ["lifespan.shutdown.complete", "lifespan.shutdown.failed"])
def test_the_last_word_of_a_lifespan_waits_for_the_spans(last: str) -> None:
    story: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.complete"})
        await send({"type": last})

    async def receive() -> Message:  # pragma: no cover - nothing is asked for
        raise AssertionError

    async def send(message: Message) -> None:
        story.append(message["type"])

    asyncio.run(TracingMiddleware(app, tracer_provider=Provider(story))({"type": "lifespan"}, receive, send))

    assert story == ["lifespan.startup.complete", "flush 4500", last]
