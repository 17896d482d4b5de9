"""One service as a process: `python -m examples.cortex.serve api|memory|cognition`, started by `demo/processes.py`.

This is what a deployment adds to an application: logging to standard output, and tracing. A deployment calls
`asgi_obs.setup_tracing()` for that, which sends spans to a collector; there is none here, and so they go to a file of
one JSON object per span. Database and spans are in its working directory. It ends with SIGTERM, and when its standard
input does: then whoever has started it is gone.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path
from threading import Thread

import uvicorn
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

from asgi_obs import Settings, get_logger, setup_logging

SERVICES = ("api", "memory", "cognition")


def spans_file(service: str) -> str:
    """The name of the file that the spans of a service go to."""
    return f"{service}.spans.jsonl"


def serve(service: str, listening: socket.socket) -> None:
    """Serve until a signal comes.

    Args:
        service: One of `SERVICES`.
        listening: The socket to accept connections from.
    """
    settings = Settings()
    setup_logging(settings=settings)
    get_logger("examples.cortex.serve").info(
        "%s starts", settings.service_name, extra={"settings": str(settings).splitlines()}
    )
    with Path(spans_file(service)).open("w") as spans:
        provider = TracerProvider(resource=Resource.create({"service.name": settings.service_name}))
        exporter = ConsoleSpanExporter(out=spans, formatter=lambda span: span.to_json(indent=None) + "\n")
        provider.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        app = import_module(f"examples.cortex.{service}.app").create_app()
        config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=3)
        try:
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            provider.shutdown()  # writes the last spans


def _end_with_standard_input() -> None:
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("service", choices=SERVICES)
    parser.add_argument("--fd", type=int, required=True, help="the file descriptor of the listening socket")
    parser.add_argument("--directory", type=Path, required=True, help="the working directory")
    arguments = parser.parse_args()
    os.chdir(arguments.directory)
    # When uvicorn has ended it sends itself the signal again, which would be the end without this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    Thread(target=_end_with_standard_input, daemon=True).start()
    serve(arguments.service, socket.socket(fileno=arguments.fd))
