"""Everything that is said about an exchange: its log lines, metrics and spans, and the exchange itself."""

from __future__ import annotations

import io
import json
import logging
import queue
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from typing_extensions import Self

from asgi_obs import Observability, Settings, StructuredLogFormatter
from asgi_obs.exchange import Exchange, ExchangeMiddleware
from asgi_obs.types import ASGIApp, Observer

DEADLINE = 30.0


class Witness(Observer):
    """Observes an application with everything there is; the outermost observer, so its end is the last.

    Args:
        service: Names the service in the settings.
    """

    def __init__(self, service: str = "truth") -> None:
        self.registry = CollectorRegistry()
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.observability = Observability(
            Settings(service_name=service), registry=self.registry, tracer_provider=provider
        )
        self._ended: queue.Queue[Exchange] = queue.Queue()
        self._returned: queue.Queue[Exchange] = queue.Queue()
        self._stream = io.StringIO()
        self._handler = logging.StreamHandler(self._stream)
        self._handler.setFormatter(StructuredLogFormatter(service))

    def __enter__(self) -> Self:
        logging.getLogger("asgi_obs").addHandler(self._handler)
        logging.getLogger("asgi_obs").setLevel(logging.INFO)
        return self

    def __exit__(self, *exc_info: object) -> None:
        logging.getLogger("asgi_obs").removeHandler(self._handler)
        logging.getLogger("asgi_obs").setLevel(logging.NOTSET)

    def wrap(self, app: ASGIApp) -> ASGIApp:
        return ExchangeMiddleware(self.observability.wrap(app), observers=[self])

    def on_end(self, exchange: Exchange) -> None:
        self._ended.put(exchange)

    def on_return(self, exchange: Exchange) -> None:
        self._returned.put(exchange)

    def ended(self) -> Exchange:
        """The next exchange that ended; waits for it."""
        return self._ended.get(timeout=DEADLINE)

    def returned(self) -> Exchange:
        """The next exchange whose application returned; waits for it."""
        return self._returned.get(timeout=DEADLINE)

    def lines(self) -> list[dict[str, Any]]:
        """The log lines so far."""
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]

    def spans(self) -> list[ReadableSpan]:
        """The finished spans so far."""
        return list(self._exporter.get_finished_spans())

    def value(self, name: str, **labels: str) -> float | None:
        """A sample of the registry; None if there is none with exactly these labels."""
        return self.registry.get_sample_value(name, labels)
