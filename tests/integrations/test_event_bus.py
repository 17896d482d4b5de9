from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler
from opentelemetry.trace import NonRecordingSpan, SpanKind, StatusCode, use_span
from prometheus_client import CollectorRegistry, generate_latest

from asgi_obs import CorrelationIdMiddleware, LogContext, TracingMiddleware, get_logger
from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import ExchangeMiddleware
from asgi_obs.integrations.event_bus import MAX_CARRIER, EventBusInstrumentation
from asgi_obs.settings import Settings
from asgi_obs.testing import drive, http_scope
from asgi_obs.tracing.propagation import current_correlation_id
from asgi_obs.types import Receive, Scope, Send
from tests.integrations.conftest import Written
from tests.metrics.multiprocess.conftest import Worker
from tests.spans import span_context
from tests.tracing.spans import Spans, attributes_of

PUBLISHED = "event_bus_events_published_total"
DELIVERED = "event_bus_events_delivered_total"

log = get_logger("assistant")


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def bus(registry: CollectorRegistry, spans: Spans) -> EventBusInstrumentation:
    return EventBusInstrumentation(registry=registry, tracer_provider=spans.provider)


@pytest.fixture
def counted(registry: CollectorRegistry) -> Callable[[str], dict[str, float]]:
    """Called with the name of a counter: what it has counted, by event type."""

    def read(name: str) -> dict[str, float]:
        samples = [sample for family in registry.collect() for sample in family.samples if sample.name == name]
        return {sample.labels["event_type"]: sample.value for sample in samples}

    return read


def subscribers(registry: CollectorRegistry) -> float | None:
    return registry.get_sample_value("event_bus_subscribers")


def current_trace_id() -> int:
    return trace.get_current_span().get_span_context().trace_id


def test_events_are_counted_by_type_where_they_are_published_and_at_each_subscriber(
    bus: EventBusInstrumentation, counted: Callable[[str], dict[str, float]]
) -> None:
    for event_type in ("created", "created", "deleted"):
        context = bus.publishing(event_type)
        for _ in range(2):
            with bus.delivering(event_type, context):
                pass

    assert counted(PUBLISHED) == {"created": 2.0, "deleted": 1.0}
    assert counted(DELIVERED) == {"created": 4.0, "deleted": 2.0}


def test_what_is_to_be_sent_along_is_texts(bus: EventBusInstrumentation, spans: Spans) -> None:
    with LogContext("c-1"):
        context = bus.publishing("created")

    [span] = spans()
    identity = span.get_span_context()
    assert context == {
        "traceparent": f"00-{identity.trace_id:032x}-{identity.span_id:016x}-{identity.trace_flags:02x}",
        "x-correlation-id": "c-1",
    }


def test_publishing_is_a_span_of_kind_producer(bus: EventBusInstrumentation, spans: Spans) -> None:
    around = span_context()
    with LogContext("c-1"), use_span(NonRecordingSpan(around)):
        bus.publishing("created")
        assert current_trace_id() == around.trace_id

    [span] = spans()
    assert (span.name, span.kind, span.status.status_code) == ("publish created", SpanKind.PRODUCER, StatusCode.UNSET)
    assert span.parent == around
    assert list(span.links) == []
    assert attributes_of(span) == {
        "messaging.system": "event_bus",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "publish",
        "messaging.destination.name": "created",
        "correlation_id": "c-1",
    }


def test_handling_is_a_span_of_kind_consumer_below_that_of_publishing(
    registry: CollectorRegistry, spans: Spans
) -> None:
    bus = EventBusInstrumentation("redis", registry=registry, tracer_provider=spans.provider)
    with LogContext("c-1"):
        context = bus.publishing("created")
    with bus.delivering("created", context):
        inside = trace.get_current_span().get_span_context()

    published, handled = spans()
    assert (handled.name, handled.kind) == ("process created", SpanKind.CONSUMER)
    assert handled.status.status_code is StatusCode.UNSET
    assert handled.get_span_context() == inside
    assert handled.parent is not None
    assert handled.parent.span_id == published.get_span_context().span_id
    assert [link.context.span_id for link in handled.links] == [handled.parent.span_id]
    assert attributes_of(handled) == {
        "messaging.system": "redis",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "created",
        "correlation_id": "c-1",
    }


def test_a_publisher_whose_trace_came_from_elsewhere_is_not_linked_to_it(
    bus: EventBusInstrumentation, spans: Spans
) -> None:
    context = bus.publishing("asked")
    with bus.delivering("asked", context):
        bus.publishing("answered")

    _, answered, _ = spans()
    assert (answered.name, list(answered.links)) == ("publish answered", [])


