"""Starts Cortex, drives it, and tells the story of one request; or serves until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from examples.cortex.display import show
from examples.cortex.driver import Driver, progress_bar
from examples.cortex.server import Server, ServerError
from examples.cortex.story import Story, missing, tell

WIDTH = 120
"""Columns where the output is no terminal."""


def main() -> int:
    """Run the demo.

    Returns:
        The exit code: 1 if a part of the story is missing, or the server did not start.
    """
    parser = argparse.ArgumentParser(prog="python -m examples.cortex", description=__doc__)
    parser.add_argument("--serve", action="store_true", help="serve until Ctrl-C instead, and print the URLs")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to drive it (default 5)")
    parser.add_argument("--port", type=int, default=0, help="the port to listen on (default: a free one)")
    arguments = parser.parse_args()
    # However it is told to end, the server is ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    with tempfile.TemporaryDirectory(prefix="cortex-") as directory:
        try:
            if arguments.serve:
                return serve(Path(directory), arguments.port, console)
            return demonstrate(Path(directory), arguments.port, arguments.seconds, console)
        except ServerError as error:
            console.print(str(error), style="red", markup=False)
            return 1


def demonstrate(directory: Path, port: int, seconds: float, console: Console) -> int:
    """Drive the service for some seconds and print the story of one request."""
    with Server(directory, port=port) as server:
        console.print(f"cortex serves on {server.url}, with a database on disk and a log of JSON lines")
        driver = Driver(server.url, server.token)
        story, lasted = asyncio.run(_drive(server, driver, seconds, console))
    return conclude(story, lasted, console)


def conclude(story: Story, seconds: float, console: Console) -> int:
    """Print a story and name what is missing; the exit code is 1 if anything is."""
    show(story, seconds, console)
    absent = missing(story)
    for name in absent:
        console.print(f"missing: {name}", style="bold red", markup=False)
    return 1 if absent else 0


async def _drive(server: Server, driver: Driver, seconds: float, console: Console) -> tuple[Story, float]:
    with progress_bar(console) as progress:
        lasted = await driver.run(seconds, progress)
    return await tell(server, driver), lasted


def serve(directory: Path, port: int, console: Console) -> int:
    """Serve until Ctrl-C, the log on this terminal."""
    with Server(directory, port=port, captured=False) as server:
        for path in ("/docs", "/metrics", "/health", "/health/ready", "/health/live"):
            console.print(f"{server.url}{path}")
        console.print(f"curl -H 'Authorization: Bearer {server.token}' {server.url}/api/workspaces", soft_wrap=True)
        console.print("Ctrl-C ends it")
        try:
            return server.wait()
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(main())
