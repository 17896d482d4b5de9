"""Prints a story so that one look tells what happened."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from examples.cortex.samples import Samples
from examples.cortex.story import PARTS, Story, bare_id, missing, moment

BAR_WIDTH = 44

LEVELS = {"DEBUG": "dim", "INFO": "green", "WARN": "yellow", "ERROR": "bold red", "FATAL": "bold red"}

STORY_METRICS = (
    ("http_requests_total", "requests"),
    ("http_request_duration_seconds_sum", "s until the last byte"),
    ("http_time_to_first_byte_seconds_sum", "s until the first byte"),
    ("http_background_duration_seconds_sum", "s of background task"),
    ("http_request_body_bytes_total", "bytes in"),
    ("http_response_body_bytes_total", "bytes out"),
)


def show(story: Story, seconds: float, console: Console) -> None:
    """Print everything.

    Args:
        story: What to print.
        seconds: How long the traffic lasted.
        console: Where to print it.
    """
    console.print(Rule("[bold]all routes: traffic, errors, latency"))
    console.print(_signals(story.after, seconds), _streams(story.after))
    console.print(Rule(f"[bold]one request: {story.told.correlation_id}"))
    console.print(
        Panel(_request(story), title="request", title_align="left"),
        Panel(_log(story), title=f"log: {len(story.lines)} of {len(story.records)} lines", title_align="left"),
        Panel(_trace(story), title=f"trace: {len(story.trace)} spans", title_align="left"),
        Panel(_metrics(story), title="metrics: what it added", title_align="left"),
        Panel(_health(story), title="health", title_align="left"),
        Panel(_failure(story), title="meanwhile, another request failed", title_align="left"),
    )
    console.print(_verdict(story))


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def _signals(samples: Samples, seconds: float) -> Table:
    numbers = ("requests", "per s", "5xx", "p50 ms", "p95 ms")
    table = _table("method", "route", *numbers, right=numbers)
    counts: dict[tuple[str, str], float] = {}
    for labels, value in samples.select("http_requests_total"):
        key = (labels["method"], labels["endpoint"])
        counts[key] = counts.get(key, 0.0) + value
    for (method, endpoint), count in sorted(counts.items(), key=lambda item: -item[1]):
        pair = {"method": method, "endpoint": endpoint}
        errors = sum(
            value for labels, value in samples.select("http_requests_total", **pair) if labels["status_code"] >= "500"
        )
        table.add_row(
            method,
            Text(endpoint),
            f"{count:.0f}",
            f"{count / seconds:.1f}",
            Text(f"{errors / count:.0%}", style="red") if errors else "",
            *(_milliseconds(samples.quantile(part, "http_request_duration_seconds", **pair)) for part in (0.5, 0.95)),
        )
    return table


def _milliseconds(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{seconds * 1000:.1f}"


def _streams(samples: Samples) -> Text:
    total = samples.total
    return Text(
        f"\nevent streams {total('sse_connection_duration_seconds_count'):.0f}"
        f" · WebSocket sessions {total('websocket_connections_total'):.0f}"
        f" · WebSocket messages {total('websocket_messages_total'):.0f}"
        f" · clients that left {total('http_client_disconnects_total'):.0f}"
        f" · memory {total('process_memory_usage_bytes') / 1e6:.0f} MB\n",
        style="dim",
    )


def _request(story: Story) -> RenderableType:
    told, line = story.told, story.canonical
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("answer", f"[bold green]{told.status}[/]" if told.status < 400 else f"[bold red]{told.status}[/]")
    table.add_row("route", Text(f"POST {line.get('route', '?')}"))
    table.add_row("path", Text(told.path, style="dim"))
    table.add_row("correlation ID", f"{told.correlation_id} sent, {told.echoed_id} received")
    table.add_row("trace ID", told.trace_id)
    table.add_row("user", str(line.get("user_id", "?")))
    agreed = " · ".join(f"{signal} {value:.2f} ms" for signal, value in story.durations().items())
    table.add_row("duration", agreed or "?")
    return table


def _log(story: Story) -> RenderableType:
    table = _table("+ms", "level", "component", right=("+ms",))
    table.add_column("message", ratio=1, no_wrap=True, overflow="ellipsis")
    table.expand = True
    start = moment(story.lines[0]["timestamp"]) if story.lines else 0.0
    # SQLAlchemy says behind every statement that it was cached: so much detail would bury the rest.
    shown = [line for line in story.lines if not line["message"].startswith("[")]
    for line in shown:
        library = not line["component"].startswith(("examples.", "asgi_obs"))
        table.add_row(
            f"{(moment(line['timestamp']) - start) * 1000:.0f}",
            Text(line["level"], style=LEVELS.get(line["level"], "")),
            Text(line["component"], style="dim" if library else "cyan"),
            Text(" ".join(line["message"].split()), style="dim" if library else ""),
        )
    if len(shown) < len(story.lines):
        table.add_row("", "", "", Text(f"and {len(story.lines) - len(shown)} on cached statements", style="dim"))
    return table


def _trace(story: Story) -> RenderableType:
    table = _table("span", "", "+ms", "ms", right=("+ms", "ms"))
    times = [(moment(span["start_time"]), moment(span["end_time"])) for span in story.trace]
    start = min((begin for begin, _ in times), default=0.0)
    whole = max((end for _, end in times), default=0.0) - start or 1.0
    for span, (begin, end) in zip(story.trace, times, strict=True):
        inner = bare_id(span["parent_id"]) != story.told.parent_id
        left = int((begin - start) / whole * (BAR_WIDTH - 1))
        width = max(1, round((end - begin) / whole * BAR_WIDTH))
        table.add_row(
            Text(("  └ " if inner else "") + span["name"].replace("/api/workspaces/{workspace_id}", "…")),
            Text(" " * left + "━" * width, style="cyan" if inner else "bold green"),
            f"{(begin - start) * 1000:.1f}",
            f"{(end - begin) * 1000:.1f}",
        )
    return table


def _metrics(story: Story) -> RenderableType:
    table = _table("metric", "added", "", right=("added",))
    for name, unit in STORY_METRICS:
        value = story.delta(name)
        table.add_row(name, f"+{value:.6g}", Text(unit, style="dim"))
    return table


def _health(story: Story) -> RenderableType:
    table = _table("path", "answer", "status", "checks")
    for path, answer in story.health.items():
        checks: dict[str, Any] = answer.body.get("checks") or {}
        table.add_row(
            path,
            f"[{'green' if answer.status == 200 else 'red'}]{answer.status}[/]",
            str(answer.body.get("status", "?")),
            Text(", ".join(f"{name} {check['status']} in {check['duration_ms']} ms" for name, check in checks.items())),
        )
    return table


def _failure(story: Story) -> RenderableType:
    line = story.failure
    if not line:
        return Text("not a trace of it", style="red")
    error = line["error"]
    head = Text.assemble(
        (f"{line['level']} ", "bold red"),
        f"{line['method']} {line['route']} → {line['status_code']} in {line['duration_ms']} ms\n",
        (f"{error['type']}: {error['message']}\n", "red"),
        (f"correlation ID {line['correlation_id']}, user {line.get('user_id')}", "dim"),
    )
    return Group(head, Text(_chain(error.get("stack", "")), style="dim"))


def _chain(stack: str) -> str:
    """A stack trace without the frames of libraries, and without our directory."""
    lines: list[str] = []
    own = False
    for line in stack.splitlines():
        if line.lstrip().startswith("File "):
            own = "examples" in line
        if (own or not line.startswith(" ")) and set(line) - set(" ^~") and not line.startswith("Traceback"):
            lines.append(line.replace(_here(), ""))
    return "\n".join(lines)


def _here() -> str:
    return __file__.rpartition("examples")[0]


def _verdict(story: Story) -> RenderableType:
    absent = set(missing(story))
    marks = Table.grid(padding=(0, 2))
    names = list(PARTS)
    half = (len(names) + 1) // 2
    for row in range(half):
        marks.add_row(*(_mark(name, name in absent) for name in names[row::half]))
    title = f"{len(PARTS) - len(absent)} of {len(PARTS)} parts are there"
    return Panel(marks, title=title, title_align="left", border_style="red" if absent else "green")


def _mark(name: str, absent: bool) -> Text:
    return Text(f"✗ {name}", style="bold red") if absent else Text.assemble(("✓ ", "green"), name)