def test_the_publishers_context_holds_inside_and_only_there(bus: EventBusInstrumentation) -> None:
    with LogContext("publisher"), use_span(NonRecordingSpan(span_context("a" * 32))):
        context = bus.publishing("created")
    own = span_context("c" * 32)
    with LogContext("subscriber"), use_span(NonRecordingSpan(own)):
        with bus.delivering("created", context):
            assert (current_correlation_id(), f"{current_trace_id():032x}") == ("publisher", "a" * 32)
        assert (current_correlation_id(), current_trace_id()) == ("subscriber", own.trace_id)
    assert (current_correlation_id(), current_trace_id()) == (None, 0)


def test_an_event_that_is_published_by_a_handler_continues_the_story(bus: EventBusInstrumentation) -> None:
    with LogContext("c-1"):
        asked = bus.publishing("asked")
    with bus.delivering("asked", asked):
        answered = bus.publishing("answered")
    with bus.delivering("answered", answered):
        assert current_correlation_id() == "c-1"
    assert asked["traceparent"][:35] == answered["traceparent"][:35]


def test_an_event_that_brings_nothing_leaves_the_context_as_it_is(bus: EventBusInstrumentation, spans: Spans) -> None:
    own = span_context()
    with LogContext("own"), use_span(NonRecordingSpan(own)), bus.delivering("created", None):
        assert (current_correlation_id(), current_trace_id()) == ("own", own.trace_id)

    [span] = spans()
    assert (span.parent, list(span.links)) == (own, [])


def test_context_may_have_come_as_bytes_in_other_case(bus: EventBusInstrumentation) -> None:
    carrier = {b"TraceParent": f"00-{'a' * 32}-{'b' * 16}-01".encode(), "X-Correlation-ID": b"c-1", "other": 5}
    with bus.delivering("created", carrier):
        assert (current_correlation_id(), f"{current_trace_id():032x}") == ("c-1", "a" * 32)


def test_without_an_sdk_the_trace_goes_through(registry: CollectorRegistry) -> None:
    bus = EventBusInstrumentation(registry=registry, tracer_provider=trace.NoOpTracerProvider())
    with use_span(NonRecordingSpan(span_context("a" * 32))):
        context = bus.publishing("created")
    with bus.delivering("created", context):
        assert f"{current_trace_id():032x}" == "a" * 32


def test_what_a_handler_raises_passes_and_is_told_on_its_span(registry: CollectorRegistry, spans: Spans) -> None:
    settings = Settings(environment="production", sensitive_patterns=("hunter.",))
    bus = EventBusInstrumentation(registry=registry, tracer_provider=spans.provider, settings=settings)
    error = KeyError("hunter2")
    with pytest.raises(KeyError) as caught, bus.delivering("created", bus.publishing("created")):
        raise error

    assert caught.value is error
    handled = spans()[1]
    assert handled.status.status_code is StatusCode.ERROR
    assert attributes_of(handled)["error.type"] == "KeyError"
    [event] = handled.events
    assert set(event.attributes or ()) == {"exception.type", "exception.message"}
    assert "hunter2" not in handled.to_json()


@pytest.mark.parametrize("kind", [asyncio.CancelledError, KeyboardInterrupt, GeneratorExit])
def test_a_handler_that_is_cancelled_has_not_failed(
    kind: type[BaseException], bus: EventBusInstrumentation, spans: Spans
) -> None:
    with pytest.raises(kind), bus.delivering("created", {}):
        raise kind

    [handled] = spans()
    assert handled.status.status_code is StatusCode.UNSET


def test_an_error_in_a_span_that_is_not_sampled_passes_too(registry: CollectorRegistry) -> None:
    spans = Spans(sampler=ALWAYS_OFF)
    bus = EventBusInstrumentation(registry=registry, tracer_provider=spans.provider)
    with pytest.raises(KeyError), bus.delivering("created", bus.publishing("created")):
        raise KeyError

    assert spans() == []


def broken(*_: object, **__: object) -> Any:
    raise RuntimeError


class Broken(Mapping[Any, Any]):
    __getitem__ = __iter__ = broken

    def __len__(self) -> int:
        return 1


class Endless(Broken):
    __len__ = broken


