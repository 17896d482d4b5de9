from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, propagate, trace
from opentelemetry import context as otel_context
from opentelemetry.context import _SUPPRESS_HTTP_INSTRUMENTATION_KEY, _SUPPRESS_INSTRUMENTATION_KEY
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry

from asgi_obs import LogContext, Settings, errors
from asgi_obs.errors import ConfigurationError
from asgi_obs.integrations.http_client import LOGGER, Call, Calls
from asgi_obs.metrics.labels import OVERFLOW, family
from tests.integrations.http_servers import Seen, traceparent


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def debug() -> Iterator[None]:
    logger = logging.getLogger(LOGGER)
    logger.setLevel(logging.DEBUG)
    yield
    logger.setLevel(logging.NOTSET)


def start(calls: Calls, url: str = "https://api.example.com/items", method: str = "GET", **more: Any) -> Call:
    parsed = httpx.URL(url)
    return calls.start(method, parsed, parsed.raw_host.decode(), httpx.Headers(more.pop("headers", {})), **more)


def test_a_call_is_a_client_span_of_the_stable_conventions(seen: Seen) -> None:
    start(Calls(**seen.options), "https://api.example.com/items?limit=2").succeeded(200, "1.1")

    assert (seen.span.name, seen.span.kind, seen.span.status.status_code) == ("GET", SpanKind.CLIENT, StatusCode.UNSET)
    assert seen.attributes == {
        "http.request.method": "GET",
        "server.address": "api.example.com",
        "server.port": 443,
        "url.full": "https://api.example.com/items?limit=2",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
    }


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_a_status_of_400_and_above_is_an_error_of_the_call(seen: Seen, status: int) -> None:
    start(Calls(**seen.options)).succeeded(status)

    assert (seen.span.status.status_code, seen.attributes["error.type"]) == (StatusCode.ERROR, str(status))
    assert seen.attributes["http.response.status_code"] == status


def test_an_exception_is_the_error_of_the_call_and_is_not_recorded_a_second_time(seen: Seen) -> None:
    start(Calls(**seen.options)).failed(httpx.ConnectTimeout("slow"))

    assert (seen.span.status.status_code, seen.attributes["error.type"]) == (StatusCode.ERROR, "httpx.ConnectTimeout")
    assert "http.response.status_code" not in seen.attributes
    assert list(seen.span.events) == []


def test_an_unknown_method_keeps_its_name_in_an_attribute_only(seen: Seen) -> None:
    start(Calls(**seen.options), method="BREW").succeeded(200)

    assert seen.span.name == "HTTP"
    assert (seen.attributes["http.request.method"], seen.attributes["http.request.method_original"]) == (
        "_OTHER",
        "BREW",
    )
    assert seen.counts == {("_OTHER", "api.example.com", "200"): 1}


def test_which_methods_are_known_can_be_said(seen: Seen) -> None:
    start(Calls(**seen.options, settings=Settings(known_methods="GET,BREW")), method="BREW").succeeded(200)

    assert (seen.span.name, seen.attributes["http.request.method"]) == ("BREW", "BREW")


def test_the_span_is_current_until_the_call_ends(seen: Seen) -> None:
    before = otel_context.get_current()
    call = start(Calls(**seen.options))
    inside = trace.get_current_span().get_span_context()
    call.succeeded(200)

    assert inside == seen.span.context
    assert otel_context.get_current() is before


def test_the_span_lasts_as_long_as_the_metric_says(seen: Seen) -> None:
    start(Calls(**seen.options)).succeeded(200)

    lasted = ((seen.span.end_time or 0) - (seen.span.start_time or 0)) / 1e9
    [total] = [
        sample.value
        for metric in seen.registry.collect()
        for sample in metric.samples
        if sample.name == "http_client_request_duration_seconds_sum"
    ]
    assert lasted == pytest.approx(total, abs=1e-8)


def test_trace_and_correlation_id_are_to_be_sent(seen: Seen) -> None:
    with LogContext("c-1"):
        call = start(Calls(**seen.options))
    call.succeeded(200)

    assert call.headers == {"traceparent": traceparent(seen.span.context), "X-Correlation-ID": "c-1"}


def test_without_a_correlation_id_none_is_made_up(seen: Seen) -> None:
    call = start(Calls(**seen.options))
    call.succeeded(200)

    assert [*call.headers] == ["traceparent"]


def test_a_correlation_id_that_the_caller_has_set_is_left_alone_and_a_trace_is_not(seen: Seen) -> None:
    with LogContext("c-1"):
        call = start(Calls(**seen.options), headers={"x-correlation-id": "mine", "traceparent": "mine"})
    call.succeeded(200)

    assert [*call.headers] == ["traceparent"]


