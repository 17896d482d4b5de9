"""Prints a story so that one look tells what happened."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from examples.cortex.demo.layout import COLOURS, label, panel, short, table_of
from examples.cortex.demo.parts import DEPENDENCIES, PARTS, missing
from examples.cortex.demo.story import HEALTH_PATHS, STREAM_ROUTE, Evidence, Span, Story, moment
from examples.cortex.demo.traffic import by_route, by_service

BAR_WIDTH = 24

_HERE = __file__.rpartition("examples")[0]

LEVELS = {"DEBUG": "dim", "INFO": "green", "WARN": "yellow", "ERROR": "bold red", "FATAL": "bold red"}

DURATIONS = ("http_request_duration_seconds_sum", "db_query_duration_seconds_sum", "ux_response_time_seconds_sum")
"""Of the histograms, those that are shown."""

DIGITS = 6
"""More of them are what is left of other requests when their floats are subtracted."""

OF_THE_PROCESS = ("process_", "python_", "event_loop_", "log_", "health_", "asgi_obs_", "sse_")
"""How the names of metrics begin that are not of the request."""

MCP_ROUTE = "/mcp"
"""The route of MCP's own requests: several for each call, and the call has lines itself."""

_OF_MCP = re.compile(r"(POST|GET|DELETE)( /mcp)?|MCP send .*|initialize|tools/list|notifications/.*")
"""The names of spans that are MCP's way to call a tool."""


def show(story: Story, seconds: float, console: Console) -> None:
    """Print everything.

    Args:
        story: What to print.
        seconds: How long the traffic lasted.
        console: Where to print it.
    """
    console.print(Rule(f"[bold]{seconds:.1f} s of traffic"))
    console.print(by_service(story, seconds), Text(), by_route(story.api.after, seconds))
    console.print(Rule(f"[bold]one request: {story.told.correlation_id}"))
    records = sum(len(one.records) for one in story.services.values())
    spans = sum(len(one.spans) for one in story.services.values())
    console.print(
        panel("request", _request(story)),
        panel(f"log: {len(story.lines)} of {records} lines, by the correlation ID", _log(story)),
        panel(f"trace: {len(story.trace)} of {spans} spans, by the trace ID", _trace(story)),
        panel("metrics: what it added", _metrics(story)),
        panel("health", _health(story)),
        panel("meanwhile, another request failed", _failure(story)),
        _verdict(story),
    )


def _request(story: Story) -> RenderableType:
    told, line = story.told, story.canonical
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("route", Text(f"POST {line.get('route', '?')}"))
    table.add_row("answer", Text(str(told.status), style="bold green" if told.status < 400 else "bold red"))
    table.add_row("reply", Text(told.reply or "none"))
    table.add_row("correlation ID", f"{told.correlation_id} sent, {told.echoed_id} received")
    table.add_row("trace ID, user", f"{told.trace_id}, {line.get('user_id', '?')}")
    agreed = ", ".join(f"{signal} {value:.2f} ms" for signal, value in story.durations().items())
    table.add_row("duration", agreed or "?")
    return table


def _log(story: Story) -> RenderableType:
    table = table_of("+ms", "service", "level", "component", right=("+ms",))
    table.add_column("message", ratio=1, no_wrap=True, overflow="ellipsis")
    table.expand = True
    start = moment(story.lines[0].record["timestamp"]) if story.lines else 0.0
    others: Counter[str] = Counter()
    for line in story.lines:
        record, component = line.record, line.record["component"]
        if component.startswith(("examples.", "asgi_obs")) and record.get("route") != MCP_ROUTE:
            table.add_row(
                f"{(moment(record['timestamp']) - start) * 1000:.0f}",
                label(line.service),
                Text(record["level"], style=LEVELS.get(record["level"], "")),
                Text(component.removeprefix("examples.cortex."), style="dim"),
                Text(_message(record)),
            )
        else:
            others[component.partition(".")[0]] += 1
    rest = ", ".join(f"{count} of {library}" for library, count in sorted(others.items()))
    return Group(table, Text(f"and {rest}", style="dim")) if others else table


def _message(record: dict[str, Any]) -> str:
    """What it says; with the route instead of the path."""
    message = str(record["message"])
    return short(message.replace(record.get("path") or "\n", record.get("route") or "?"))


