"""Programs that log, to be run, killed and left without a reader: `python -m tests.e2e.log_writer <program> ...`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from asgi_obs import RequestLoggingMiddleware, Settings, StructuredLogFormatter
from asgi_obs.logs.files import FileHandler
from asgi_obs.logs.handlers import LineHandler
from asgi_obs.logs.stdout import StdoutHandler
from asgi_obs.metrics.catalogue import process_wide

log = logging.getLogger("writer")


def set_up(handler: LineHandler) -> LineHandler:
    handler.setFormatter(StructuredLogFormatter(settings=Settings(service_name="writer", environment="production")))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    return handler


def total(name: str) -> int:
    samples = (sample for family in process_wide(name).collect() for sample in family.samples)
    return int(sum(sample.value for sample in samples if sample.name == name))


def say_totals() -> None:
    """On standard error: the records that were logged, and those of them that were dropped."""
    print(total("log_records_total"), total("log_records_dropped_total"), file=sys.stderr, flush=True)  # noqa: T201


def write_file(path: str, worker: str, parts: str, lines: str) -> None:
    """So many parts, with a byte behind each one; for each but the first, a byte is awaited."""
    set_up(FileHandler(path))
    for part in range(int(parts)):
        for number in range(int(lines)):
            extra = {"worker": int(worker), "part": part, "number": number}
            log.info("a line of some length, as lines are", extra=extra)
        os.write(sys.stdout.fileno(), b".")
        if part:
            sys.stdin.buffer.read(1)


def acknowledge(path: str) -> None:
    """Say the number of each line, for ever, when the call that logs it has returned."""
    set_up(FileHandler(path))
    number = 0
    while True:
        number += 1
        log.info("hello", extra={"number": number})
        os.write(sys.stdout.fileno(), b"%d\n" % number)


def write_stdout(queue_size: str, lines: str) -> None:
    handler = set_up(StdoutHandler(int(queue_size)))
    for number in range(int(lines)):
        log.info("hello", extra={"number": number})
    handler.flush()
    say_totals()


def write_stdout_in_steps(lines: str) -> None:
    """So many lines for each byte of standard input."""
    set_up(StdoutHandler())
    while sys.stdin.buffer.read(1):
        for number in range(int(lines)):
            log.info("hello", extra={"number": number})
        say_totals()


def write_full_disk(lines: str) -> None:
    set_up(FileHandler("/dev/full"))
    for number in range(int(lines)):
        log.info("hello", extra={"number": number})
    say_totals()


def fork(children: str, lines: str) -> None:
    set_up(StdoutHandler(100_000))

    def write() -> None:
        for number in range(int(lines)):
            log.info("hello", extra={"number": number})

    write()
    for _ in range(int(children)):
        if os.fork() == 0:
            write()
            return
    write()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


async def hello(request: Request) -> Response:
    log.info("handled", extra={"number": int(request.query_params.get("number", 0))})
    return PlainTextResponse("hello")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    yield
    log.info("the very last line")


def build() -> RequestLoggingMiddleware:
    return RequestLoggingMiddleware(Starlette(routes=[Route("/", hello)], lifespan=lifespan))


def build_and_set_up() -> RequestLoggingMiddleware:
    set_up(StdoutHandler(10_000))
    return build()


def serve_after(fd: str) -> None:
    """Logging is set up before the server takes over the signals."""
    set_up(StdoutHandler(10_000))
    uvicorn.run(build(), fd=int(fd), log_config=None)


def serve_around(fd: str) -> None:
    """Logging is set up by the module of the application, which the server imports."""
    uvicorn.run("tests.e2e.log_writer:build_and_set_up", factory=True, fd=int(fd), log_config=None)


def serve(fd: str, queue_size: str) -> None:
    """Ends when it is told to, and says its totals."""
    handler = set_up(StdoutHandler(int(queue_size)))
    server = uvicorn.Server(uvicorn.Config(build_with_stop(lambda: server), fd=int(fd), log_config=None))
    asyncio.run(server.serve())
    handler.flush()
    say_totals()


def build_with_stop(server):  # type: ignore[no-untyped-def]
    async def stop(request: Request) -> Response:
        server().should_exit = True
        return PlainTextResponse("bye")

    return RequestLoggingMiddleware(Starlette(routes=[Route("/", hello), Route("/stop", stop)]))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