def test_the_header_of_the_correlation_id_may_have_another_name(seen: Seen) -> None:
    with LogContext("c-1"):
        call = start(Calls(**seen.options, correlation_header="X-Request-ID"), headers={"x-correlation-id": "mine"})
    call.succeeded(200)

    assert call.headers["X-Request-ID"] == "c-1"


@pytest.mark.parametrize(
    ("patterns", "url", "expected"),
    [
        (None, "https://any.where/", True),
        ([], "https://api.example.com/", False),
        (["api.example.com"], "https://api.example.com/", True),
        (["API.example.com"], "https://api.EXAMPLE.com:8443/", True),
        (["api.example.com"], "https://api.example.com.evil.test/", False),
        (["api.example.com"], "https://evil-api.example.com/", False),
        (["api.example.com"], "https://api.example.com@evil.test/", False),
        (["*.internal"], "http://orders.internal/", True),
        (["*.internal"], "http://a.b.internal:81/", True),
        (["*.internal"], "http://internal/", False),
        (["*.internal"], "http://notinternal/", False),
        (["*.internal:81"], "http://a.internal:81/", True),
        (["*.internal:81"], "http://a.internal/", False),
        (["localhost:8080"], "http://localhost:8080/", True),
        (["localhost:8080"], "http://localhost:8081/", False),
        (["localhost:80"], "http://localhost/", True),
        (["localhost:443"], "https://localhost/", True),
        (["[::1]:8080"], "http://[::1]:8080/", True),
        (["[::1]"], "http://[::1]:9/", True),
        (["*"], "http://any.where/", True),
        ({"a.test", "b.test"}, "http://b.test/", True),
        (lambda host: host == "b.test", "http://B.test:81/", True),
        (lambda host: host == "::1", "http://[::1]:81/", True),
        (lambda host: host == "b.test", "http://a.test/", False),
    ],
)
def test_only_hosts_that_are_allowed_get_anything(seen: Seen, patterns: Any, url: str, expected: bool) -> None:
    with LogContext("c-1"):
        call = start(Calls(**seen.options, propagate_to=patterns), url)
    call.succeeded(200)

    assert bool(call.headers) is expected
    assert len(seen.spans) == 1


@given(host=st.from_regex(r"[a-z0-9-]{0,20}(\.[a-z0-9-]{1,10}){0,4}\.?", fullmatch=True), port=st.integers(1, 65535))
def test_no_host_but_those_below_a_pattern_is_allowed(host: str, port: int) -> None:
    calls = Calls(propagate_to=["*.shop.internal", "api.test"], registry=CollectorRegistry())

    with LogContext("c-1"):
        call = calls.start("GET", httpx.URL(f"http://any:{port}/"), host, {})
    call.succeeded(200)

    assert ("X-Correlation-ID" in call.headers) is (host == "api.test" or host[-14:] == ".shop.internal")


def test_a_rule_that_fails_allows_nothing(seen: Seen, reported: list[str]) -> None:
    def rule(host: str) -> bool:
        raise LookupError

    call = start(Calls(**seen.options, propagate_to=rule))
    call.succeeded(200)

    assert (call.headers, reported, len(seen.spans)) == ({}, ["http_client.propagate_to"], 1)


def test_of_the_baggage_goes_out_what_is_allowed(seen: Seen) -> None:
    token = otel_context.attach(baggage.set_baggage("tenant", "acme", baggage.set_baggage("card", "4111")))
    try:
        calls = [
            start(Calls(**seen.options)),
            start(Calls(**seen.options, baggage=["tenant"])),
            start(Calls(**seen.options, baggage=["tenant"], propagate_to=["other.test"])),
        ]
        for call in reversed(calls):
            call.succeeded(200)
    finally:
        otel_context.detach(token)

    assert [call.headers.get("baggage") for call in calls] == [None, "tenant=acme", None]


def test_a_call_that_another_instrumentation_traces_gets_no_span_and_only_the_correlation_id(seen: Seen) -> None:
    with LogContext("c-1"), trace.use_span(trace.NonRecordingSpan(trace.SpanContext(0xA, 0xB, is_remote=True))):
        call = start(Calls(**seen.options), traced=True)
        call.succeeded(200)

    assert (call.headers, seen.spans) == ({"X-Correlation-ID": "c-1"}, [])
    assert seen.counts == {("GET", "api.example.com", "200"): 1}


@pytest.mark.parametrize("key", [_SUPPRESS_INSTRUMENTATION_KEY, _SUPPRESS_HTTP_INSTRUMENTATION_KEY])
def test_there_is_no_span_where_spans_are_unwanted(seen: Seen, key: str) -> None:
    token = otel_context.attach(otel_context.set_value(key, True))
    try:
        start(Calls(**seen.options)).succeeded(200)
    finally:
        otel_context.detach(token)

    assert seen.spans == []