def _trace(story: Story) -> RenderableType:
    table = table_of("service", "span", "", "+ms", "ms", right=("+ms", "ms"))
    start = min((span.start for span in story.trace), default=0.0)
    whole = max((span.end for span in story.trace), default=0.0) - start or 1.0
    shown = _telling(story.trace)
    for span in shown:
        table.add_row(
            label(span.service),
            Text("  " * len(list(span.ancestors)) + short(span.name)),
            _bar(span, start, whole),
            f"{(span.start - start) * 1000:.1f}",
            f"{(span.end - span.start) * 1000:.1f}",
        )
    rest = Text(f"and {len(story.trace) - len(shown)} of MCP's sessions", style="dim")
    return Group(table, rest) if len(shown) < len(story.trace) else table


def _telling(spans: list[Span]) -> list[Span]:
    """Those that are not, with all inside of them, of MCP's own."""
    telling: set[int] = set()
    for span in spans:
        if not _OF_MCP.fullmatch(span.name):
            telling.update(id(one) for one in (span, *span.ancestors))
    return [span for span in spans if id(span) in telling]


def _bar(span: Span, start: float, whole: float) -> Text:
    left = int((span.start - start) / whole * (BAR_WIDTH - 1))
    width = max(1, round((span.end - span.start) / whole * BAR_WIDTH))
    return Text(" " * left + "━" * width, style=COLOURS[span.service])


def _metrics(story: Story) -> RenderableType:
    table = table_of("metric", *story.services, right=tuple(story.services))
    added = {service: dict(_added(evidence)) for service, evidence in story.services.items()}
    for name in sorted({name for moved in added.values() for name in moved}):
        table.add_row(name, *(_amount(name, moved.get(name, 0.0)) for moved in added.values()))
    return table


def _added(evidence: Evidence) -> Iterator[tuple[str, float]]:
    """What the request added to counters and durations, over all labels."""
    for name in {name for name, _, _ in evidence.after.entries if name.endswith("_total") or name in DURATIONS}:
        # The stream on which the reply came is a request of its own.
        added = evidence.delta(name) - evidence.delta(name, endpoint=STREAM_ROUTE)
        if round(added, DIGITS) and not name.startswith(OF_THE_PROCESS):
            yield name, added


def _amount(name: str, value: float) -> str:
    if not value:
        return ""
    return f"{value * 1000:+.2f} ms" if name in DURATIONS else f"{value:+.0f}"


def _health(story: Story) -> RenderableType:
    checks = list(dict.fromkeys(name for names in DEPENDENCIES.values() for name in names))
    table = table_of("service", *HEALTH_PATHS, *checks)
    for service, evidence in story.services.items():
        answers = (
            Text(f"{answer.status} {answer.body.get('status', '?')}", style="green" if answer.status == 200 else "red")
            for answer in evidence.health.values()
        )
        results = evidence.health["/health"].body.get("checks", {}) if evidence.health else {}
        table.add_row(label(service), *answers, *(_result(results.get(name)) for name in checks))
    return table


def _result(result: dict[str, Any] | None) -> str:
    return f"{result['status']} {result['duration_ms']:.1f} ms" if result else ""


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
    """The exceptions of a stack trace and our own frames, without our directory."""
    return "\n".join(line.replace(_HERE, "") for line in stack.splitlines() if _is_told(line))


def _is_told(line: str) -> bool:
    if line.startswith("  File "):
        return "examples" in line
    return bool(line) and not line.startswith((" ", "Traceback"))


def _verdict(story: Story) -> RenderableType:
    """How many parts of every kind there are; those that are not are named behind it."""
    absent = set(missing(story))
    kinds: dict[str, list[bool]] = {}
    for name in PARTS:
        kinds.setdefault(name.partition(":")[0], []).append(name not in absent)
    marks = Table.grid(padding=(0, 4))
    cells = [_mark(kind, sum(there), len(there)) for kind, there in kinds.items()]
    for row in range(0, len(cells), 4):
        marks.add_row(*cells[row : row + 4])
    title = f"{len(PARTS) - len(absent)} of {len(PARTS)} parts are there"
    return panel(title, marks, "red" if absent else "green")


def _mark(kind: str, there: int, count: int) -> Text:
    return Text(f"{'✓' if there == count else '✗'} {kind}: {there}", style="green" if there == count else "bold red")
