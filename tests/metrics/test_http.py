import asyncio
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from asgi_obs.errors import ConfigurationError
from asgi_obs.exchange import Exchange, ExchangeMiddleware, current_exchange
from asgi_obs.metrics import MetricsMiddleware
from asgi_obs.testing import drive, http_scope
from asgi_obs.types import ASGIApp, Message, Observer, Receive, Scope, Send
from tests.spans import span_context

Samples = Callable[..., dict[str, float]]

OK: Message = {"type": "http.response.start", "status": 200, "headers": []}
DONE: Message = {"type": "http.response.body", "body": b"ok"}
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


class ItemError(Exception):
    pass


async def show_item(request: Request) -> Response:
    return PlainTextResponse(request.path_params["item_id"])


async def take_item(request: Request) -> Response:
    return JSONResponse({"bytes": len(await request.body())}, status_code=201)


async def fail(request: Request) -> Response:
    raise ItemError("no such luck")


async def stream(request: Request) -> Response:
    return StreamingResponse(iter(["data: a\n\n", "data: b\n\n"]), media_type="text/event-stream")


ROUTES = [
    Route("/items/{item_id}", show_item, methods=["GET"]),
    Route("/items/{item_id}", take_item, methods=["POST"]),
    Route("/fail", fail),
    Route("/stream", stream),
    Route("/slash/", show_item),
    Mount("/t/{tenant}", routes=[Route("/users/{user_id}", fail)]),
]


def an_app(registry: CollectorRegistry, **options: Any) -> ASGIApp:
    return MetricsMiddleware(Starlette(routes=ROUTES), registry=registry, **options)


def request(app: ASGIApp, path: str, method: str = "GET", body: bytes = b"") -> list[Message]:
    incoming: list[Message] = [{"type": "http.request", "body": body}]
    return asyncio.run(drive(app, http_scope(path, method), incoming))


class Set(ExchangeMiddleware, Observer):
    """Sets fields of an exchange before those further out see its end."""

    def __init__(self, app: ASGIApp, **fields: Any) -> None:
        self._fields = fields
        super().__init__(app, observers=(self,))

    def on_end(self, exchange: Exchange) -> None:
        for name in ("ended_at", "first_byte_at"):
            if name in self._fields:
                setattr(exchange, name, exchange.started_at + self._fields[name])

    def on_return(self, exchange: Exchange) -> None:
        if "background" in self._fields:
            assert exchange.ended_at is not None
            exchange.returned_at = exchange.ended_at + self._fields["background"]


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    await send(OK)
    await send(DONE)


def test_a_request_is_counted_by_method_route_and_status(registry: CollectorRegistry, samples: Samples) -> None:
    app = an_app(registry)
    request(app, "/items/3")
    request(app, "/items/4")
    request(app, "/items/4", "POST")
    assert samples("http_requests_total") == {
        'http_requests_total{endpoint="/items/{item_id}",method="GET",status_code="200"}': 2.0,
        'http_requests_total{endpoint="/items/{item_id}",method="POST",status_code="201"}': 1.0,
    }


def test_the_guides_own_check_finds_its_line_when_raw_paths_are_kept(registry: CollectorRegistry) -> None:
    request(an_app(registry, unmatched="path"), "/test-endpoint")
    text = generate_latest(registry).decode()
    assert 'http_requests_total{endpoint="/test-endpoint",method="GET",status_code="404"} 1.0\n' in text


def test_requests_without_a_route_are_grouped(registry: CollectorRegistry, samples: Samples) -> None:
    app = an_app(registry)
    for path in ("/no/such", "/nor/this", "/slash", "/t/acme/nothing"):
        request(app, path)
    request(app, "/items/3", "DELETE")
    request(app, "/items/3", "BREW")
    assert samples("http_requests_total") == {
        'http_requests_total{endpoint="__unmatched__",method="GET",status_code="404"}': 3.0,
        'http_requests_total{endpoint="__redirect__",method="GET",status_code="307"}': 1.0,
        'http_requests_total{endpoint="/items/{item_id}",method="DELETE",status_code="405"}': 1.0,
        'http_requests_total{endpoint="/items/{item_id}",method="_OTHER",status_code="405"}': 1.0,
    }