def test_a_span_that_is_not_recorded_goes_along_and_costs_no_attributes() -> None:
    seen = Seen(sampler=ALWAYS_OFF)

    class Url:
        scheme, port = "http", None

        def __str__(self) -> str:
            raise AssertionError  # pragma: no cover - nobody needs the text

    call = Calls(**seen.options).start("GET", Url(), "api.test", {})
    inside = trace.get_current_span()
    call.succeeded(200)

    assert (inside.is_recording(), seen.spans) == (False, [])
    assert call.headers == {"traceparent": traceparent(inside.get_span_context())}


def test_without_an_sdk_the_trace_that_is_current_goes_along() -> None:
    before = otel_context.get_current()
    parent = trace.NonRecordingSpan(trace.SpanContext(0xA, 0xB, is_remote=True, trace_flags=trace.TraceFlags(1)))
    calls = Calls(tracer_provider=trace.NoOpTracerProvider(), registry=CollectorRegistry())
    alone = start(calls)
    alone.succeeded(200)
    token = otel_context.attach(trace.set_span_in_context(parent))
    below = start(calls)
    below.succeeded(200)
    otel_context.detach(token)

    assert (alone.headers, below.headers) == ({}, {"traceparent": f"00-{0xA:032x}-{0xB:016x}-01"})
    assert otel_context.get_current() is before


def test_a_value_that_no_header_can_have_is_not_sent(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(TextMapPropagator):
        fields = frozenset[str]()  # type: ignore[assignment]

        def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Any:
            raise AssertionError  # pragma: no cover - nothing comes in here

        def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
            carrier.update({"b3": "1", "x-user": "J\u00f6rg", "x-split": "a\r\nCookie: b"})

    monkeypatch.setattr(propagate, "_HTTP_TEXT_FORMAT", Odd())
    call = start(Calls(**seen.options))
    call.succeeded(200)

    assert call.headers == {"b3": "1"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://ann:hunter2@api.test/a?b=c", "https://api.test/a?b=c"),
        ("https://ann@api.test/a@b?c=d@e", "https://api.test/a@b?c=d@e"),
        ("https://api.test/?access_token=hunter2&a=1", "https://api.test/?access_token=******&a=1"),
        ("https://api.test/?sig=hunter2&Signature=hunter2", "https://api.test/?sig=REDACTED&Signature=REDACTED"),
        ("https://api.test/?AWSAccessKeyId=hunter2", "https://api.test/?AWSAccessKeyId=REDACTED"),
        ("https://api.test/?a=1&X-Goog-Signature=hunter2#top", "https://api.test/?a=1&X-Goog-Signature=REDACTED"),
        ("https://api.test/?design=1&SIG=2", "https://api.test/?design=1&SIG=******"),
        ("https://api.test/a#token=hunter2", "https://api.test/a#token=******"),
    ],
)
def test_secrets_in_a_url_are_redacted(
    seen: Seen, debug: None, written: Any, url: str, expected: str, settings: Settings
) -> None:
    start(Calls(**seen.options, settings=settings), url).succeeded(200)

    assert (seen.attributes["url.full"], written.line["url"]) == (expected, expected)
    assert "hunter2" not in written.stream.getvalue()


@pytest.fixture
def settings() -> Settings:
    return Settings(sensitive_fields=("password", "token", "secret"))


def test_the_settings_say_what_is_secret(seen: Seen) -> None:
    start(Calls(**seen.options, settings=Settings(sensitive_fields=("iban",))), "http://a.test/?iban=DE89").succeeded(
        200
    )

    assert seen.attributes["url.full"] == "http://a.test/?iban=******"


def test_the_line_of_a_call_is_at_debug(seen: Seen, debug: None, written: Any) -> None:
    with LogContext("c-1"):
        start(Calls(**seen.options), "https://api.example.com/items?limit=2").succeeded(503)

    line = written.line
    assert (line["level"], line["component"], line["message"]) == (
        "DEBUG",
        "asgi_obs.client",
        "GET https://api.example.com/items 503",
    )
    assert (line["method"], line["url"], line["status_code"]) == ("GET", "https://api.example.com/items?limit=2", 503)
    assert line["duration_ms"] >= 0
    assert (line["correlation_id"], line["span_id"]) == ("c-1", f"{seen.span.context.span_id:016x}")


def test_the_line_of_a_failure_is_a_warning(seen: Seen, written: Any) -> None:
    start(Calls(**seen.options), "https://api.example.com/items?limit=2#top").failed(
        httpx.ConnectError("refused, password=hunter2")
    )

    line = written.line
    assert (line["level"], line["message"]) == ("WARN", "GET https://api.example.com/items failed: httpx.ConnectError")
    assert line["error"] == {"type": "httpx.ConnectError", "message": "refused, password=******"}
    assert "status_code" not in line


