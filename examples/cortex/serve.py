"""The server process: `python -m examples.cortex.serve`, started by `server.py`.

It writes its log to standard output and its spans, one JSON object per line, to a file. It knows its users from
`CORTEX_USERS` (a JSON object from token to name), and all that asgi_obs wants to know from its own variables.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
from pathlib import Path

import uvicorn
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from asgi_obs import Observability, Settings, get_logger, setup_logging
from examples.cortex.api import create_app

USERS = "CORTEX_USERS"
DATABASE_FILE = "cortex.db"
SPANS_FILE = "spans.jsonl"


def serve(listening: socket.socket, directory: Path) -> None:
    """Serve until a signal comes.

    Args:
        listening: The socket to accept connections from.
        directory: Where the database and the spans are kept.
    """
    settings = Settings()
    setup_logging(settings=settings)
    logging.getLogger("sqlalchemy.engine").setLevel(logging.INFO)
    get_logger(__name__).info("cortex starts", extra={"settings": str(settings).splitlines()})
    with (directory / SPANS_FILE).open("w") as spans:
        provider = TracerProvider(resource=Resource.create({"service.name": settings.service_name}))
        exporter = ConsoleSpanExporter(out=spans, formatter=lambda span: span.to_json(indent=None) + "\n")
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        app = create_app(
            f"sqlite+aiosqlite:///{directory / DATABASE_FILE}",
            json.loads(os.environ[USERS]),
            Observability(settings, tracer_provider=provider),
            provider.get_tracer("cortex"),
        )
        config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=3)
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the file descriptor of the listening socket")
    parser.add_argument("--directory", type=Path, required=True, help="where database and spans are kept")
    arguments = parser.parse_args()
    serve(socket.socket(fileno=arguments.fd), arguments.directory)
