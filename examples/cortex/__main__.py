"""Starts the three services of Cortex, drives them, and tells the story of one request; or serves until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from examples.cortex.demo.display import show
from examples.cortex.demo.driver import Driver, progress_bar
from examples.cortex.demo.parts import missing
from examples.cortex.demo.processes import NAMES, Processes, ServiceError
from examples.cortex.demo.story import Story
from examples.cortex.demo.telling import tell

WIDTH = 120
"""Columns where the output is no terminal."""

CURL = "curl -s --noproxy 127.0.0.1 -H 'Content-Type: application/json'"

RESTARTED_AFTER = 1.0
"""Seconds for which a service that has ended is missed by the others."""


def main() -> int:
    """Run the demo.

    Returns:
        The exit code: 1 if a part of the story is missing, or a service did not start.

    Raises:
        SystemExit: A signal came.
    """
    parser = argparse.ArgumentParser(prog="python -m examples.cortex", description=__doc__)
    parser.add_argument("--serve", action="store_true", help="serve until Ctrl-C instead, and print the URLs")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to drive them (default 5)")
    parser.add_argument("--port", type=int, default=0, help="the port of the API (default: a free one)")
    arguments = parser.parse_args()
    _end_on_signals()
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    with tempfile.TemporaryDirectory(prefix="cortex-") as directory:
        try:
            if arguments.serve:
                return serve(Path(directory), arguments.port, console)
            return demonstrate(Path(directory), arguments.port, arguments.seconds, console)
        except ServiceError as error:
            console.print(str(error), style="red", markup=False, soft_wrap=True)
            return 1


def _end_on_signals() -> None:
    """Have the services ended and the directory removed, however we are told to end."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        numbers.append(signal.SIGHUP)

    def end(number: int, _frame: object) -> None:
        for one in numbers:
            signal.signal(one, signal.SIG_IGN)  # nor is that interrupted
        sys.exit(128 + number)

    for one in numbers:
        signal.signal(one, end)


def demonstrate(directory: Path, port: int, seconds: float, console: Console) -> int:
    """Drive the services for some seconds and print the story of one request."""
    with Processes(directory, port=port) as processes:
        console.print(
            "three processes: " + ", ".join(f"{NAMES[name]} {url[7:]}" for name, url in processes.urls.items())
        )
        driver = Driver(processes.urls, processes.passwords)
        story, lasted = asyncio.run(_drive(processes, driver, seconds, console))
    return conclude(story, lasted, console)


def conclude(story: Story, seconds: float, console: Console) -> int:
    """Print a story and name what is missing; the exit code is 1 if anything is."""
    show(story, seconds, console)
    absent = missing(story)
    for name in absent:
        console.print(f"missing: {name}", style="bold red", markup=False)
    return 1 if absent else 0


async def _drive(processes: Processes, driver: Driver, seconds: float, console: Console) -> tuple[Story, float]:
    with progress_bar(console) as progress:
        lasted = await driver.run(seconds, progress)
    return await tell(processes, driver), lasted


def serve(directory: Path, port: int, console: Console) -> int:
    """Serve until Ctrl-C, the logs on this terminal; a service that ends is started again."""
    with suppress(SystemExit), Processes(directory, port=port, captured=False) as processes:
        url, user = processes.urls["api"], next(iter(processes.passwords))
        for name, address in processes.urls.items():
            console.print(f"{NAMES[name]:18}{address}  {address}/metrics  {address}/health")
        console.print(f"{'OpenAPI':18}{url}/docs")
        credentials = f'{{"username": "{user}", "password": "{processes.passwords[user]}"}}'
        for command in (
            f"TOKEN=$({CURL} -d '{credentials}' {url}/api/auth/login | cut -d '\"' -f 4)",
            f'{CURL} -H "Authorization: Bearer $TOKEN" -d \'{{"name": "Engine"}}\' {url}/api/workspaces',
        ):
            console.print(command, soft_wrap=True, markup=False)
        console.print("Ctrl-C ends it")
        while True:
            ended = processes.wait()
            console.print(f"{NAMES[ended]} has ended, and is started again", style="red")
            time.sleep(RESTARTED_AFTER)
            processes.restart(ended)
    return 0


if __name__ == "__main__":
    sys.exit(main())