@pytest.mark.parametrize(
    ("carrier", "places"),
    [
        ({}, []),
        ("", []),
        ({None: None, 5: 5, ("x",): b"\xff"}, []),
        ({"traceparent": "x" * 1_000_000, "x-correlation-id": "\ud800"}, []),
        (5, ["EventBusInstrumentation.delivering"]),
        ("traceparent", ["EventBusInstrumentation.delivering"]),
        ([("traceparent", "x")], ["EventBusInstrumentation.delivering"]),
        (dict.fromkeys(range(MAX_CARRIER + 1)), ["EventBusInstrumentation.delivering"]),
        (Endless(), ["EventBusInstrumentation.delivering"]),
        (Broken(), ["extract_context"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_carrier_keeps_an_event_from_being_handled(
    carrier: Any, places: list[str], bus: EventBusInstrumentation, spans: Spans, reported: list[str]
) -> None:
    with LogContext("own"), bus.delivering("created", carrier):
        assert current_correlation_id() == "own"

    assert [span.name for span in spans()] == ["process created"]
    assert reported == places


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.binary() | st.integers(), inner),
)


@given(event_type=anything, carrier=anything)
def test_whatever_comes_the_event_is_handled_and_counted(event_type: Any, carrier: Any) -> None:
    registry = CollectorRegistry()
    bus = EventBusInstrumentation(registry=registry, tracer_provider=Spans().provider)
    handled = []
    context = bus.publishing(event_type)
    for each in (carrier, context, {"traceparent": carrier, "x-correlation-id": carrier}):
        with bus.delivering(event_type, each):
            handled.append(each)

    assert all(isinstance(text, str) for pair in context.items() for text in pair)
    assert len(handled) == 3
    assert "event_bus_events_delivered_total{" in generate_latest(registry).decode()


def test_past_the_cap_event_types_fold(
    registry: CollectorRegistry, counted: Callable[[str], dict[str, float]], reported: list[str]
) -> None:
    bus = EventBusInstrumentation(registry=registry, max_series=10)
    for number in range(50):
        with bus.delivering(f"type {number}", bus.publishing(f"type {number}")):
            pass

    for name in (PUBLISHED, DELIVERED):
        found = counted(name)
        assert len(found) == 9
        assert found["__overflow__"] == 42.0
    assert reported == []


def test_a_long_event_type_is_cut(bus: EventBusInstrumentation, counted: Callable[[str], dict[str, float]]) -> None:
    bus.publishing("x" * 1_000)
    bus.publishing("x" * 2_000)

    assert counted(PUBLISHED) == {"x" * 128: 2.0}


def test_a_subscriber_is_counted_while_it_is_there(bus: EventBusInstrumentation, registry: CollectorRegistry) -> None:
    assert subscribers(registry) == 0.0
    with bus.subscribed(), bus.subscribed():
        assert subscribers(registry) == 2.0
    with pytest.raises(KeyError), bus.subscribed():
        raise KeyError
    assert subscribers(registry) == 0.0


def test_a_subscriber_is_counted_once_however_often_it_comes_and_goes(
    bus: EventBusInstrumentation, registry: CollectorRegistry
) -> None:
    subscription = bus.subscribed()
    counts = []
    for step in ("enter", "enter", "exit", "exit", "enter", "exit"):
        if step == "enter":
            subscription.__enter__()
        else:
            subscription.__exit__(None, None, None)
        counts.append(subscribers(registry))

    assert counts == [1.0, 1.0, 0.0, 0.0, 1.0, 0.0]


def test_a_delivery_that_is_left_twice_has_one_span(bus: EventBusInstrumentation, spans: Spans) -> None:
    delivery = bus.delivering("created", None)
    delivery.__enter__()
    delivery.__exit__(None, None, None)
    delivery.__exit__(None, None, None)

    assert len(spans()) == 1


class Failing(Sampler):
    should_sample = get_description = broken


def test_spans_that_cannot_be_made_keep_nothing_from_going_along(
    registry: CollectorRegistry, reported: list[str]
) -> None:
    bus = EventBusInstrumentation(registry=registry, tracer_provider=Spans(sampler=Failing()).provider)
    with LogContext("c-1"):
        context = bus.publishing("created")
    with bus.delivering("created", context):
        assert current_correlation_id() == "c-1"
    assert current_correlation_id() is None
    assert reported == ["EventBusInstrumentation.publishing", "EventBusInstrumentation.delivering"]


def test_a_span_that_cannot_be_told_of_an_error_lets_the_error_pass(
    bus: EventBusInstrumentation, reported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_obs.integrations.event_bus.record_failure", broken)
    with LogContext("own"):
        with pytest.raises(KeyError), bus.delivering("created", {"x-correlation-id": "c-1"}):
            raise KeyError
        assert current_correlation_id() == "own"
    assert reported == ["EventBusInstrumentation.delivering"]


def test_a_gauge_that_fails_does_not_keep_a_subscriber_away(
    bus: EventBusInstrumentation, registry: CollectorRegistry, reported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("prometheus_client.Gauge.inc", broken)
        with bus.subscribed():
            pass
    assert reported == ["EventBusInstrumentation.subscribed"]
    assert subscribers(registry) == 0.0


@pytest.mark.parametrize(
    "options",
    [
        {"system": ""},
        {"system": None},
        {"registry": None},
        {"tracer_provider": 5},
        {"settings": 5},
        {"max_series": 1},
    ],
)
def test_a_wrong_option_is_rejected(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"{next(iter(options))}="):
        EventBusInstrumentation(**{"registry": CollectorRegistry(), **options})


def test_two_processes_look_like_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "set")
    workers = [Worker(tmp_path), Worker(tmp_path)]
    subscriptions = []
    for worker in workers:
        with worker:
            bus = EventBusInstrumentation(registry=worker.registry)
            subscriptions.append(bus.subscribed())
            subscriptions[-1].__enter__()
            with bus.delivering("created", bus.publishing("created")):
                pass

    assert workers[0].scrape("event_bus") == {
        'event_bus_events_published_total{event_type="created"}': 2.0,
        'event_bus_events_delivered_total{event_type="created"}': 2.0,
        "event_bus_subscribers": 2.0,
    }
    subscriptions[0].__exit__(None, None, None)
    assert workers[1].scrape("event_bus_subscribers") == {"event_bus_subscribers": 1.0}
    subscriptions[1].__exit__(None, None, None)


class Bus:
    """Queues within the process."""

    def __init__(self, observed: EventBusInstrumentation) -> None:
        self._observed = observed
        self._queues: list[asyncio.Queue[tuple[str, str, dict[str, str]]]] = []

    async def publish(self, event_type: str, data: str) -> None:
        context = self._observed.publishing(event_type)
        for queue in self._queues:
            await queue.put((event_type, data, context))

    async def subscribe(self, handle: Callable[[str], Any], events: int) -> None:
        queue: asyncio.Queue[tuple[str, str, dict[str, str]]] = asyncio.Queue()
        self._queues.append(queue)
        with self._observed.subscribed():
            for _ in range(events):
                event_type, data, context = await queue.get()
                with self._observed.delivering(event_type, context):
                    await handle(data)


@pytest.mark.parametrize("born", ["in no request", "in a request"])
def test_a_long_lived_subscriber_logs_with_the_id_of_whoever_has_published(
    born: str,
    bus: EventBusInstrumentation,
    registry: CollectorRegistry,
    spans: Spans,
    written: Written,
    counted: Callable[[str], dict[str, float]],
) -> None:
    requests = [f"request-{number}" for number in range(4)]
    events = Bus(bus)
    handlers: list[asyncio.Task[None]] = []

    async def handle(data: str) -> None:
        log.info("handling %s", data)
        await asyncio.sleep(0)  # others publish in between
        log.info("handled %s", data)

    def start() -> None:
        handlers.append(asyncio.ensure_future(events.subscribe(handle, 2 * len(requests))))

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/start":
            start()
        else:
            for part in ("a", "b"):
                await events.publish("created", scope["path"].strip("/") + part)
                await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    app = ExchangeMiddleware(
        CorrelationIdMiddleware(TracingMiddleware(application, tracer_provider=spans.provider)), observers=()
    )

    async def main() -> None:
        if born == "in a request":
            await drive(app, http_scope("/start", headers=[(b"x-correlation-id", b"of-the-start")]))
        else:
            start()
        await asyncio.sleep(0)
        async with anyio.create_task_group() as tasks:
            for request in requests:
                headers = [(b"x-correlation-id", request.encode())]
                tasks.start_soon(drive, app, http_scope(f"/{request}", headers=headers))
        assert subscribers(registry) == 1.0
        await asyncio.wait_for(handlers[0], 10)

    asyncio.run(main())

    told = [(line["message"], line["correlation_id"]) for line in written.lines if line["component"] == "assistant"]
    assert sorted(told) == sorted(
        (f"{verb} {request}{part}", request)
        for request in requests
        for part in "ab"
        for verb in ("handling", "handled")
    )
    traces = {line["message"][-10:-1]: line["trace_id"] for line in written.lines if line["component"] == "assistant"}
    served = {
        attributes_of(span)["correlation_id"]: f"{span.get_span_context().trace_id:032x}"
        for span in spans()
        if span.kind is SpanKind.PRODUCER
    }
    assert traces == served
    assert len(set(served.values())) == len(requests)
    assert counted(DELIVERED) == {"created": 2.0 * len(requests)}
    assert subscribers(registry) == 0.0