def test_nothing_is_written_where_the_level_is_off(seen: Seen, written: Any) -> None:
    start(Calls(**seen.options)).succeeded(500)

    assert written.lines == []


def test_calls_are_counted_by_host_and_timed(seen: Seen) -> None:
    calls = Calls(**seen.options)
    for url in ("http://A.test/1", "http://a.test:80/2", "https://a.test", "http://a.test:8080/", "http://[::1]:81/"):
        start(calls, url).succeeded(200)
    start(calls, "http://a.test/", "POST").failed(httpx.ReadTimeout(""))

    assert seen.counts == {
        ("GET", "a.test", "200"): 3,
        ("GET", "a.test:8080", "200"): 1,
        ("GET", "[::1]:81", "200"): 1,
        ("POST", "a.test", "ReadTimeout"): 1,
    }
    assert seen.durations == {
        ("GET", "a.test"): 3,
        ("GET", "a.test:8080"): 1,
        ("GET", "[::1]:81"): 1,
        ("POST", "a.test"): 1,
    }


def test_a_host_is_in_lower_case_whatever_the_library_says(seen: Seen) -> None:
    call = Calls(**seen.options, propagate_to=["a.test"]).start("GET", httpx.URL("http://a.test/"), "A.Test", {})
    call.succeeded(200)

    assert (seen.attributes["server.address"], [*call.headers]) == ("a.test", ["traceparent"])
    assert seen.counts == {("GET", "a.test", "200"): 1}


def test_a_url_without_a_host_has_a_label_all_the_same(seen: Seen) -> None:
    start(Calls(**seen.options), "/items").failed(httpx.UnsupportedProtocol(""))

    assert seen.counts == {("GET", "__other__", "UnsupportedProtocol"): 1}


def test_the_hosts_past_the_cap_are_folded(seen: Seen) -> None:
    for name in ("http_client_requests_total", "http_client_request_duration_seconds"):
        family(name, seen.registry, max_series=10)
    calls = Calls(**seen.options)

    for number in range(40):
        start(calls, f"http://h{number}.test/").succeeded(200)

    assert (len(seen.counts), len(seen.durations)) == (9, 9)
    assert seen.counts["GET", OVERFLOW, "200"] == seen.durations["GET", OVERFLOW] == 32


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("propagate_to", "api.example.com", "host patterns"),
        ("propagate_to", 7, "host patterns"),
        ("propagate_to", [7], "host patterns"),
        ("propagate_to", ["https://api.example.com"], "host patterns"),
        ("propagate_to", ["api.example.com/path"], "host patterns"),
        ("propagate_to", ["api.*.com"], "host patterns"),
        ("propagate_to", ["::1"], "host patterns"),
        ("propagate_to", [""], "host patterns"),
        ("baggage", "tenant", "names of baggage entries"),
        ("baggage", None, "names of baggage entries"),
        ("tracer_provider", object(), "TracerProvider"),
        ("registry", object(), "CollectorRegistry"),
        ("settings", {}, "Settings"),
        ("correlation_header", "X Y", "header name"),
        ("correlation_header", None, "header name"),
    ],
)
def test_a_wrong_option_is_refused(seen: Seen, option: str, value: Any, allowed: str) -> None:
    with pytest.raises(ConfigurationError, match=allowed) as caught:
        Calls(**{**seen.options, option: value})

    assert caught.value.option == option


def test_a_call_that_cannot_be_started_goes_out_all_the_same(
    seen: Seen, reported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "_last_logged", {})
    before = otel_context.get_current()

    call = Calls(**seen.options).start("GET", object(), "api.test", {})
    call.succeeded(200)

    assert (call.headers, reported) == ({}, ["http_client.Calls.start"])
    assert seen.counts == {("GET", "__other__", "200"): 1}
    assert otel_context.get_current() is before


def test_a_call_whose_end_fails_leaves_the_context_as_it_was(reported: list[str]) -> None:
    class Broken(SpanProcessor):
        def on_end(self, span: Any) -> None:
            raise OSError

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Broken())
    before = otel_context.get_current()

    start(Calls(tracer_provider=provider, registry=CollectorRegistry())).succeeded(200)

    assert reported == ["http_client.Call.end"]
    assert otel_context.get_current() is before


@pytest.mark.usefixtures("debug")
def test_a_call_that_is_cancelled_has_not_failed(seen: Seen, caplog: pytest.LogCaptureFixture) -> None:
    start(Calls(**seen.options)).failed(asyncio.CancelledError())

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("DEBUG", "GET https://api.example.com/items cancelled: asyncio.exceptions.CancelledError")
    ]


@pytest.mark.parametrize("pattern", ["bücher.example", "api.example.com:99999"])
def test_a_host_that_can_never_be_asked_for_is_refused(seen: Seen, pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="propagate_to"):
        Calls(**seen.options, propagate_to=[pattern])