def test_duration_and_time_to_first_byte_are_those_of_the_exchange(
    registry: CollectorRegistry, samples: Samples
) -> None:
    app = MetricsMiddleware(Set(plain, ended_at=0.3, first_byte_at=0.02), registry=registry)
    asyncio.run(drive(app, http_scope("/")))
    labels = '{endpoint="__unmatched__",method="GET"}'
    assert samples("http_request_duration_seconds", "http_time_to_first_byte") == {
        f"http_request_duration_seconds_count{labels}": 1.0,
        f"http_request_duration_seconds_sum{labels}": pytest.approx(0.3),
        f"http_time_to_first_byte_seconds_count{labels}": 1.0,
        f"http_time_to_first_byte_seconds_sum{labels}": pytest.approx(0.02),
    }


def test_the_buckets_are_the_guides(registry: CollectorRegistry) -> None:
    app = MetricsMiddleware(Set(plain, ended_at=0.3), registry=registry)
    asyncio.run(drive(app, http_scope("/")))
    text = generate_latest(registry).decode()
    prefix = 'http_request_duration_seconds_bucket{endpoint="__unmatched__",'
    buckets = [line for line in text.splitlines() if line.startswith(prefix)]
    bounds = ["0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf"]
    assert buckets == [f'{prefix}le="{bound}",method="GET"}} {0.0 if float(bound) < 0.3 else 1.0}' for bound in bounds]


def test_bodies_are_counted_in_bytes(registry: CollectorRegistry, samples: Samples) -> None:
    app = an_app(registry)
    request(app, "/items/3", "POST", b"x" * 1_000)
    request(app, "/items/3", "POST", b"x" * 500)
    labels = '{endpoint="/items/{item_id}",method="POST"}'
    assert samples("http_request_body", "http_response_body") == {
        f"http_request_body_bytes_total{labels}": 1_500.0,
        f"http_response_body_bytes_total{labels}": float(len('{"bytes":1000}') + len('{"bytes":500}')),
    }


def test_an_exception_is_counted_by_class_and_goes_on_to_the_server(
    registry: CollectorRegistry, samples: Samples
) -> None:
    app = an_app(registry)
    with pytest.raises(ItemError):
        request(app, "/t/acme/users/3")
    labels = 'endpoint="/t/{tenant}/users/{user_id}"'
    name = f"{ItemError.__module__}.ItemError"
    assert samples("http_exceptions", "http_requests_total", "http_client_disc") == {
        f'http_exceptions_total{{{labels},exception="{name}",method="GET"}}': 1.0,
        f'http_requests_total{{{labels},method="GET",status_code="500"}}': 1.0,
    }


@pytest.mark.parametrize("fails", [False, True])
def test_a_client_that_leaves_is_counted_and_is_no_exception(
    registry: CollectorRegistry, samples: Samples, fails: bool
) -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(OK)
        if fails:
            raise OSError("client gone")

    app = MetricsMiddleware(slow, registry=registry)
    try:
        asyncio.run(drive(app, http_scope("/"), [{"type": "http.disconnect"}]))
    except OSError:
        assert fails
    labels = 'endpoint="__unmatched__",method="GET"'
    assert samples("http_client_disc", "http_exceptions", "http_requests_total") == {
        f"http_client_disconnects_total{{{labels}}}": 1.0,
        f'http_requests_total{{{labels},status_code="499"}}': 1.0,
    }


def test_a_request_that_was_never_answered_has_no_first_byte(registry: CollectorRegistry, samples: Samples) -> None:
    async def mute(scope: Scope, receive: Receive, send: Send) -> None:
        return

    asyncio.run(drive(MetricsMiddleware(mute, registry=registry), http_scope("/")))
    assert samples("http_time_to_first_byte", "http_response_body") == {}


