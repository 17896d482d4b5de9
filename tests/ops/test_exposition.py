"""Metrics as text: formats, filters, compression, one rendering for many scrapes, and no more than some of those."""

from __future__ import annotations

import gc
import gzip
import threading
from collections.abc import Iterator
from functools import partial
from itertools import product

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from asgi_obs.metrics.process import register_process_metrics
from asgi_obs.ops import exposition as module
from asgi_obs.ops.answer import Answer
from asgi_obs.ops.exposition import MAX_RENDERINGS, Exposition
from asgi_obs.settings import Settings

pytestmark = pytest.mark.anyio

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text"
KINDS = list(product(("", OPENMETRICS), ("", "gzip")))
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
        self.began = threading.Semaphore(0)
        self.open = threading.Event()

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        self.collections += 1
        self.threads.add(threading.get_ident())
        self.began.release()
        self.open.wait(10)
        yield Metric("gate", "A gate.", "gauge")


class Broken:
    """A collector that fails."""

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> list[Metric]:
        raise RuntimeError("no metrics today")


def broken() -> Exposition:
    registry = CollectorRegistry()
    registry.register(Broken())
    return Exposition(registry)


def gated() -> tuple[Gate, Exposition]:
    gate = Gate()
    registry = CollectorRegistry()
    registry.register(gate)
    return gate, Exposition(registry)


async def began(gate: Gate, times: int = 1) -> None:
    for _ in range(times):
        assert await anyio.to_thread.run_sync(partial(gate.began.acquire, timeout=10))


async def settle() -> None:
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


async def test_the_default_is_the_classic_text_format() -> None:
    answer = await Exposition(registry_with_metrics()).answer()
    assert answer.headers == ((b"content-type", TEXT.encode()), (b"vary", b"accept, accept-encoding"))
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


@pytest.mark.parametrize(("accept_encoding", "compressed"), [("deflate, GZIP;q=0.5", True), ("gzip;q=0", False)])
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
    with pytest.raises(RuntimeError, match="no metrics today"):
        await broken().answer()


async def test_more_renderings_than_there_is_room_for_are_refused() -> None:
    gate, exposition = gated()
    statuses = []

    async def scrape(accept: str, accept_encoding: str) -> None:
        statuses.append((await exposition.answer(accept, accept_encoding)).status)

    async with anyio.create_task_group() as tasks:
        for kind in KINDS:
            tasks.start_soon(scrape, *kind)
        await began(gate, len(KINDS))
        for kind in KINDS:
            tasks.start_soon(scrape, *kind)
        await settle()
        refused = await exposition.answer(names=["one_too_many"])
        gate.open.set()
    assert (refused.status, dict(refused.headers)[b"retry-after"]) == (503, b"5")
    assert statuses == 2 * len(KINDS) * [200]
    assert gate.collections == len(KINDS) == MAX_RENDERINGS


async def test_there_is_room_again_when_renderings_have_ended() -> None:
    exposition = Exposition(registry_with_metrics())
    for number in range(2 * MAX_RENDERINGS):
        assert (await exposition.answer(names=[f"name_{number}"])).status == 200


async def test_a_rendering_that_failed_makes_room() -> None:
    exposition = broken()
    for _ in range(2):
        for kind in KINDS:
            with pytest.raises(RuntimeError, match="no metrics today"):
                await exposition.answer(*kind)


async def test_a_rendering_that_hangs_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.05)
    monkeypatch.setattr("asgi_obs.errors._last_logged", {})
    gate, exposition = gated()
    answers = []

    async def scrape() -> None:
        answers.append(await exposition.answer())

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(scrape)
    assert [(answer.status, dict(answer.headers)[b"retry-after"]) for answer in answers] == 3 * [(503, b"5")]
    assert "a collector has not returned within 0.05 seconds" in caplog.text
    gate.open.set()


async def test_nothing_piles_up_behind_a_rendering_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.05)
    gate, exposition = gated()
    for _ in range(5):
        assert (await exposition.answer()).status == 503
    assert await anyio.to_thread.run_sync(partial(gate.began.acquire, timeout=10))
    assert gate.collections == 1
    monkeypatch.undo()
    gate.open.set()
    with anyio.fail_after(10):
        status = 503
        while status == 503:
            status = (await exposition.answer()).status
    assert gate.collections == 2


async def test_another_rendering_goes_on_beside_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.05)
    gate, exposition = gated()
    assert (await exposition.answer()).status == 503
    monkeypatch.undo()
    assert (await exposition.answer(names=["unknown"])).status == 200
    gate.open.set()


async def test_event_loops_share_a_rendering_too() -> None:
    gate, exposition = gated()
    answers = []

    async def scrape() -> None:
        answers.append(await exposition.answer())

    async def scrape_as_well() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scrape)
            await settle()
            gate.open.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scrape)
        await began(gate)
        await anyio.to_thread.run_sync(anyio.run, scrape_as_well)
    assert gate.collections == 1
    assert answers[0] is answers[1]


async def test_metrics_that_others_have_locked_are_a_503(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def locked(registry: CollectorRegistry, pause: object) -> CollectorRegistry:
        raise TimeoutError("another process has the directory locked")

    monkeypatch.setattr(module, "view_of", locked)
    monkeypatch.setattr("asgi_obs.errors._last_logged", {})
    answer = await Exposition(CollectorRegistry()).answer()
    assert (answer.status, dict(answer.headers)[b"retry-after"]) == (503, b"5")
    assert "another process has the directory locked" in caplog.text


async def test_the_metrics_of_the_process_are_those_of_the_scrape() -> None:
    registry = CollectorRegistry()
    register_process_metrics(registry, settings=Settings())
    text = (await Exposition(registry).answer()).body.decode()
    values = {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}
    assert values["process_memory_usage_bytes"] > 0


async def test_a_text_is_not_kept_when_it_was_sent() -> None:
    registry = CollectorRegistry()
    Gauge("forgotten", "Forgotten.", registry=registry)
    exposition = Exposition(registry)
    await exposition.answer()
    with anyio.fail_after(10):
        kept = True
        while kept:  # by the thread, which is about to end
            await anyio.sleep(0.001)
            gc.collect()
            kept = any(isinstance(it, Answer) and b"forgotten" in it.body for it in gc.get_objects())
    assert b"forgotten" in (await exposition.answer()).body
