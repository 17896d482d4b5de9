from __future__ import annotations

import asyncio
import threading

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from asgi_obs import errors
from asgi_obs.tracing import TracingMiddleware
from asgi_obs.tracing import flush as module
from asgi_obs.tracing.flush import flush, within
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
    assert story == ["flush 5000"]


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


def test_no_thread_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", start)

    assert not within(5, bool)


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

    assert story == ["lifespan.startup.complete", "flush 5000", last]
