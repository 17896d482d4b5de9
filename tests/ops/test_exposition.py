"""Metrics as text: formats, filters, compression, and one rendering for many scrapes."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from asgi_obs.ops.answer import Answer
from asgi_obs.ops.exposition import Exposition

pytestmark = pytest.mark.anyio

TEXT = "text/plain; version=0.0.4; charset=utf-8"
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


def registry_with_metrics() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("orders_total", "Orders.", ["shop"], registry=registry).labels("north").inc(3, {"trace_id": "abc"})
    Histogram("wait_seconds", "Waiting.", registry=registry).observe(0.3)
    Gauge("stock", "Stock.", registry=registry).set(7)
    return registry


def content_type(answer: Answer) -> str:
    return dict(answer.headers)[b"content-type"].decode()


class Gate:
    """A collector whose collections wait until they are let through, and are counted."""

    def __init__(self) -> None:
        self.collections = 0
        self.threads: set[int] = set()
        self.began = threading.Event()
        self.open = threading.Event()

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        self.collections += 1
        self.threads.add(threading.get_ident())
        self.began.set()
        self.open.wait(10)
        yield Metric("gate", "A gate.", "gauge")


def gated() -> tuple[Gate, Exposition]:
    gate = Gate()
    registry = CollectorRegistry()
    registry.register(gate)
    return gate, Exposition(registry)


async def began(gate: Gate) -> None:
    assert await anyio.to_thread.run_sync(gate.began.wait, 10)


async def settle() -> None:
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


async def test_the_default_is_the_classic_text_format() -> None:
    answer = await Exposition(registry_with_metrics()).answer()
    assert answer.headers == ((b"content-type", TEXT.encode()),)
    assert answer.status == 200
    families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
    assert families["orders"].samples[0].value == 3
    assert b"# EOF" not in answer.body


async def test_openmetrics_is_rendered_when_asked_for() -> None:
    answer = await Exposition(registry_with_metrics()).answer("application/openmetrics-text; version=1.0.0")
    assert content_type(answer).startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    families = {family.name: family for family in openmetrics.text_string_to_metric_families(answer.body.decode())}
    sample = families["orders"].samples[0]
    assert (sample.labels, sample.value) == ({"shop": "north"}, 3)
    assert sample.exemplar.labels == {"trace_id": "abc"}


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/*", TEXT),
        ("text/html,application/xhtml+xml,*/*;q=0.8", TEXT),
        ("application/json", TEXT),
        ("text/plain", TEXT),
        ("text/plain;version=0.0.4", TEXT),
        ("application/openmetrics-text", "application/openmetrics-text"),
        (PROMETHEUS_3, "application/openmetrics-text"),
        ("application/openmetrics-text;q=0.1, text/plain;q=0.9", TEXT),
        ("text/plain;q=0.1, application/openmetrics-text;q=0.9", "application/openmetrics-text"),
        ("text/plain, application/openmetrics-text", TEXT),
        ("application/openmetrics-text;q=0, */*", TEXT),
        ("application/openmetrics-text;q=high", TEXT),
        ("application/openmetrics-text;version=0.0.1", TEXT),
        ("application/openmetrics-text;version=abc", TEXT),
        ("application/openmetrics-text;version=9.9.9", TEXT),
        ("application/openmetrics-text;version=1.0.0.\u00ff", TEXT),
        (";;=,,q=", TEXT),
    ],
)
async def test_the_most_wanted_format_that_we_have_is_chosen(accept: str, expected: str) -> None:
    assert content_type(await Exposition(CollectorRegistry()).answer(accept)).startswith(expected)


@pytest.mark.parametrize(
    ("accept_encoding", "compressed"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("br", False),
        ("", False),
        ("gzip;q=0", False),
        ("gzip;q=0.0, *", False),
        ("identity", False),
    ],
)
async def test_the_body_is_compressed_when_the_scraper_takes_gzip(accept_encoding: str, compressed: bool) -> None:
    exposition = Exposition(registry_with_metrics())
    plain = await exposition.answer()
    answer = await exposition.answer(accept_encoding=accept_encoding)
    assert (dict(answer.headers).get(b"content-encoding") == b"gzip") is compressed
    assert (gzip.decompress(answer.body) if compressed else answer.body) == plain.body


async def test_compressed_openmetrics_parses_back() -> None:
    answer = await Exposition(registry_with_metrics()).answer(PROMETHEUS_3, "gzip")
    text = gzip.decompress(answer.body).decode()
    assert {family.name for family in openmetrics.text_string_to_metric_families(text)} == {
        "orders",
        "wait_seconds",
        "stock",
    }


async def test_names_select_the_samples() -> None:
    answer = await Exposition(registry_with_metrics()).answer(names=["stock", "wait_seconds_count", "unknown"])
    samples = {
        sample.name for family in text_string_to_metric_families(answer.body.decode()) for sample in family.samples
    }
    assert samples == {"stock", "wait_seconds_count"}


async def test_names_that_nothing_has_select_nothing() -> None:
    assert (await Exposition(registry_with_metrics()).answer(names=["unknown"])).body == b""


async def test_it_is_rendered_off_the_event_loop() -> None:
    gate, exposition = gated()
    gate.open.set()
    await exposition.answer()
    assert threading.get_ident() not in gate.threads


async def test_fifty_scrapes_at_once_render_once() -> None:
    gate, exposition = gated()
    answers = []

    async def scrape() -> None:
        answers.append(await exposition.answer("*/*", "gzip"))

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(scrape)
        await began(gate)
        await settle()
        gate.open.set()
    assert gate.collections == 1
    assert len(answers) == 50
    assert all(answer is answers[0] for answer in answers)


async def test_scrapes_that_ask_for_different_things_share_nothing() -> None:
    gate, exposition = gated()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exposition.answer, "text/plain")
        tasks.start_soon(exposition.answer, "application/openmetrics-text")
        await began(gate)
        await settle()
        gate.open.set()
    assert gate.collections == 2


async def test_a_scrape_that_comes_later_is_rendered_anew() -> None:
    registry = registry_with_metrics()
    stock = Gauge("more", "More.", registry=registry)
    exposition = Exposition(registry)
    await exposition.answer()
    stock.set(11)
    assert b"more 11.0" in (await exposition.answer()).body


async def test_a_scraper_that_gives_up_takes_none_along() -> None:
    gate, exposition = gated()
    answers = []
    impatient = anyio.CancelScope()

    async def give_up() -> None:
        with impatient:
            await exposition.answer()

    async def scrape() -> None:
        answers.append(await exposition.answer())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(give_up)
        await began(gate)
        for _ in range(3):
            tasks.start_soon(scrape)
        await settle()
        impatient.cancel()
        await settle()
        gate.open.set()
    assert impatient.cancelled_caught
    assert len(answers) == 3


async def test_a_collector_that_fails_fails_the_scrape() -> None:
    class Broken:
        def collect(self) -> Iterator[Metric]:
            raise RuntimeError("no metrics today")

    registry = CollectorRegistry()
    registry.register(Broken())
    with pytest.raises(RuntimeError, match="no metrics today"):
        await Exposition(registry).answer()


@given(accept=st.text(alphabet="aplictonex/-.*;=,q01 \u00ff", max_size=80), encoding=st.text(max_size=40))
def test_no_header_breaks_a_scrape(accept: str, encoding: str) -> None:
    answer = anyio.run(Exposition(CollectorRegistry()).answer, accept, encoding)
    assert content_type(answer).startswith(("text/plain; version=", "application/openmetrics-text; version=1.0.0"))