def asking(*seconds: float, operational: bool = False) -> ASGIApp:
    """An application that asks a database some times, and answers."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = current_exchange()
        assert exchange is not None
        exchange.route, exchange.operational = scope["path"], operational
        for each in seconds:
            exchange.use_database("0000000000000001", each)
        await send(OK)
        await send(DONE)

    return app


def test_what_a_request_asks_of_databases_is_observed_by_route(registry: CollectorRegistry, samples: Samples) -> None:
    app = MetricsMiddleware(asking(0.25, 0.5), registry=registry)
    request(app, "/x")
    request(app, "/x", "POST")

    labels = {"method": "GET", "endpoint": "/x"}
    assert registry.get_sample_value("http_request_db_queries_sum", labels) == 2
    assert registry.get_sample_value("http_request_db_duration_seconds_sum", labels) == 0.75
    assert len(samples("http_request_db_queries_count")) == len(samples("http_request_db_duration_seconds_count")) == 2


def test_a_request_that_asks_no_database_has_no_series_for_it(registry: CollectorRegistry, samples: Samples) -> None:
    request(MetricsMiddleware(asking(), registry=registry), "/x")

    assert samples("http_request_db_queries_count") == {}


def test_what_an_ops_request_asks_of_databases_is_nobodys(registry: CollectorRegistry, samples: Samples) -> None:
    request(MetricsMiddleware(asking(0.25, operational=True), registry=registry), "/health")

    assert samples("http_request_db_queries_count") == {}


def test_background_tasks_are_timed_apart_from_the_request(registry: CollectorRegistry, samples: Samples) -> None:
    async def with_task(request: Request) -> Response:
        # The task has to take some real time: less than a millisecond is no background task.
        return PlainTextResponse("ok", background=BackgroundTask(time.sleep, 0.002))

    app = MetricsMiddleware(Starlette(routes=[Route("/later", with_task)]), registry=registry)
    request(app, "/later")
    assert samples("http_background_duration_seconds_count") == {
        'http_background_duration_seconds_count{endpoint="/later"}': 1.0
    }


@pytest.mark.parametrize(("seconds", "expected"), [(0.0009, []), (0.6, [0.6])])
def test_unwinding_is_no_background_task(
    registry: CollectorRegistry, samples: Samples, seconds: float, expected: Iterable[float]
) -> None:
    asyncio.run(drive(MetricsMiddleware(Set(plain, background=seconds), registry=registry), http_scope("/")))
    assert list(samples("http_background_duration_seconds_sum").values()) == pytest.approx(list(expected))


def test_a_request_is_active_until_its_response_has_ended(registry: CollectorRegistry) -> None:
    seen: list[float | None] = []

    def look() -> None:
        seen.append(registry.get_sample_value("http_requests_active"))

    async def looks(scope: Scope, receive: Receive, send: Send) -> None:
        look()
        await send(OK)
        look()
        await send(DONE)
        look()

    look()
    app = MetricsMiddleware(looks, registry=registry)
    asyncio.run(drive(app, http_scope("/")))
    assert seen == [None, 1.0, 1.0, 0.0]


def test_an_ops_request_moves_nothing_and_is_no_longer_active(registry: CollectorRegistry, samples: Samples) -> None:
    async def ops(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = current_exchange()
        assert exchange is not None
        exchange.operational = True
        await send({**OK, "headers": [(b"content-type", b"text/event-stream")]})
        await send(DONE)

    app = MetricsMiddleware(Set(ops, background=0.6), registry=registry)
    asyncio.run(drive(app, http_scope("/metrics")))
    assert samples("http_", "sse_") == {"http_requests_active": 0.0, "sse_connections_active": 0.0}


def test_interleaved_requests_do_not_mix(registry: CollectorRegistry, samples: Samples) -> None:
    async def main() -> None:
        first_waits, second_is_done = asyncio.Event(), asyncio.Event()

        async def handler(request: Request) -> Response:
            body = await request.body()
            if request.url.path == "/first/1":
                first_waits.set()
                await second_is_done.wait()
            return PlainTextResponse(body * 2, status_code=200 if request.url.path == "/first/1" else 202)

        routes = [Route("/first/{n}", handler, methods=["POST"]), Route("/second/{n}", handler, methods=["PUT"])]
        app = MetricsMiddleware(Starlette(routes=routes), registry=registry)
        first = asyncio.create_task(
            drive(app, http_scope("/first/1", "POST"), [{"type": "http.request", "body": b"a"}])
        )
        await first_waits.wait()
        await drive(app, http_scope("/second/2", "PUT"), [{"type": "http.request", "body": b"bbbb"}])
        assert registry.get_sample_value("http_requests_active") == 1.0
        second_is_done.set()
        await first

    asyncio.run(main())
    first, second = 'endpoint="/first/{n}",method="POST"', 'endpoint="/second/{n}",method="PUT"'
    assert samples("http_requests", "http_request_body", "http_response_body") == {
        f'http_requests_total{{{first},status_code="200"}}': 1.0,
        f'http_requests_total{{{second},status_code="202"}}': 1.0,
        f"http_request_body_bytes_total{{{first}}}": 1.0,
        f"http_request_body_bytes_total{{{second}}}": 4.0,
        f"http_response_body_bytes_total{{{first}}}": 2.0,
        f"http_response_body_bytes_total{{{second}}}": 8.0,
        "http_requests_active": 0.0,
    }


def test_custom_labels_go_to_request_count_and_duration(registry: CollectorRegistry, samples: Samples) -> None:
    app = an_app(
        registry,
        labels=lambda exchange: {"tier": exchange.path.rpartition("/")[2]},
        label_values={"tier": ["free", "paid"]},
    )
    for path in ("/items/free", "/items/paid", "/items/paid", "/items/vip"):
        request(app, path)
    labels = 'endpoint="/items/{item_id}",method="GET"'
    assert samples("http_requests_total", "http_request_duration_seconds_count") == {
        f'http_requests_total{{{labels},status_code="200",tier="free"}}': 1.0,
        f'http_requests_total{{{labels},status_code="200",tier="paid"}}': 2.0,
        f'http_requests_total{{{labels},status_code="200",tier="__other__"}}': 1.0,
        f'http_request_duration_seconds_count{{{labels},tier="free"}}': 1.0,
        f'http_request_duration_seconds_count{{{labels},tier="paid"}}': 2.0,
        f'http_request_duration_seconds_count{{{labels},tier="__other__"}}': 1.0,
    }


class Traced(ExchangeMiddleware, Observer):
    def __init__(self, app: ASGIApp, sampled: bool) -> None:
        self._sampled = sampled
        super().__init__(app, observers=(self,))

    def on_start(self, exchange: Exchange) -> None:
        exchange.span_context = span_context(TRACE_ID, sampled=self._sampled)


@pytest.mark.parametrize(
    ("exemplars", "sampled", "marked"),
    [
        (True, True, {"http_requests_total", "http_request_duration_seconds_bucket"}),
        (True, False, set()),
        (False, True, set()),
    ],
)
def test_the_trace_id_of_a_sampled_span_is_an_exemplar(
    registry: CollectorRegistry, exemplars: bool, sampled: bool, marked: set[str]
) -> None:
    app = Traced(MetricsMiddleware(plain, registry=registry, exemplars=exemplars), sampled)
    asyncio.run(drive(app, http_scope("/")))
    lines = generate_openmetrics(registry).decode().splitlines()
    assert {line.partition("{")[0] for line in lines if f'# {{trace_id="{TRACE_ID}"}}' in line} == marked


def test_no_requests_make_more_series_than_the_caps(registry: CollectorRegistry, samples: Samples) -> None:
    async def anything(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = current_exchange()
        assert exchange is not None
        exchange.route = scope["path"] if scope["path"].startswith("/1") else None
        await send({**OK, "status": int(scope["path"][1:]) % 1_000 + 200})
        await send(DONE)

    async def main() -> int:
        app = MetricsMiddleware(anything, registry=registry, max_series=50, unmatched="path")
        generator = random.Random(7)  # noqa: S311 - to be the same in every run
        for _ in range(20_000):
            number = generator.randrange(10**9)
            await drive(app, http_scope(f"/{number}", generator.choice(["GET", "POST", f"M{number}"])))
        return len(app._http._known)

    known = asyncio.run(main())
    assert known <= 50
    for family in registry.collect():
        combinations = {
            tuple(value for name, value in sorted(sample.labels.items()) if name != "le") for sample in family.samples
        }
        if family.name.startswith("http"):
            assert len(combinations) <= 50, family.name
    assert sum(samples("http_requests_total").values()) == 20_000.0


def test_hundreds_of_stacks_share_one_registry(registry: CollectorRegistry, samples: Samples) -> None:
    for app in [an_app(registry) for _ in range(300)]:
        request(app, "/items/3")
    assert list(samples("http_requests_total").values()) == [300.0]


def test_an_event_stream_is_counted_as_a_request_but_has_no_latency(
    registry: CollectorRegistry, samples: Samples
) -> None:
    request(an_app(registry), "/stream")
    labels = 'endpoint="/stream",method="GET"'
    assert samples("http_requests_total", "http_request_duration", "http_response_body") == {
        f'http_requests_total{{{labels},status_code="200"}}': 1.0,
        f"http_response_body_bytes_total{{{labels}}}": 18.0,
    }


def test_one_route_may_answer_with_a_stream_or_at_once(registry: CollectorRegistry, samples: Samples) -> None:
    async def either(request: Request) -> Response:
        media_type = "text/event-stream" if request.url.path.endswith("stream") else "application/json"
        return Response(b"data: {}\n\n", media_type=media_type)

    app = MetricsMiddleware(Starlette(routes=[Route("/mcp/{how}", either)]), registry=registry)
    for path in ("/mcp/stream", "/mcp/json", "/mcp/stream"):
        request(app, path)
    assert list(samples("http_requests_total").values()) == [3.0]
    assert list(samples("http_request_duration_seconds_count").values()) == [1.0]


def test_lifespan_and_unknown_scopes_pass_through(registry: CollectorRegistry, samples: Samples) -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    asyncio.run(drive(MetricsMiddleware(app, registry=registry), {"type": "lifespan"}, []))
    assert seen == ["lifespan"]
    assert samples("http_requests_total") == {}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("buckets", "fine"),
        ("unmatched", "raw"),
        ("max_series", 0),
        ("registry", None),
        ("labels", "tier"),
        ("label_values", {"tier": ["a"]}),
    ],
)
def test_a_wrong_option_is_rejected_by_name(option: str, value: Any) -> None:
    options = {"registry": CollectorRegistry(), option: value}
    with pytest.raises(ConfigurationError, match=option):
        MetricsMiddleware(plain, **options)


def test_another_library_with_the_same_metrics_is_said_at_construction(registry: CollectorRegistry) -> None:
    Counter("http_requests_total", "Another.", registry=registry)
    with pytest.raises(ConfigurationError, match="http_requests_total of another library"):
        an_app(registry)


def test_other_buckets_on_one_registry_are_said_at_construction(registry: CollectorRegistry) -> None:
    an_app(registry)
    with pytest.raises(ConfigurationError, match="http_request_duration_seconds has on this registry"):
        an_app(registry, buckets="fast")


def test_the_health_of_the_library_itself_is_shown(registry: CollectorRegistry) -> None:
    an_app(registry)
    text = generate_latest(registry).decode()
    assert "# TYPE asgi_obs_internal_errors_total counter\n" in text
    assert "# TYPE asgi_obs_label_overflow_total counter\n" in text
